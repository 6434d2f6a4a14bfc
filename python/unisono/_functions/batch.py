"""`batch` and `batch_all`: the program's own functions under the engine."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import os
import queue
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar, Unpack, overload

from unisono import _native, clusters
from unisono._batches.batch import Batch, BatchWork, give_up
from unisono._batches.display import Progress
from unisono._functions.callables import asked, is_coroutine_function, is_generator_function
from unisono._functions.callers import ExecutorCaller, Judge, LoopCaller, LoopThread
from unisono._functions.identity import encoded, fingerprint
from unisono._functions.retrying import predicate
from unisono._keywords import told
from unisono._native import FunctionOutcome
from unisono._options import FunctionOptions, Time
from unisono._pools.futures import Future as WorkersFuture
from unisono._pools.process_pool import ProcessPool, refuse_half_imported
from unisono._pools.thread_pool import ThreadPool
from unisono.errors import FunctionTimeout, RunError, UsageError

__all__ = ["awaiting", "batch", "batch_all", "starmap"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
NameT = TypeVar("NameT")
Items: TypeAlias = "Iterable[ItemT] | AsyncIterable[ItemT] | queue.Queue[ItemT] | asyncio.Queue[ItemT]"


@overload
def batch(
    function: Callable[[ItemT], Coroutine[Any, Any, ResultT]],
    items: Items[ItemT],
    *,
    progress: Progress = False,
    **options: Unpack[FunctionOptions],
) -> Batch[FunctionOutcome[ResultT]]: ...
@overload
def batch(
    function: Callable[[ItemT], ResultT],
    items: Items[ItemT],
    *,
    executor: object = None,
    progress: Progress = False,
    **options: Unpack[FunctionOptions],
) -> Batch[FunctionOutcome[ResultT]]: ...
@told("batch", FunctionOptions)
def batch(
    function: Callable[[Any], Any],
    items: Items[Any],
    *,
    executor: object = None,
    progress: Progress = False,
    **options: Unpack[FunctionOptions],
) -> Batch[FunctionOutcome[Any]]:
    """Call a function for each of many items; one outcome per item, as each is done.

    A call that raises is an outcome, not an exception: one bad item never hides the rest. Items are pulled lazily, so a
    generator of a million takes no memory.

    Args:
        function: A coroutine function, whose calls are tasks on the caller's event loop; or a plain one.
        items: What it is called with, one at a time: any iterable, async iterable or queue. A queue ends the batch when
            it is closed and empty (`unisono.Queue`, or one of Python 3.13 that is shut down).
        executor: Where a plain function runs: `"threads"` (the default), `"processes"`, or any
            `concurrent.futures.Executor`; `"loop"` for a plain function that returns an awaitable. Beyond this machine:
            `"dask://host:port"`, `"ray://host:port"`, a `Client` of Dask, or what `unisono.clusters.connect` answers.
        progress: `True` shows a line on standard error; a callable gets the numbers.
        **options: As for `fetch`.

    Raises:
        UsageError: When an option is not what it should be.
        RunError: When a cluster cannot be reached; as the batch starts.

    >>> async def provision(host):
    ...     return f"{host} is up"
    >>> [outcome.result for outcome in batch(provision, ["web-1", "web-2"], limit=20, keep_order=True)]
    ['web-1 is up', 'web-2 is up']

    >>> batch(int, ["1", "x"], executor="threads", keep_order=True).run().outcomes
    [<FunctionOutcome 1 ok>, <FunctionOutcome x failed: ValueError: invalid literal for int() with base 10: 'x'>]
    """
    return _FunctionBatch(_Callee.of(function, executor), items, progress=progress, options=dict(options))


@overload
def starmap(
    function: Callable[..., Coroutine[Any, Any, ResultT]],
    items: Items[Iterable[Any]],
    *,
    progress: Progress = False,
    **options: Unpack[FunctionOptions],
) -> Batch[FunctionOutcome[ResultT]]: ...
@overload
def starmap(
    function: Callable[..., ResultT],
    items: Items[Iterable[Any]],
    *,
    executor: object = None,
    progress: Progress = False,
    **options: Unpack[FunctionOptions],
) -> Batch[FunctionOutcome[ResultT]]: ...
@told("starmap", FunctionOptions)
def starmap(
    function: Callable[..., Any],
    items: Items[Iterable[Any]],
    *,
    executor: object = None,
    progress: Progress = False,
    **options: Unpack[FunctionOptions],
) -> Batch[FunctionOutcome[Any]]:
    """As `batch`, with items that are the arguments of each call: `function(*item)`, as `itertools.starmap` has it.

    An item is the tuple as it was given, also for `key`, `id` and results. One that is a text, bytes or a mapping is an
    outcome that failed: its characters or keys were hardly meant.

    >>> [outcome.result for outcome in starmap(pow, [(2, 5), (3, 2)], keep_order=True)]
    [32, 9]
    """
    callee = _Callee.of(function, executor).with_arguments()
    return _FunctionBatch(callee, items, progress=progress, options=dict(options))


@told("batch_all", FunctionOptions)
def batch_all(
    awaitables: Iterable[Awaitable[ResultT]] | AsyncIterable[Awaitable[ResultT]],
    *,
    progress: Progress = False,
    **options: Unpack[FunctionOptions],
) -> Batch[FunctionOutcome[ResultT]]:
    """Await many coroutines that are there already, each once; one outcome each, as they are done.

    Since a coroutine can run only once, there are no retries.

    >>> async def double(number):
    ...     return 2 * number
    >>> [outcome.result for outcome in batch_all((double(n) for n in range(3)), keep_order=True)]
    [0, 2, 4]
    """
    if options.get("retries"):
        raise UsageError("a coroutine runs only once, so batch_all has no retries: give batch() the function")
    return _FunctionBatch(
        _Callee("loop", _as_coroutine, "awaitable"), awaitables, progress=progress, options=dict(options)
    )


def awaiting(
    given: Mapping[NameT, Awaitable[Any]],
    names: Iterable[NameT] | AsyncIterable[NameT],
    called: str,
    *,
    deadline: Time | None = None,
) -> Batch[FunctionOutcome[Any]]:
    """A batch that awaits all of these side by side, each when its name comes; the names are its items."""
    callee = _Callee("loop", lambda name: _as_coroutine(given[name]), called)
    return _FunctionBatch(callee, names, progress=False, options={"limit": max(1, len(given)), "deadline": deadline})


@dataclass(frozen=True)
class _Callee:
    """What is called, and where: `loop`, `threads`, `processes`, `dask`, `ray` or `elsewhere`."""

    place: str
    function: Callable[[Any], Any]
    name: str
    executor: Executor | None = None
    # What names a cluster that is still to be joined.
    cluster: object = None
    # The program's own function, where another one calls it.
    given: Callable[..., Any] | None = None

    @classmethod
    def of(cls, function: Callable[[Any], Any], executor: object) -> _Callee:
        if not callable(function):
            raise UsageError(f"what is called for each item must be a function, not {type(function).__name__}")
        name = _name_of(function)
        if is_generator_function(function):
            raise UsageError(
                f"`{name}` is a generator function, and a call of one runs nothing: give a function that takes what it "
                f"yields, such as `lambda item: list({name}(item))`, or a coroutine function with an `async for` in it"
            )
        is_coroutine = is_coroutine_function(function)
        if is_coroutine and executor not in (None, "loop"):
            raise UsageError(f"`{name}` is a coroutine function, which runs on an event loop: leave executor= out")
        if is_coroutine:
            return cls("loop", function, name)
        if executor == "loop":
            return cls("loop", functools.partial(_called_as_coroutine, function), name)
        if executor is None:
            return cls("threads", function, name)
        if isinstance(executor, str) and executor in ("threads", "processes"):
            return cls(executor, function, name)
        engine = clusters.engine_of(executor)
        if engine is not None:
            if isinstance(executor, Executor):
                return cls(engine, function, name, executor)
            return cls(engine, function, name, cluster=executor)
        if isinstance(executor, str):
            given = _native.redacted(executor)
            raise UsageError(f'executor: "{given}" is none of "threads", "processes" and "loop", and no cluster')
        if not isinstance(executor, Executor):
            raise UsageError(f"executor: expected a concurrent.futures.Executor, not {type(executor).__name__}")
        places = {ProcessPool: "processes", ThreadPoolExecutor: "threads"}
        place = next((place for kind, place in places.items() if isinstance(executor, kind)), "elsewhere")
        return cls(place, function, name, executor)

    def with_arguments(self) -> _Callee:
        """The same, called with each item's members as its arguments."""
        if self.place == "loop" and _calls_at_once(self.function):
            (function,) = self.function.args  # type: ignore[attr-defined]
            starred = functools.partial(_called_as_coroutine, functools.partial(_called_with, function))
        else:
            starred = functools.partial(_called_with, self.function)
        return replace(self, function=starred, given=self.function)


