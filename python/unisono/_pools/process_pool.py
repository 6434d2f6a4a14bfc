"""Worker processes as a `concurrent.futures.Executor` that survives them.

A task runs in a process of its own choosing, one at a time per process. Its end is told whatever happens: it returns,
raises, is past its timeout, is cancelled, or its worker dies; and no other task is lost by that. Nothing outlives the
program that made the pool.

Also does what `multiprocessing.Pool` does, by the same names. Leaves out queues, managers and shared objects.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import multiprocessing
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, cast

from unisono import _forks, _native, _shutdown
from unisono._batches.display import tell
from unisono._batches.logs import level_of
from unisono._functions.callables import plain
from unisono._hooks import refuse_hooks
from unisono._keywords import told
from unisono._pools import forking as _forking
from unisono._pools import imap as _imap
from unisono._pools import log_records as _log_records
from unisono._pools import logs as _logs
from unisono._pools import pickling as _pickling
from unisono._pools import spawning as _spawning
from unisono._pools import worker as _worker
from unisono._pools.async_result import AsyncResult
from unisono._pools.futures import Future, log_ending
from unisono._pools.pool_calls import PoolCalls
from unisono._pools.standard_names import StandardNames, translate
from unisono._wording import counted
from unisono.errors import PoolBroken, UsageError

T = TypeVar("T")
P = ParamSpec("P")

Method = Literal["zygote", "spawn", "fork"]


class _Terms(TypedDict):
    """How a task is run."""

    timeout: float | None
    retries: int
    key: object | None


_PLAIN: _Terms = {"timeout": None, "retries": 0, "key": None}


class ProcessPool(PoolCalls):
    """Runs functions in worker processes.

    >>> with unisono.ProcessPool(2) as pool:
    ...     list(pool.map(pow, [2, 3], [10, 4]))
    [1024, 81]

    Args:
        workers: How many processes at most; `None` means one per core that this process may use. They start when
            there is something for them to do.
        mp_context: As for `ProcessPoolExecutor`: what `multiprocessing.get_context` answers, whose start method it is.
        start_method: `zygote` (which `None` means) forks them from a fresh interpreter with one thread, in a
            millisecond; `spawn` makes each a fresh interpreter; `fork` forks them from this program as it is when the
            first task is submitted, with a `RuntimeWarning` when it has threads then.
        preload: Names of modules that the zygote imports before it forks. If one cannot be imported, the pool is
            broken. Workers of `fork` have what the program has imported; for them it is not looked at.
        initializer: Called in each worker before its first task, with `initargs`. If it raises, the pool is broken.
        initargs: See there. Queues, locks and shared values of `multiprocessing` may be among them.
        max_tasks_per_child: After so many tasks a worker is replaced.
        max_pending: How many tasks may wait or run before `submit` waits.
        memory_limit: How many bytes of address space a worker may have (RLIMIT_AS); beyond it, it gets `MemoryError`.
        per_key: How many tasks with the same key may run at once; see `task`.
        log_forwarding: Have what workers log handled by the loggers of this program.
        nice: By how much workers are nicer than we are (nice(2)).
        name: What workers are called in `ps`, with a number.
        read_only_views: Have arrays of 64 KiB and more arrive, in workers and here, as read-only views of memory that
            both processes share. Otherwise they are private copies that can be written to.
        **standard: The same by the names of the standard pools: `max_workers` and `processes` are `workers`,
            `maxtasksperchild` is `max_tasks_per_child`, and the start method of `context` or `mp_context` is
            `start_method` (`forkserver` means `zygote`).

    Raises:
        UsageError: An option is not what it should be, or is given by two names.
        UnpicklableError: The initializer or its arguments cannot be handed to a worker.
    """

    @told("ProcessPool", StandardNames)
    def __init__(
        self,
        workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        start_method: Method | None = None,
        preload: Sequence[str] = (),
        max_tasks_per_child: int | None = None,
        max_pending: int | None = None,
        memory_limit: int | None = None,
        per_key: int = 1,
        log_forwarding: bool = True,
        nice: int = 0,
        name: str = "unisono",
        read_only_views: bool = False,
        **standard: Unpack[StandardNames],
    ) -> None:
        _refuse_in_unguarded_module()
        own = {"workers": workers, "max_tasks_per_child": max_tasks_per_child, "start_method": start_method}
        options, said_as = translate(own, {**standard, "mp_context": mp_context})
        method = options["start_method"] or "zygote"
        max_tasks_per_child = options["max_tasks_per_child"]
        count = len(os.sched_getaffinity(0)) if options["workers"] is None else options["workers"]
        if _native.whole(said_as.get("workers", "workers"), count, least=_LEAST) < 1:
            # As `ProcessPoolExecutor` puts it, since its callers may look at the words.
            raise UsageError(f"{said_as['workers']} must be greater than 0, not {count}")
        for what, number in (
            (said_as.get("max_tasks_per_child", ""), max_tasks_per_child),
            ("max_pending", max_pending),
            ("memory_limit", memory_limit),
            ("per_key", per_key),
        ):
            if number is not None:
                _native.whole(what, number)
        _native.whole("nice", nice, least=-20, most=19)
        if not isinstance(name, str):
            raise UsageError(f"name must be text, not {name!r}")
        if isinstance(preload, (str, bytes)):
            # Its letters would be looked for, and found missing in silence.
            raise UsageError(f"preload must be names of modules, not one text: give [{preload!r}]")
        for module in preload:
            if not isinstance(module, str):
                raise UsageError(f"preload must be names of modules, as text, not {module!r}")
        if not isinstance(read_only_views, bool):
            raise UsageError(f"read_only_views must be True or False, not {read_only_views!r}")
        if method not in ("zygote", "spawn", "fork"):
            raise UsageError(f"start_method is `zygote`, `spawn` or `fork`, not {method!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        plain(initializer, "initializer")
        first = None if initializer is None else (initializer, tuple(initargs))
        settings: dict[str, Any] = {
            "initializer": first,
            "levels": _log_records.levels() if log_forwarding else None,
            "memory_limit": memory_limit,
            "name": name,
            "nice": nice,
            "read_only_views": read_only_views,
        }
        self._program_fork = _forking.Fork(settings) if method == "fork" else None
        self._logs = _log_records.Collector(name) if log_forwarding else None
        bounds = {
            "workers": count,
            "method": ord(method[0]),
            "tasks_per_worker": max_tasks_per_child,
            "pending": max_pending,
            "per_key": per_key,
            "read_only_views": read_only_views,
        }
        given = _given(settings, self._program_fork is not None, self._logs)
        self._zygote_handle = (
            _spawning.zygote_for(tuple(preload)) if self._program_fork is None else self._program_fork.zygote
        )
        try:
            self._engine = _native.PoolEngine(self._zygote_handle, Future, given, bounds)
        except BaseException:
            self._let_go_of_zygote()
            raise
        self._engine.log_from(level_of(_logs.LOGGER))
        # What others look at to share work out, though it is not theirs: dask, for one.
        self._max_workers = count
        self._method = method
        self._server = threading.Thread(
            target=_serve,
            args=(name, self._engine, self._program_fork, self._zygote_handle, self._logs, first),
            name=f"{name}-pool",
            daemon=True,
        )
        self._finalizer = weakref.finalize(self, _abandon, self._engine)
        self._finalizer.atexit = False
        # A program may fork itself only as long as we have no thread of our own.
        if self._program_fork is None:
            self._begin_to_serve()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        refuse_hooks(cls, _HOOKS, "the workers of this pool are not made by it; see start_method and initializer")

    def __repr__(self) -> str:
        shown = f"workers={self._max_workers} start_method={self._method} open={self._engine.open}"
        return f"<{type(self).__qualname__} {shown}>"

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
        return cast(Future[T], self._ready().submit(self._sendable(fn), args, kwargs))

    def task(
        self, *, timeout: float | timedelta | None = None, retries: int = 0, key: object | None = None
    ) -> TaskOptions:
        """Options for tasks, on which `submit` and `map` are called.

        Tasks with the same key begin in the order in which they came, and never do more of them run at once than the
        pool's `per_key`: one, unless it was made otherwise. Those that wait for their key keep no other task waiting.

        Args:
            timeout: How many seconds an attempt may run; past it, its worker is killed and it fails with `TaskTimeout`,
                which is a `TimeoutError`.
            retries: How often a task that raised, was past its time, or lost its worker is run again. One that has
                killed three workers is not.
            key: What tasks share that only so many may use at once, such as a host or a file. Keys are the same when
                their text is. A function is called with the arguments of each call and answers its key.

        >>> with unisono.ProcessPool(1) as pool:
        ...     pool.task(timeout=30, retries=2).submit(len, "abc").result()
        3
        """
        bound = None if timeout is None else _native.seconds("timeout", timeout, above_zero=True, no_limit="None")
        _native.whole("retries", retries, least=0, most=2**32 - 1)
        if callable(key):
            plain(key, "key")
        return TaskOptions(self, {"timeout": bound, "retries": retries, "key": key})

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
        return _map(self._ready(), self._sendable(fn), zip(*iterables), timeout, chunksize, buffersize)

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> _imap.ImapIterator[T]:
        """The results of `func(item)` for each item, in order, as they come.

        The iterator has `next(timeout)` as well. Leaving it early cancels nothing.
        """
        func = self._sendable(func)
        if _native.whole("chunksize", chunksize) > 1:
            chunks = _Input((func, chunk) for chunk in _chunks(zip(iterable), chunksize))
            parts = self._ready().map(_pickling.run_chunk, chunks)
            return _imap.in_chunks(_imap.of_results(parts, chunks.raised()))
        calls = _Input(zip(iterable))
        return _imap.of_results(self._ready().map(func, calls), calls.raised())

    def imap_unordered(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> _imap.ImapIterator[T]:
        """The same, in the order in which they are done."""
        func = self._sendable(func)
        if _native.whole("chunksize", chunksize) > 1:
            chunks = _Input((func, chunk) for chunk in _chunks(zip(iterable), chunksize))
            parts = [self.submit(_pickling.run_chunk, *chunk) for chunk in chunks]
            return _imap.in_chunks(_imap.in_order_of_ends(parts, chunks.raised()))
        calls = _Input(zip(iterable))
        return _imap.in_order_of_ends([self.submit(func, *call) for call in calls], calls.raised())

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """All results of `func(*arguments)`, later."""
        func = self._sendable(func)
        chunks = _chunks(map(tuple, iterable), chunksize or 1)
        futures = [self.submit(_pickling.run_chunk, func, chunk) for chunk in chunks]
        return AsyncResult(futures, lambda parts: [*itertools.chain.from_iterable(parts)], callback, error_callback)

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
        # A callback that shuts its own pool down is run by that very thread, which waits for the handlers of records; a
        # fork that never was has none.
        is_of_pool = threading.current_thread() is self._server or (self._logs is not None and self._logs.is_asking())
        if self._server.ident is not None and not is_of_pool:
            self._server.join(_LONGEST_JOIN)

    def _ready(self) -> _native.PoolEngine:
        """What takes calls. The first one forks the program, where that is how workers start."""
        if self._program_fork is not None and self._program_fork.happens():
            self._begin_to_serve()
        return self._engine

    def _begin_to_serve(self) -> None:
        # Before the thread, which takes it out again at its end.
        _POOLS[self._engine] = self._server
        try:
            if self._logs is not None:
                self._logs.start()
            self._server.start()
        except RuntimeError as error:
            _POOLS.pop(self._engine, None)
            # What has been started already would have nothing to stop it.
            why = f"a thread of the pool cannot be started: {error}"
            self._engine.break_off(why)
            self._engine.close(cancel=True, kill=True)
            if self._logs is not None:
                self._logs.stop(_LONGEST_JOIN)
            self._let_go_of_zygote()
            raise PoolBroken(why) from error

    def _let_go_of_zygote(self) -> None:
        if self._program_fork is not None:
            self._program_fork.zygote.stop()
        else:
            _spawning.let_go(self._zygote_handle)

    def _sendable(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function if self._program_fork is None else _forking.by_code(function)


class TaskOptions:
    """How tasks are run; made by `ProcessPool.task`."""

    def __repr__(self) -> str:
        return f"<TaskOptions {' '.join(f'{name}={value!r}' for name, value in self._terms.items())} of {self._pool!r}>"

    def __init__(self, pool: ProcessPool, terms: _Terms) -> None:
        self._pool = pool
        self._terms = terms

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `ProcessPool.submit`."""
        return cast(
            Future[T],
            self._pool._ready().submit(self._pool._sendable(fn), args, kwargs, **self._terms),
        )

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], buffersize: int | None = None) -> Iterator[T]:
        """As `ProcessPool.map`; the timeout is each task's own."""
        calls = zip(*iterables)
        function = self._pool._sendable(fn)
        return _map(self._pool._ready(), function, calls, None, 1, buffersize, self._terms)


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

    def raised(self) -> Iterator[Any]:
        """Nothing, or what it has raised, once."""
        if self._error is not None:
            raise self._error
        yield from ()


