"""Threads for work that blocks: an executor that grows on demand, says what it is doing, and never fills up unseen.

A task that is submitted goes to a thread that waits; if none does, a thread is started, up to `max_workers`; else it
stands in line (`unisono.Queue`). A thread that has waited for `idle_timeout` seconds ends.

`ThreadPool` is a `concurrent.futures.ThreadPoolExecutor` by name alone: `loop.set_default_executor` insists on an
instance of that class, so it is a subclass, and everything in it is overridden. Its threads are in
`thread_workers.py`.

What it leaves out: a thread cannot be killed. Work that may hang for ever belongs into a `ProcessPool` with a timeout.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from unisono import _native
from unisono._functions.callables import plain
from unisono._hooks import refuse_hooks
from unisono._keywords import told
from unisono._pools import logs
from unisono._pools.futures import ThreadFuture
from unisono._pools.pool_calls import PoolCalls
from unisono._pools.thread_workers import BusyTask, Task, ThreadWorkers
from unisono._queue.queue import Queue
from unisono.errors import UsageError

__all__ = ["BusyTask", "ThreadPool"]

T = TypeVar("T")
P = ParamSpec("P")


class ThreadPool(PoolCalls, ThreadPoolExecutor):
    """An executor of threads that can be looked into.

    Has the calls of `multiprocessing.pool.ThreadPool` as well: `apply`, `map_async`, `imap` and their like, `close`,
    `join`, `terminate`. `map`, `with` and the order of the arguments here are those of executors.

    Args:
        max_workers: How many threads at most; `None` means the number of cores plus 4, at most 32.
        thread_name_prefix: What the names of its threads begin with.
        initializer: Called at the start of each thread, with `initargs`. When it fails, the pool is broken.
        initargs: See there.
        max_pending: How many tasks may wait for a thread; `submit` waits for room. On the thread of a running event
            loop it raises `QueueFull` instead, since waiting would stop the loop. A task of the pool itself may always
            submit.
        idle_timeout: After how many seconds without work a thread ends; `None` for never.
        warn_after: After how many seconds in which all threads were busy and work waited a warning is logged, naming
            what runs; `None` for never.
        processes: What `multiprocessing.pool.ThreadPool` calls `max_workers`.

    Raises:
        UsageError: An option is not what it should be.

    A task runs in a copy of the context (`contextvars`) in which it was submitted. At the end of the program what was
    submitted is finished, as with the standard executors; if that takes longer than 5 seconds, it is said on standard
    error which functions the program waits for, and where they stand.

    >>> with ThreadPool(4) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024

    As the default executor of a loop it is what `asyncio.to_thread` uses:

    >>> async def main():
    ...     asyncio.get_running_loop().set_default_executor(ThreadPool(100, "blocking"))
    ...     return await asyncio.to_thread(sum, [1, 2])
    >>> asyncio.run(main())
    3
    """

    _numbers = itertools.count()

    @told("ThreadPool")
    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_pending: int | None = None,
        idle_timeout: float | timedelta | None = 60.0,
        warn_after: float | timedelta | None = 10.0,
        processes: int | None = None,
    ) -> None:
        # Not `super()`: its state would be a second one.
        if max_workers is not None and processes is not None:
            raise UsageError("processes and max_workers are the same option; give one of them")
        # Messages name it as the caller did.
        said_as = "max_workers" if processes is None else "processes"
        max_workers = processes if max_workers is None else max_workers
        if max_workers is None:
            max_workers = min(32, (os.cpu_count() or 1) + 4)
        max_workers = _native.whole(said_as, max_workers, least=_LEAST)
        if max_workers <= 0:
            # As `ThreadPoolExecutor` puts it, since its callers may look at the words.
            raise UsageError(f"{said_as} must be greater than 0, not {max_workers}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        plain(initializer, "initializer")
        if max_pending is not None:
            _native.whole("max_pending", max_pending)
        idle = None if idle_timeout is None else _native.seconds("idle_timeout", idle_timeout, no_limit="None")
        warned = None if warn_after is None else _native.seconds("warn_after", warn_after, no_limit="None")
        prefix = thread_name_prefix or f"ThreadPool-{next(self._numbers)}"
        start = functools.partial(initializer, *initargs) if initializer is not None else None
        self._workers = ThreadWorkers(prefix, max_workers, start, max_pending, idle, warned)
        # When nothing holds the pool any more, its threads finish what is in line and end.
        weakref.finalize(self, self._workers.queue.close).atexit = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        refuse_hooks(cls, _HOOKS, "the threads of this pool are not made by it")

    def __repr__(self) -> str:
        workers = self._workers
        closed = "" if workers.refusal is None else " closed"
        return (
            f"<{type(self).__qualname__} max_workers={workers.max_workers} threads={len(workers.threads)} "
            f"busy={len(workers.running)} pending={self.pending}{closed}>"
        )

    @property
    def max_workers(self) -> int:
        """How many threads it has at most."""
        return self._workers.max_workers

    @property
    def pending(self) -> int:
        """How many tasks wait for a thread."""
        return len(self._workers.queue)

    # What others look at, though it is not theirs: monitors of web frameworks, and the tests of the standard library.

    @property
    def _max_workers(self) -> int:  # type: ignore[override]
        return self._workers.max_workers

    @property
    def _threads(self) -> set[threading.Thread]:  # type: ignore[override]
        return set(self._workers.threads)

    @property
    def _work_queue(self) -> Queue[Task]:  # type: ignore[override]
        return self._workers.queue

    @property
    def _broken(self) -> str | bool:  # type: ignore[override]
        return self._workers.is_broken

    def busy(self) -> list[BusyTask]:
        """What runs now, the longest first.

        >>> with ThreadPool(1) as pool:
        ...     release = threading.Event()
        ...     task = pool.submit(release.wait, 60)
        ...     while not task.running():
        ...         os.sched_yield()
        ...     [busy] = pool.busy()
        ...     release.set()
        >>> busy.function, busy.item
        ('Event.wait', 60)
        """
        return self._workers.busy()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` in a thread.

        Raises:
            RuntimeError: The pool was shut down, or the program ends, or this is the child of a fork.
            BrokenThreadPool: An initializer has failed.
            QueueFull: `max_pending` tasks wait, and this is the thread of an event loop.
        """
        workers = self._workers
        has_place = workers.places is not None and workers.take_place(workers.places)
        task: ThreadFuture[T] = ThreadFuture(fn, args, kwargs or None, copy_context(), has_place)
        with workers.lock:
            if workers.refusal is not None:
                if has_place:
                    workers.give_place()
                raise workers.refusal()
            why = None if workers.queue._offer(task) else workers.not_awaited()
        # Without the lock, so that a handler may use the pool from whichever thread.
        if why is not None:
            goes_on = "the thread pool %s could not start a thread, and goes on with those that it has: %s"
            logs.LOGGER.warning(goes_on, workers.prefix, why, extra=logs.members(workers.prefix))
        return task

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The results of `fn` for each item, in the order of the items.

        Args:
            fn: Called with one item of each of `iterables`.
            iterables: Read at once, or as far as `buffersize` allows.
            timeout: After how many seconds from the call a missing result raises `TimeoutError`.
            chunksize: Ignored, as by the standard executor: threads need no chunks.
            buffersize: How many tasks are submitted whose results were not taken yet; `None` for all.

        >>> with ThreadPool(2) as pool:
        ...     list(pool.map(abs, [-1, 2, -3], buffersize=2))
        [1, 2, 3]
        """
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        until = None if timeout is None else time.monotonic() + timeout
        rows = zip(*iterables)
        futures = deque(self.submit(fn, *row) for row in itertools.islice(rows, buffersize))
        # With everything submitted the pool may be let go of; else the results hold it until they are taken.
        return _results(None if buffersize is None else self, fn, rows, futures, until)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks.

        Args:
            wait: Return when everything that was submitted has ended.
            cancel_futures: Cancel what has not begun.
        """
        self._workers.close(cancel_futures)
        if wait:
            self._workers.join()


def _results(
    pool: ThreadPool | None, fn: Callable[..., T], rows: Iterator[Any], futures: deque[Future[T]], until: float | None
) -> Iterator[T]:
    """The results of a `map`; one more is submitted for each that is taken."""
    try:
        while futures:
            if pool is not None:
                futures.extend(pool.submit(fn, *row) for row in itertools.islice(rows, 1))
            # Not held by a name here: what the caller does with a result must not keep its future.
            yield _result(futures.popleft(), until)
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[T], until: float | None) -> T:
    try:
        return future.result(None if until is None else until - time.monotonic())
    except BaseException:
        future.cancel()
        # A traceback that holds this frame would hold the future, and that the exception.
        del future
        raise


# Of the standard class, in private, and overridden by some.
_HOOKS = ("_adjust_thread_count", "_initializer_failed")
_LEAST = -(2**63)