class _FunctionBatch(Batch[FunctionOutcome[Any]]):
    """A batch whose calls are made here, on the loop or by the executor that it was given."""

    def __init__(self, call: _Callee, items: Any, *, progress: Progress, options: dict[str, Any]) -> None:
        self._call = call
        limit = (os.cpu_count() or 1) if call.place == "processes" else 20
        if call.place not in ("dask", "ray"):
            options.setdefault("limit", limit)
        is_worth_another = predicate(options.pop("retry_on", None))
        for option in ("key", "id", "serialize"):
            if options.get(option) is not None:
                asked(options[option], option)
        away_on = options.pop("away_on", None)
        if away_on is not None and options.get("key") is None:
            raise UsageError("away_on needs key=, which says what is away")
        serialize = options.pop("serialize", None)
        has_results = options.get("out") is not None
        self._judge = Judge(
            is_worth_another=is_worth_another,
            serialize=functools.partial(_as_json, serialize) if has_results else None,
            died=(BrokenExecutor,),
            is_away=None if away_on is None else predicate(away_on, "away_on"),
        )
        start: Any = functools.partial(
            _native.functions,
            place=call.place,
            describe=functools.partial(_describe, call.name, options.get("id")) if has_results else None,
            retry_timeouts=_retries_timeouts(is_worth_another),
        )
        super().__init__(
            BatchWork(
                start=start,
                check=_native.check_functions,
                noun="items",
                counted=True,
                limit=limit,
                logger=_LOGGER,
                key="key",
                is_plain=True,
            ),
            items,
            progress=progress,
            options=options,
        )

    def _begin(self, *, keep_outcomes: bool) -> _native.Run[FunctionOutcome[Any]]:
        options = dict(self._options)
        executor = self._joined(options)
        run: _native.Run[FunctionOutcome[Any]]
        start: Any = self._work.start
        try:
            # Outcomes are what frees items, so they are taken whether they are wanted or not.
            run, queue = start(keep_outcomes=True, **options)
        except BaseException:
            if executor is not None and self._call.cluster is not None:
                executor.shutdown(cancel_futures=True)
            raise
        try:
            self._serve(run, queue, options["limit"], executor)
        except BaseException:
            # What was to serve it does not, so it ends at once; the next try is another run.
            queue.leave("nothing makes its calls")
            give_up(run, options)
            if executor is not None and self._call.cluster is not None:
                executor.shutdown(cancel_futures=True)
            raise
        return run

    def _joined(self, options: dict[str, Any]) -> Executor | None:
        """The executor that was given, or that of the cluster; what cannot work is said before anything runs."""
        call = self._call
        if call.place not in ("dask", "ray"):
            return call.executor
        cluster: Any = call.executor or clusters.connect(call.cluster, limit=options.get("limit"))
        try:
            cluster.prepare(call.function)
        except BaseException:
            if call.cluster is not None:
                cluster.shutdown(cancel_futures=True)
            raise
        has_times = any(options.get(time) not in (None, "none") for time in ("timeout", "deadline"))
        options.setdefault("limit", cluster.width * (1 if has_times else _CALLS_PER_THREAD))
        executor: Executor = cluster.calling_again() if options.get("idempotent") else cluster
        return executor

    def _serve(
        self, run: _native.Run[FunctionOutcome[Any]], queue: _native.CallQueue, limit: int, given: Executor | None
    ) -> None:
        call = self._call
        # What a cluster was sent may have begun there.
        is_known = self._returns is not None and call.place not in ("dask", "ray")
        unbegun = self._returns.take_back if self._returns is not None and is_known else _ignore
        served = (queue, call.function, self._items, self._judge, call.name, unbegun)
        if call.place == "loop":
            is_lazy = not _calls_at_once(call.function)
            stop = functools.partial(run.cancel, abort=True)
            if _is_on_loop() and self._is_async:
                self._caller = self._loop_caller = LoopCaller(*served, is_lazy=is_lazy, stop=stop)
            else:
                self._caller = self._loop_thread = LoopThread(*served, is_lazy=is_lazy, stop=stop)
            return
        if call.place == "processes":
            refuse_half_imported(call.given or call.function)
        executor = given or _pool(call.place, limit)
        stop_all = functools.partial(run.cancel, abort=True)
        try:
            self._caller = self._executor_caller = ExecutorCaller(
                *served,
                executor=executor,
                is_ours=call.executor is None,
                stop=_stop,
                stop_all=stop_all,
                withdraw=_withdraw,
            )
        except BaseException:
            if given is None:
                executor.shutdown(cancel_futures=True)
            raise

    # Whether it is iterated over on a loop, which is where its coroutines then belong.
    _is_async = False
    # What calls them there.
    _loop_caller: LoopCaller | None = None
    # What has an executor call them.
    _executor_caller: ExecutorCaller | None = None
    # What calls, wherever.
    _caller: LoopCaller | LoopThread | ExecutorCaller | None = None

    @property
    def _is_lost(self) -> bool:
        """Whether the loop of its calls has ended before it."""
        return self._loop_caller is not None and self._loop_caller.is_lost

    # Its end is not waited for any more.
    _is_left = False
    # What calls coroutines where there is no loop.
    _loop_thread: LoopThread | None = None

    def __aiter__(self) -> Any:
        self._is_async = True
        return super().__aiter__()

    def __anext__(self) -> Coroutine[Any, Any, FunctionOutcome[Any]]:
        self._is_async = True
        # Handed on and not awaited here: a coroutine around another costs each item one more.
        return super().__anext__()

    def __await__(self) -> Any:
        self._is_async = True
        return super().__await__()

    def _start(self, *, keep_outcomes: bool) -> _native.Run[FunctionOutcome[Any]]:
        return super()._start(keep_outcomes=True)

    def cancel(self, *, abort: bool = False) -> None:
        """Start nothing new, and let what runs finish; with `abort`, stop that as well.

        No call begins once this has returned: what an executor or a cluster was given and has not begun is taken back.
        """
        super().cancel(abort=abort)
        if self._caller is not None:
            self._caller.drain()

    def close(self) -> None:
        """Stop at once; further outcomes are dropped. May be called from any thread."""
        self._is_left = True
        super().close()
        if self._call.function is _as_coroutine and self._returns is None:
            for item in list(self._items.values()):
                _close_unbegun(item)

    def _wait(self, run: _native.Run[FunctionOutcome[Any]]) -> None:
        if self._loop_caller is not None and self._loop_caller.waits_for_this_thread():
            self._refuse_to_wait()
        super()._wait(run)

    async def _wait_on_loop(self, run: _native.Run[FunctionOutcome[Any]]) -> None:
        if (
            self._loop_caller is not None
            and not self._loop_caller.is_here
            and self._loop_caller.waits_for_this_thread()
        ):
            self._refuse_to_wait()
        await super()._wait_on_loop(run)

    def _refuse_to_wait(self) -> None:
        # The caller that has closed it waits for as long as the engine lets what cannot be stopped go on.
        if not self._is_left:
            raise UsageError(
                f"the calls of `{self._call.name}` are on an event loop that cannot run while this thread waits for "
                "them: iterate over the batch on that loop, or close it"
            )

    def _finish(self, run: _native.Run[FunctionOutcome[Any]]) -> None:
        super()._finish(run)
        self._tell_of_loss()

    async def _finish_on_loop(self, run: _native.Run[FunctionOutcome[Any]]) -> None:
        await super()._finish_on_loop(run)
        self._tell_of_loss()

    def _tell_of_loss(self) -> None:
        """What was left of the items was cancelled, though that was not asked for."""
        is_told, self._is_left = self._is_left or self._cancelled is not None, True
        refusal = self._executor_caller.take_refusal() if self._executor_caller is not None else None
        if refusal is not None and not is_told:
            raise refusal
        if self._is_lost and not is_told:
            raise RunError(
                f"the event loop that `{self._call.name}` was called on has ended before the batch had, so what was "
                "left was cancelled: iterate over the batch to its end, or close it, before the loop is closed"
            )

    def _ended(self, numbers: dict[str, Any]) -> None:
        if self._is_lost and (self._fed.is_lost or isinstance(self._fed.error, asyncio.CancelledError)):
            # Async items are taken on the same loop, and that is told once.
            self._fed.take_error()
        super()._ended(numbers)
        if self._loop_thread is not None and (raised := self._loop_thread.take_exit()) is not None:
            raise raised

    def _pass_over(self, run: _native.Run[FunctionOutcome[Any]]) -> None:
        self._take(run)
        self._ready.clear()

    def _take(self, run: _native.Run[FunctionOutcome[Any]]) -> bool:
        before = len(self._ready)
        has_more = super()._take(run)
        if self._call.function is _as_coroutine:
            for at in range(before, len(self._ready)):
                _close_unbegun(self._ready[at].item)
        return has_more


