"""The iterators of `imap` and `imap_unordered`, as `multiprocessing.pool` has them.

They have `next(timeout)`, and leaving one early cancels nothing. A wait that was too long loses no result: the next
one asks for the same.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Generic, Self, TypeVar

from unisono import _native
from unisono.errors import ResultTimeout

__all__ = ["ImapIterator", "in_chunks", "in_order", "in_order_of_ends", "of_results"]

T = TypeVar("T")


class ImapIterator(Generic[T]):
    """Results as they are asked for; made by `imap` and `imap_unordered`.

    >>> with unisono.Pool(1) as pool:
    ...     results = pool.imap(abs, [-1, -2])
    ...     results.next(timeout=60), next(results)
    (1, 2)
    """

    def __init__(self, take: Callable[[float | None], T]) -> None:
        # Given how many seconds it may wait; raises StopIteration at the end, and ResultTimeout.
        self._take = take

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._take(None)

    def next(self, timeout: float | None = None) -> T:
        """The next result, waited for so many seconds at most.

        Raises:
            StopIteration: There are no more.
            ResultTimeout: It is not there in time; also a `multiprocessing.TimeoutError`.
        """
        return self._take(timeout)


def of_results(results: _native.Results, left: Iterator[T]) -> ImapIterator[T]:
    """Those of a `map` of the engine, and then what `left` has, which may raise."""

    def take(timeout: float | None) -> T:
        if results.is_empty:
            return next(left)
        try:
            value: T = results.next(timeout)
        except TimeoutError as error:
            # What a task raises has its remote frames as the cause.
            if timeout is not None and type(error) is TimeoutError and error.__cause__ is None:
                raise _late(timeout) from None
            raise
        return value

    return ImapIterator(take)


def in_order(futures: Iterable[Future[T]], left: Iterator[T]) -> ImapIterator[T]:
    """The results of futures in their order, and then what `left` has, which may raise."""
    waiting = deque(futures)

    def take(timeout: float | None) -> T:
        if not waiting:
            return next(left)
        try:
            waiting[0].exception(timeout)
        except TimeoutError:
            # Whatever a future raises here is about the wait: what its task has raised is returned.
            if timeout is not None and not waiting[0].done():
                raise _late(timeout) from None
        return waiting.popleft().result()

    return ImapIterator(take)


def in_order_of_ends(futures: Iterable[Future[T]], left: Iterator[T]) -> ImapIterator[T]:
    """The results of futures as they end, and then what `left` has, which may raise."""
    ended: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
    count = 0
    for future in futures:
        future.add_done_callback(ended.put)
        count += 1

    def take(timeout: float | None) -> T:
        nonlocal count
        if not count:
            return next(left)
        try:
            future = ended.get(timeout=None if timeout is None else max(timeout, 0.0))
        except queue.Empty:
            raise _late(timeout or 0.0) from None
        count -= 1
        return future.result()

    return ImapIterator(take)


def in_chunks(parts: ImapIterator[list[T]]) -> ImapIterator[T]:
    """The results in lists of results."""
    ready: list[T] = []

    def take(timeout: float | None) -> T:
        until = None if timeout is None else time.monotonic() + timeout
        while not ready:
            ready.extend(reversed(parts.next(None if until is None else until - time.monotonic())))
        return ready.pop()

    return ImapIterator(take)


def _late(timeout: float) -> ResultTimeout:
    return ResultTimeout(f"the result is not there after {timeout:g} s")