def _map(
    engine: _native.PoolEngine,
    fn: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
    terms: _Terms = _PLAIN,
) -> Iterator[Any]:
    if chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    until = None if timeout is None else time.monotonic() + timeout
    if chunksize > 1:
        results = call_in_chunks(engine, fn, calls, chunksize, buffersize)
        return _flat(_taken(results, until, buffersize is not None))
    results = engine.map(fn, calls, ahead=buffersize, **terms)
    return _taken(results, until, buffersize is not None)


def call_in_chunks(
    engine: _native.PoolEngine,
    fn: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    chunksize: int,
    ahead: int | None = None,
) -> _native.Results:
    """Submit `chunksize` calls at a time as one task each; its result is the list of theirs."""
    chunks = ((fn, chunk) for chunk in _chunks(calls, chunksize))
    return engine.map(_pickling.run_chunk, chunks, ahead=ahead)


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


def _flat(parts: Iterator[list[T]]) -> Iterator[T]:
    for part in parts:
        part.reverse()
        while part:
            yield part.pop()


def _chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    iterator = iter(calls)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _serve(
    name: str,
    engine: _native.PoolEngine,
    program_fork: _forking.Fork | None,
    zygote: _native.ZygoteHandle,
    logs: _log_records.Collector | None,
    first: object,
) -> None:
    """What the thread in the background does: everything is in `serve`, but for the callbacks.

    The initializer with its arguments, `first`, is only kept: a lock of multiprocessing, for one, is there for new
    workers as long as its first owner has it.
    """
    while (futures := engine.serve()) is not None:
        _logs.hand_on(name, engine)
        # Taken out one by one, so that no future is kept while there is nothing to do.
        while futures:
            _announce(cast(Future[Any], futures.pop(0)))
    if program_fork is not None:
        zygote.stop()
    else:
        _spawning.let_go(zygote)
    if logs is not None:
        logs.stop(_LONGEST_JOIN)
    _POOLS.pop(engine, None)