def _pool(place: str, limit: int) -> Executor:
    # The engine bounds what is submitted, also when its limit is raised later.
    return ProcessPool(limit) if place == "processes" else ThreadPool(_MOST_THREADS, "batch", warn_after=None)


def _ignore(number: int) -> None:
    """Items are not wanted back."""


def _stop(future: Future[Any]) -> None:
    if isinstance(future, WorkersFuture):
        future.cancel(running=True)
    else:
        future.cancel()


def _withdraw(futures: list[Future[Any]]) -> None:
    """Take back what has not begun."""
    sent = clusters.withdrawn(futures)
    for future in futures:
        if future not in sent:
            # Of what runs this is refused, by every executor.
            future.cancel()


def _close_unbegun(item: object) -> None:
    """What will never run would complain of that."""
    if inspect.iscoroutine(item) and inspect.getcoroutinestate(item) == inspect.CORO_CREATED:
        item.close()


def _calls_at_once(function: Callable[[Any], Any]) -> bool:
    return isinstance(function, functools.partial) and function.func is _called_as_coroutine


def _as_coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    return awaitable if inspect.iscoroutine(awaitable) else _awaited(awaitable)


def _called_as_coroutine(function: Callable[[Any], Awaitable[Any]], item: Any) -> Coroutine[Any, Any, Any]:
    return _as_coroutine(function(item))


