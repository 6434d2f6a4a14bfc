"""Worker processes as a `concurrent.futures.Executor` that survives them.

A task runs in a process of its own choosing, one at a time per process. Its end is told whatever happens: it returns,
raises, is past its timeout, is cancelled, or its worker dies; and no other task is lost by that. Nothing outlives the
program that made the pool.

Also does what `multiprocessing.Pool` does, by the same names. Leaves out queues, managers and shared objects.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, cast

from unisono import _native, _pickling
from unisono._standard_names import StandardNames, translate
from unisono._worker import main_of_caller
from unisono.async_result import AsyncResult
from unisono.errors import UsageError
from unisono.futures import Future

T = TypeVar("T")
P = ParamSpec("P")

Method = Literal["zygote", "spawn"]


class ProcessPool(concurrent.futures.Executor):
    """Runs functions in worker processes.

    >>> with unisono.ProcessPool(2) as pool:
    ...     list(pool.map(pow, [2, 3], [10, 4]))
    [1024, 81]

    Args:
        workers: How many processes at most; `None` means one per core that this process may use. They start when
            there is something for them to do.
        start_method: `zygote` (which `None` means) forks them from a fresh interpreter with one thread, in a
            millisecond; `spawn` makes each a fresh interpreter.
        preload: Modules that the zygote imports before it forks.
        initializer: Called in each worker before its first task, with `initargs`. If it raises, the pool is broken.
        initargs: See there.
        max_tasks_per_child: After so many tasks a worker is replaced.
        max_pending: How many tasks may wait or run before `submit` waits.
        memory_limit: How many bytes of address space a worker may have (RLIMIT_AS); beyond it, it gets `MemoryError`.
        nice: By how much workers are nicer than we are (nice(2)).
        name: What workers are called in `ps`, with a number.
        **standard: The same by the names of the standard pools: `max_workers` and `processes` are `workers`,
            `maxtasksperchild` is `max_tasks_per_child`, and the start method of `mp_context` or `context` is
            `start_method` (`forkserver` means `zygote`).

    Raises:
        UsageError: An option is not what it should be, is given by two names, or is a context that forks the program.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        start_method: Method | None = None,
        preload: Sequence[str] = (),
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        max_tasks_per_child: int | None = None,
        max_pending: int | None = None,
        memory_limit: int | None = None,
        nice: int = 0,
        name: str = "unisono",
        **standard: Unpack[StandardNames],
    ) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(
                "a worker runs the main program to find something in it, and a pool made there would do so again: "
                'put what the program does below `if __name__ == "__main__":`'
            )
        own = {"workers": workers, "max_tasks_per_child": max_tasks_per_child, "start_method": start_method}
        options = translate(own, standard)
        method = options["start_method"] or "zygote"
        max_tasks_per_child = options["max_tasks_per_child"]
        count = len(os.sched_getaffinity(0)) if options["workers"] is None else options["workers"]
        if count < 1:
            # As `ProcessPoolExecutor` puts it, since its callers may look at the words.
            raise UsageError(f"max_workers must be greater than 0, not {count}")
        for what, number in (
            ("max_tasks_per_child", max_tasks_per_child),
            ("max_pending", max_pending),
            ("memory_limit", memory_limit),
        ):
            if number is not None and number < 1:
                raise UsageError(f"{what} must be at least 1, not {number}")
        if method not in ("zygote", "spawn"):
            raise UsageError(f"start_method is `zygote` or `spawn`, not {method!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        settings = {
            "argv": sys.argv,
            # Proxies of a manager ask for it, as in the processes of multiprocessing.
            "authkey": bytes(multiprocessing.current_process().authkey),
            "environment": dict(os.environ),
            "folder": str(_folder()),
            "initializer": None if initializer is None else _pickling.pickled((initializer, tuple(initargs))),
            "main": main_of_caller(),
            "memory_limit": memory_limit,
            "name": name,
            "nice": nice,
            "path": sys.path,
        }
        self._engine = _native.PoolEngine(
            _nursery(tuple(preload)),
            Future,
            (_in_memory(pickle.dumps(settings)), _standard_error()),
            workers=count,
            method=ord(method[0]),
            tasks_per_worker=max_tasks_per_child,
            pending=max_pending,
        )
        # What others look at to share work out, though it is not theirs: dask, for one.
        self._max_workers = count
        self._server = threading.Thread(target=_serve, args=(self._engine,), name=f"{name}-pool", daemon=True)
        self._server.start()
        self._finalizer = weakref.finalize(self, _abandon, self._engine)
        self._finalizer.atexit = False
        _POOLS[self._engine] = self._server

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn(*args, **kwargs)` called in a worker.

        What cannot be pickled fails the future with `UnpicklableError`, and nothing else. Waits while there are
        `max_pending` tasks.

        Raises:
            RuntimeError: The pool was shut down, or belongs to the process that we were forked from.
            PoolBroken: It cannot have workers.

        >>> with unisono.ProcessPool(1) as pool:
        ...     pool.submit(divmod, 7, 2).result()
        (3, 1)
        """
        return cast(Future[T], self._engine.submit(fn, args, kwargs))

    def task(self, *, timeout: float | None = None, retries: int = 0) -> TaskOptions:
        """Options for tasks, on which `submit` and `map` are called.

        Args:
            timeout: How many seconds an attempt may run; past it, its worker is killed and it fails with `TaskTimeout`,
                which is a `TimeoutError`.
            retries: How often a task that raised, was past its time, or lost its worker is run again. One that has
                killed three workers is not.

        >>> with unisono.ProcessPool(1) as pool:
        ...     pool.task(timeout=30, retries=2).submit(len, "abc").result()
        3
        """
        return TaskOptions(self._engine, timeout, retries)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Like the builtin `map`, in the workers; results come in order.

        Args:
            fn: What is called.
            *iterables: Where its arguments come from, one of each per call.
            timeout: How many seconds after this call the last result is waited for.
            chunksize: How many calls are one task. Calls travel together in any case, so it is hardly ever needed.
            buffersize: How many calls are submitted before their results are taken; `None` submits all at once.

        Raises:
            TimeoutError: From the iterator, when a result is not there in time.
        """
        return _map(self._engine, fn, zip(*iterables), timeout, chunksize, buffersize)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """Call `func(*arguments)` for each of them; all results, in order."""
        return list(_map(self._engine, func, map(tuple, iterable), None, chunksize or 1, None))

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> Iterator[T]:
        """The results of `func(item)` for each item, in order, as they come."""
        if chunksize > 1:
            chunks = _Input((func, chunk) for chunk in _chunks(zip(iterable), chunksize))
            parts = _map(self._engine, _pickling.run_chunk, chunks, None, 1, None)
            return chunks.then_raise(_flat(parts))
        calls = _Input(zip(iterable))
        return calls.then_raise(_map(self._engine, func, calls, None, chunksize, None))

    def imap_unordered(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> Iterator[T]:
        """The same, in the order in which they are done."""
        if chunksize > 1:
            chunks = _Input((func, chunk) for chunk in _chunks(zip(iterable), chunksize))
            parts: Iterator[list[T]] = _as_done([self.submit(_pickling.run_chunk, *chunk) for chunk in chunks])
            return chunks.then_raise(_flat(parts))
        calls = _Input(zip(iterable))
        return calls.then_raise(_as_done([self.submit(func, *call) for call in calls]))

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

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """All results of `func(*arguments)`, later."""
        chunks = _chunks(map(tuple, iterable), chunksize or 1)
        futures = [self.submit(_pickling.run_chunk, func, chunk) for chunk in chunks]
        return AsyncResult(futures, lambda parts: [*itertools.chain.from_iterable(parts)], callback, error_callback)

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

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; workers end when all are done.

        Args:
            wait: Wait for that.
            cancel_futures: Cancel what has not begun.
        """
        self._engine.close(cancel=cancel_futures, kill=False)
        if wait:
            self._engine.wait_closed()
            self._forget()

    def close(self) -> None:
        """Take no more tasks, as `multiprocessing.Pool` has it."""
        self.shutdown(wait=False)

    def join(self) -> None:
        """Wait until a closed pool is done."""
        self._engine.wait_closed()
        self._forget()

    def terminate(self) -> None:
        """Cancel everything and kill the workers, now."""
        self._engine.close(cancel=True, kill=True)
        self._engine.wait_closed()
        self._forget()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        # Ctrl-C and `sys.exit` do not wait for tasks.
        if kind is not None and not issubclass(kind, Exception):
            self.terminate()
        else:
            self.shutdown(wait=True)
        return False

    def _forget(self) -> None:
        _POOLS.pop(self._engine, None)
        self._engine.stop()
        # A callback that shuts its own pool down is run by that very thread.
        if threading.current_thread() is not self._server:
            self._server.join(_LONGEST_JOIN)


class TaskOptions:
    """How tasks are run; made by `ProcessPool.task`."""

    def __init__(self, engine: _native.PoolEngine, timeout: float | None, retries: int) -> None:
        self._engine = engine
        self._timeout = timeout
        self._retries = retries

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `ProcessPool.submit`."""
        return cast(Future[T], self._engine.submit(fn, args, kwargs, self._timeout, self._retries))

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], buffersize: int | None = None) -> Iterator[T]:
        """As `ProcessPool.map`; the timeout is each task's own."""
        return _map(self._engine, fn, zip(*iterables), None, 1, buffersize, self._timeout, self._retries)


class _Input:
    """Calls until their iterable raises, which is told behind the results of those that came before."""

    def __init__(self, calls: Iterable[tuple[Any, ...]]) -> None:
        self._calls = calls
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._calls
        except Exception as error:
            self._error = error

    def then_raise(self, results: Iterator[T]) -> Iterator[T]:
        yield from results
        if self._error is not None:
            raise self._error


def _map(
    engine: _native.PoolEngine,
    fn: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
    task_timeout: float | None = None,
    retries: int = 0,
) -> Iterator[Any]:
    if chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    until = None if timeout is None else time.monotonic() + timeout
    if chunksize > 1:
        results = call_in_chunks(engine, fn, calls, chunksize, buffersize, task_timeout, retries)
        return _flat(_taken(results, until, buffersize is not None))
    results = engine.map(fn, calls, ahead=buffersize, timeout=task_timeout, retries=retries)
    return _taken(results, until, buffersize is not None)


def call_in_chunks(
    engine: _native.PoolEngine,
    fn: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    chunksize: int,
    ahead: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
) -> _native.Results:
    """Submit `chunksize` calls at a time as one task each; its result is the list of theirs."""
    chunks = ((fn, chunk) for chunk in _chunks(calls, chunksize))
    return engine.map(_pickling.run_chunk, chunks, ahead=ahead, timeout=timeout, retries=retries)


def _taken(results: _native.Results, until: float | None, pulls: bool) -> Iterator[Any]:
    try:
        while True:
            left = None if until is None else until - time.monotonic()
            if results.is_empty:
                return
            # Handed out of a list, so that no result is kept here while its taker works.
            values = [results.next(left)]
            if pulls:
                results.pull()
            yield values.pop()
    finally:
        results.cancel()


def _as_done(futures: Iterable[Future[T]]) -> Iterator[T]:
    done = concurrent.futures.as_completed(cast(Iterable[concurrent.futures.Future[T]], futures))
    # Futures hold their results, so only those that are still to come are kept.
    del futures
    for future in done:
        values = [future.result()]
        del future
        yield values.pop()


def _flat(parts: Iterator[list[T]]) -> Iterator[T]:
    for part in parts:
        part.reverse()
        while part:
            yield part.pop()


def _chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    iterator = iter(calls)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _serve(engine: _native.PoolEngine) -> None:
    """What the thread in the background does: everything is in `serve`, but for the callbacks."""
    while (futures := engine.serve()) is not None:
        # Taken out one by one, so that no future is kept while there is nothing to do.
        while futures:
            cast(Future[Any], futures.pop(0))._announce()


def _abandon(engine: _native.PoolEngine) -> None:
    engine.close(cancel=False, kill=False)
    _POOLS.pop(engine, None)


def _at_exit() -> None:
    """A program that ends does not wait for its pools."""
    for engine, server in list(_POOLS.items()):
        engine.close(cancel=True, kill=True)
        engine.wait_closed(_LONGEST_JOIN)
        engine.stop()
        server.join(_LONGEST_JOIN)


def _nursery(preload: tuple[str, ...]) -> _native.Nursery:
    """The zygote for these modules, started when it is first needed and kept for the next pool."""
    key = (os.getpid(), preload, tuple(sys.path))
    with _NURSERIES_LOCK:
        if key not in _NURSERIES:
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; from unisono._zygote import main; "
                f"main({list(preload)!r}, {os.getpid()})"
            )
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            _NURSERIES[key] = _native.Nursery([sys.executable, *flags, "-c", code])
        return _NURSERIES[key]


def _in_memory(data: bytes) -> int:
    """A descriptor from which workers read `data`; it is the caller's to close."""
    descriptor = os.memfd_create("unisono-settings", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    return descriptor


def _standard_error() -> int:
    """A descriptor to which what workers say is passed on; it is the caller's to close."""
    try:
        return os.dup(2)
    except OSError:
        # A program without one, such as a service of an old kind, has nowhere to show it.
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 (a folder that is gone has no path)
    except FileNotFoundError:
        return "/"


_POOLS: dict[_native.PoolEngine, threading.Thread] = {}
_NURSERIES: dict[tuple[Any, ...], _native.Nursery] = {}
_NURSERIES_LOCK = threading.Lock()
#: How many seconds the end of a program waits for a thread that may be in a caller's callback.
_LONGEST_JOIN = 5.0

atexit.register(_at_exit)
