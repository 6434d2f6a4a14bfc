"""What the pools of `multiprocessing` have beside an executor, in terms of `submit`.

As it stands it is that of threads, which need no chunks: a call is a task, whatever `chunksize` says. Processes have
chunks, and ends of their own. The items are read when a method is called, in the caller's thread, as far as there is
room.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from unisono._native import whole
from unisono._pools import imap as _imap
from unisono._pools.async_result import AsyncResult

__all__ = ["PoolCalls"]

T = TypeVar("T")


class PoolCalls(concurrent.futures.Executor):
    """Calls as `multiprocessing.Pool` and its `ThreadPool` have them."""

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> T:
        """The result of `func(*args, **kwds)`."""
        return self.submit(func, *args, **(kwds or {})).result()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[T]:
        """The result of `func(*args, **kwds)`, later."""
        return AsyncResult([self.submit(func, *args, **(kwds or {}))], lambda parts: parts[0], callback, error_callback)

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """All results of `func(item)`, later."""
        return self.starmap_async(func, zip(iterable), chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """All results of `func(*arguments)`, in order. All are done before it raises what one of them has raised."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """All results of `func(*arguments)`, later."""
        if chunksize is not None:
            whole("chunksize", chunksize)
        futures = [self.submit(func, *arguments) for arguments in iterable]
        return AsyncResult(futures, list, callback, error_callback)

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> _imap.ImapIterator[T]:
        """The results of `func(item)` for each item, in order, as they come."""
        whole("chunksize", chunksize)
        return _imap.in_order([self.submit(func, item) for item in iterable], _nothing())

    def imap_unordered(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> _imap.ImapIterator[T]:
        """The same, in the order in which they are done."""
        whole("chunksize", chunksize)
        return _imap.in_order_of_ends([self.submit(func, item) for item in iterable], _nothing())

    def close(self) -> None:
        """Take no more tasks, as `multiprocessing.Pool` has it."""
        self.shutdown(wait=False)

    def join(self) -> None:
        """Wait until all that was submitted is done, and take no more tasks."""
        self.shutdown(wait=True)

    def terminate(self) -> None:
        """Cancel what has not begun, and take no more tasks. What a thread is at cannot be ended."""
        self.shutdown(wait=False, cancel_futures=True)


def _nothing() -> Iterator[Any]:
    return iter(())