def _called_with(function: Callable[..., Any], arguments: Iterable[Any]) -> Any:
    if isinstance(arguments, str | bytes | Mapping):
        raise TypeError(f"a {type(arguments).__name__} is no list of arguments: give tuples, as ({arguments!r:.40},)")
    return function(*arguments)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _name_of(function: Callable[[Any], Any]) -> str:
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    return str(getattr(inner, "__name__", type(inner).__name__))


def _retries_timeouts(is_worth_another: Callable[[BaseException], bool]) -> bool:
    try:
        return is_worth_another(FunctionTimeout("a call took longer than its timeout"))
    except Exception:
        # A predicate that looks for something that a timeout does not have.
        return False


def _as_json(serialize: Callable[[Any], Any] | None, result: Any) -> bytes:
    value = result if serialize is None else serialize(result)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _describe(name: str, identify: Callable[[Any], object] | None, item: Any) -> tuple[bytes, int]:
    """An item as JSON, and a number that tells it and what is done with it apart from others."""
    return _shown_as_json(item), fingerprint(name, encoded(item) if identify is None else _named(identify(item)))


def _named(value: object) -> bytes:
    """What `id=` has answered: as the text that it is shown as, unless the order in that is a matter of luck."""
    if isinstance(value, set | frozenset | dict | list | tuple):
        return b"id" + encoded(value)
    text = str(value)
    if not isinstance(value, str) and _ADDRESS.search(text):
        raise UsageError(
            f"id= answered a `{type(value).__qualname__}`, which is called otherwise in every run: answer a text"
        )
    return b"id" + encoded(text)


def _shown_as_json(item: Any) -> bytes:
    value = os.fspath(item) if isinstance(item, os.PathLike) else item
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_repr_of(item)).encode()


def _repr_of(item: Any) -> str:
    try:
        return repr(item)
    except Exception as error:
        return f"<{type(item).__qualname__}, which cannot be shown: {type(error).__name__}>"


# What objects are called that have no name.
_ADDRESS = re.compile(r"\bat 0x[0-9A-Fa-f]+")
_MOST_THREADS = 10_000
# Enough that quick calls can travel together.
_CALLS_PER_THREAD = 4

_LOGGER = logging.getLogger("unisono.batch")