def _announce(future: Future[Any]) -> None:
    try:
        future._announce()
    except BaseException:
        # Whatever a callback ends, it is not the thread that serves the pool.
        log_ending(future)


def _given(settings: dict[str, Any], is_fork: bool, logs: _log_records.Collector | None) -> tuple[int, int, list[int]]:
    """What the workers inherit; the descriptors are the caller's."""
    kept: list[int] = []
    try:
        if not is_fork:
            if (first := settings["initializer"]) is not None:
                settings["initializer"], handed = _spawning.handed_over(first)
                kept += handed
            settings |= _spawning.of_program()
        if logs is not None:
            kept.append(logs.descriptor())
        if not is_fork:
            kept.append(_spawning.folder())
        inherited = [*kept]
        # What is in the fork needs no telling.
        kept.append(_spawning.in_memory(b"" if is_fork else pickle.dumps(settings)))
        return kept[-1], _spawning.standard_error(), inherited
    except BaseException:
        for descriptor in kept:
            os.close(descriptor)
        raise


def _refuse_in_unguarded_module() -> None:
    """Refuse to make a pool where a worker looks for a function: its own workers would come here again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "a worker runs the main program to find something in it, and a pool made there would do so again: "
            'put what the program does below `if __name__ == "__main__":`'
        )
    if _worker.is_reading():
        raise RuntimeError(
            "a worker or a job imports a module to find a function or a class in it, and a pool or job made there "
            "would import it again: make it in a function of the module, and not while it is imported"
        )


def refuse_half_imported(function: Callable[..., Any]) -> None:
    """Refuse to wait, while a module is imported, for calls of a function that is defined in it.

    Another thread pickles it by its name, for which it waits until the module is there.
    """
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__module__", None)
    module = sys.modules.get(name or "")
    if name is None or not getattr(getattr(module, "__spec__", None), "_initializing", False):
        return
    if importlib._bootstrap._get_module_lock(name).owner == threading.get_ident():  # type: ignore[attr-defined]
        raise RuntimeError(
            f"the module `{name}` is still being imported, and workers would import it again to find "
            f"`{getattr(function, '__qualname__', function)}`: make the pool or batch in a function of the module, and "
            "not while it is imported"
        )


def _abandon(engine: _native.PoolEngine) -> None:
    engine.close(cancel=False, kill=False)
    _POOLS.pop(engine, None)


@_shutdown.stops
def _at_exit() -> None:
    """A program that ends does not wait for its pools, and says what that costs."""
    for engine, server in list(_POOLS.items()):
        unfinished = engine.open
        engine.close(cancel=True, kill=True)
        if unfinished:
            tell(
                f"unisono: {counted(unfinished, 'task')} of a process pool had not ended when the program did, and "
                f"ended with it. `with` or `shutdown()` wait for them.\n"
            )
        engine.wait_closed(_LONGEST_JOIN)
        engine.stop()
        server.join(_LONGEST_JOIN)


@_forks.leaves
def _forget_in_child() -> None:
    """The pools are the parent's. They are kept, since dropping them would touch what others held then."""
    _LEFT_BEHIND.append(dict(_POOLS))
    _POOLS.clear()


_POOLS: dict[_native.PoolEngine, threading.Thread] = {}
_LEFT_BEHIND: list[dict[_native.PoolEngine, threading.Thread]] = []
#: How many seconds the end of a program waits for a thread that may be in a caller's callback.
_LONGEST_JOIN = 5.0
_LEAST = -(2**63)
#: Of the standard classes, in private or for their processes, and overridden by some.
_HOOKS = ("Process", "_spawn_process", "_adjust_process_count", "_start_executor_manager_thread")
