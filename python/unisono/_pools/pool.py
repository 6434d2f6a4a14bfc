"""`multiprocessing.Pool` on the workers of `unisono.ProcessPool`: code written for it runs when its import is changed.

A `ProcessPool` is an executor first, and in some places it cannot be a `multiprocessing.Pool` as well: `map` returns an
iterator or a list, `with` waits for the tasks or ends them, a closed pool raises one error or another.
`ProcessPool` does what executors do there; `Pool` does what `multiprocessing.Pool` does. Everything else is the same.

Leaves out what the standard one has in private.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar

from unisono import _native
from unisono._keywords import told
from unisono._pools.futures import Future
from unisono._pools.process_pool import ProcessPool, call_in_chunks

T = TypeVar("T")
P = ParamSpec("P")


class Pool(ProcessPool):
    """Stands in for `multiprocessing.Pool`.

    >>> with unisono.Pool(2) as pool:
    ...     pool.map(abs, [-1, -2])
    [1, 2]

    Args:
        processes: How many processes at most; `None` means one per core that this process may use.
        initializer: Called in each worker before its first task, with `initargs`. If it raises, the pool is broken.
        initargs: See there.
        maxtasksperchild: After so many tasks a worker is replaced.
        context: Its start method is how workers start: `forkserver` (also when it has not chosen one), `spawn`, `fork`.
        log_forwarding: Have what workers log handled by the loggers of this program.
        read_only_views: As with `ProcessPool`.

    Raises:
        UsageError: An option is not what it should be.
    """

    @told("Pool")
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        log_forwarding: bool = True,
        read_only_views: bool = False,
    ) -> None:
        super().__init__(
            processes=processes,
            initializer=initializer,
            initargs=initargs,
            maxtasksperchild=maxtasksperchild,
            context=context,
            log_forwarding=log_forwarding,
            read_only_views=read_only_views,
        )
        self._is_running = True

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `ProcessPool.submit`.

        Raises:
            ValueError: The pool was closed.
        """
        self._refuse_if_closed()
        return super().submit(fn, *args, **kwargs)

    def map(  # type: ignore[override]
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]:
        """All results of `func(item)`, in order. All items are done before it raises what one of them has raised."""
        return self._all(func, zip(iterable), chunksize)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """All results of `func(*arguments)`, in order, as `map` does it."""
        return self._all(func, map(tuple, iterable), chunksize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `ProcessPool.shutdown`."""
        self._is_running = False
        super().shutdown(wait, cancel_futures=cancel_futures)

    def join(self) -> None:
        """Wait until a closed pool is done.

        Raises:
            ValueError: It was not closed.
        """
        if self._is_running:
            raise ValueError("Pool is still running")
        super().join()

    def terminate(self) -> None:
        """Cancel everything and kill the workers, now."""
        self._is_running = False
        super().terminate()

    def __enter__(self) -> Self:
        self._refuse_if_closed()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self.terminate()
        return False

    def _refuse_if_closed(self) -> None:
        if not self._is_running:
            raise ValueError("Pool not running")

    def _all(self, func: Callable[..., T], calls: Iterable[tuple[Any, ...]], chunksize: int | None) -> list[T]:
        self._refuse_if_closed()
        func = self._sendable(func)
        if chunksize is None or chunksize == 1:
            return _drain(self._ready().map(func, calls))
        parts: list[list[T]] = _drain(call_in_chunks(self._ready(), func, calls, chunksize))
        return [value for part in parts for value in part]


def _drain(results: _native.Results) -> list[Any]:
    values = []
    failure: Exception | None = None
    try:
        while not results.is_empty:
            try:
                values.append(results.next())
            except Exception as error:
                failure = failure or error
    finally:
        # Ctrl-C leaves in the middle.
        results.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            # The traceback holds this frame, and it must not hold the traceback.
            failure = None
    return values
