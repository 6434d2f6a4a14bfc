"""Many items as one batch: iterate over its outcomes, or run it to its report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from unisono import _forks, _native, _shutdown
from unisono._batches.display import Display, Progress
from unisono._batches.feeding import Feeder
from unisono._batches.given import many, refuse_own_output
from unisono._batches.listening import Listener
from unisono._batches.logs import hand_on, level_of
from unisono._batches.report import Report
from unisono._batches.returning import Returns, is_queue
from unisono._caller import line_of_caller, warn_on_loop, warn_once
from unisono._functions.callables import plain
from unisono._keywords import told
from unisono._native import Outcome
from unisono._options import NewLimits
from unisono._queue.queue import Queue
from unisono._wording import counted
from unisono.errors import RunError, UsageError

OutcomeT = TypeVar("OutcomeT", bound=Outcome[Any])


@dataclass(frozen=True)
class BatchWork(Generic[OutcomeT]):
    """What a kind of work is to its batches.

    Attributes:
        check: Refuses options that are not what they should be, before anything is started.
        start: Starts the engine, with the batch's options. What else it returns is for the batch's own `_begin`.
        noun: What it is given, in messages.
        counted: Each thing that it is given is one item, so that their number is the batch's total.
        limit: Its default limit.
        logger: What is told of its items goes there.
        key: What its items are told apart by in reports; empty for nothing.
        reads: Files that are read beside what it is given.
        is_plain: Each item has one outcome, and may begin when there is room, unless `key` says otherwise.
    """

    start: Callable[..., _native.Run[OutcomeT]]
    check: Callable[..., None]
    noun: str
    counted: bool
    limit: int
    logger: logging.Logger
    key: str = ""
    reads: tuple[Any, ...] = ()
    is_plain: bool = False


class Batch(Generic[OutcomeT]):
    """Many items under limits.

    Made by `unisono.fetch`, `unisono.files.digest` and the like; starts when it is first iterated over, awaited or run.

    Iterate with `for` or `async for` to take outcomes as they come; await it, or call `run`, for the report alone.

    A loop that is left early, by `break` or an exception, stops the batch at once if nothing else refers to it:
    nothing starts any more, what runs is stopped, and all of it has its line in `out`. A batch with a name goes on
    until as many outcomes wait as it keeps ready; iterate again to take them, or say how it ends: in a `with` or
    `async with` block what runs is let finish, or stopped with `on_exit="cancel"`, `cancel` starts nothing new, `close`
    and `aclose` stop it.

    >>> sorted(outcome.result for outcome in unisono.batch(abs, [-1, 2, -3]))
    [1, 2, 3]

    >>> report = unisono.batch(abs, [-1, 2, -3]).run()
    >>> report.ok, len(report.outcomes)
    (3, 3)
    """

    def __init__(
        self,
        work: BatchWork[OutcomeT],
        given: Iterable[Any] | AsyncIterable[Any] | queue.Queue[Any] | asyncio.Queue[Any],
        *,
        progress: Progress = False,
        options: Mapping[str, Any],
    ) -> None:
        self._work = work
        self._given = many(given, work.noun)
        self._options = dict(options)
        self._aborts_on_exit = _aborts(self._options.pop("on_exit", "finish"))
        work.check(**self._options)
        self._run: _native.Run[OutcomeT] | None = None
        self._starting = threading.Lock()
        self._feed: Feeder | None = None
        self._listener: Listener | None = None
        # What outcomes that are still to come were given for; none when outcomes are not taken.
        self._items: dict[int, Any] = {}
        self._keeps_items = True
        # What was taken from a queue and has not begun goes back.
        self._returns = Returns(self._given, self._items) if is_queue(self._given) else None
        self._ready: deque[OutcomeT] = deque()
        # The first that did not go well, to be raised at the end where that is asked for.
        self._failures: list[OutcomeT] = []
        self._taken_all = False
        # Whether it was cancelled, and aborted, before it began.
        self._cancelled: bool | None = None
        # Threads that wait for outcomes.
        self._waiting = 0
        self._report: Report[OutcomeT] | None = None
        self._display = Display(plain(progress, "progress"))
        # Neither the engine's thread nor what a loop watches is there after a fork.
        self._home = _forks.HomeProcess()
        # Where it was made, until it is begun or given up: a batch that is forgotten does nothing, and says so.
        self._unrun: tuple[str, int] | None = line_of_caller()

    # Taking outcomes, from a thread.

    def __iter__(self) -> Iterator[OutcomeT]:
        if self._report is None:
            warn_on_loop("a plain `for` over a batch", "write `async for outcome in batch`")
        return self

    def __next__(self) -> OutcomeT:
        while True:
            # Several threads may take from one batch.
            try:
                return self._ready.popleft()
            except IndexError:
                pass
            self._wait_for_results()
            run = self._start(keep_outcomes=True)
            pushed = self._fed.go_on()
            if self._taken_all or not self._take(run):
                self._finish(run)
                raise StopIteration
            if not self._ready and not pushed:
                self._wait_or_stop(run)

    def run(self) -> Report[OutcomeT]:
        """Run it to its end; answer its report.

        Without `out=`, the report holds the outcomes; with it, they are in the file.
        """
        if self._report is not None:
            return self._report
        warn_on_loop("`run()` of a batch", "write `await batch`, which answers the same report")
        if self._run is not None or "out" not in self._options:
            outcomes = self._outcomes()
            report = self.report
            report.outcomes = outcomes
            return report
        self._wait_for_results()
        run = self._start(keep_outcomes=False)
        while self._numbers(run) is None:
            if not self._fed.go_on():
                self._wait_or_stop(run)
                self._pass_over(run)
        self._finish(run)
        return self.report

    def _outcomes(self) -> list[OutcomeT]:
        """All that are left, for what has warned of a loop that waits in words of its own."""
        return list(iter(self.__next__, None))

    # Taking outcomes, on an event loop.

    def __aiter__(self) -> AsyncIterator[OutcomeT]:
        return self

    async def __anext__(self) -> OutcomeT:
        while True:
            # Others may take from one batch, also on other threads.
            try:
                return self._ready.popleft()
            except IndexError:
                pass
            await self._wait_for_results_on_loop()
            run = self._start(keep_outcomes=True)
            pushed = self._fed.go_on_on_loop()
            if self._taken_all or not self._take(run):
                await self._finish_on_loop(run)
                raise StopAsyncIteration
            if not self._ready and not pushed:
                await self._wait_or_stop_on_loop(run)

    def __await__(self) -> Generator[Any, None, Report[OutcomeT]]:
        return self._run_on_loop().__await__()

    async def _run_on_loop(self) -> Report[OutcomeT]:
        if self._report is not None:
            return self._report
        if self._run is not None or "out" not in self._options:
            outcomes = [outcome async for outcome in self]
            report = self.report
            report.outcomes = outcomes
            return report
        await self._wait_for_results_on_loop()
        run = self._start(keep_outcomes=False)
        while await self._numbers_on_loop(run) is None:
            if not self._fed.go_on_on_loop():
                await self._wait_or_stop_on_loop(run)
                self._pass_over(run)
        await self._finish_on_loop(run)
        return self.report

    # Steering.

    def __repr__(self) -> str:
        if self._report is not None:
            state = f"ended: {counted(self._report.total, 'outcome')}, {self._report.ok} ok"
        elif self._run is None:
            state = "not begun"
        else:
            progress = self.progress
            total = "" if progress["total"] is None else f" of {progress['total']}"
            state = f"{progress['done']}{total} done, {progress['in_flight']} in flight"
        return f"<Batch of {self._work.noun}, {state}>"

    @property
    def report(self) -> Report[OutcomeT]:
        """The report, once the batch has ended."""
        if self._report is None:
            raise UsageError("the batch has not ended yet: iterate over it to its end, or call run()")
        return self._report

    @property
    def progress(self) -> dict[str, Any]:
        """The numbers so far: done, total, counts by outcome, in_flight, retries, bytes, waiting_for."""
        return self._run.progress() if self._run is not None else {"done": 0, "total": None, "in_flight": 0}

    @property
    def limit(self) -> int:
        """Most items in flight, which may be changed while it runs; or how many threads there are."""
        return self._run.limit if self._run is not None else int(self._options.get("limit") or self._work.limit)

    @limit.setter
    def limit(self, limit: int) -> None:
        if self._run is None:
            self._options["limit"] = _native.whole("limit", limit)
        else:
            self._run.set_limits(limit=limit)

    @told("Batch.set_limits", NewLimits)
    def set_limits(self, **limits: Unpack[NewLimits]) -> None:
        """Change limits; they hold from then on. A rate of `none` takes it away."""
        if self._run is None:
            options = dict(self._options)
            for name, limit in limits.items():
                if not name.endswith("rate"):
                    _native.whole(name, limit)
                options.pop(name, None)
                if limit != "none":
                    options[name] = limit
            self._work.check(**options)
            self._options = options
            return
        self._run.set_limits(
            limit=limits.get("limit"),
            per_host=limits.get("per_host", limits.get("per_key")),
            rate=limits.get("rate"),
            per_host_rate=limits.get("per_host_rate", limits.get("per_key_rate")),
        )

    def cancel(self, *, abort: bool = False) -> None:
        """Start nothing new, and let what runs finish; with `abort`, stop that as well.

        Every item that was pulled still gets its outcome. A batch that has not started pulls none, and ends at once.
        """
        # Noted before the look, since another thread may be starting it.
        self._cancelled = abort or bool(self._cancelled)
        self._unrun = None
        if self._run is not None:
            self._run.cancel(abort=abort)

    def close(self) -> None:
        """Stop at once; further outcomes are not wanted. May be called from any thread."""
        self._unrun = None
        if self._run is None:
            self._cancelled = True
            return
        if not self._home.is_here():
            return
        if self._report is None:
            give_up(self._run, self._options, self._returns)
            self._ready.clear()
        if self._feed is not None:
            self._feed.stop()
            self._feed.take_error()
        if self._listener is not None:
            self._listener.leave()

    async def aclose(self) -> None:
        """As `close`, and wait until what ran has ended; `report` has the account then."""
        self.close()
        if self._run is not None and self._report is None:
            await self._finish_on_loop(self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is None:
            self.cancel()
        if self._run is None or self._report is not None or not self._home.is_here():
            return
        self._run.cancel(abort=kind is not None or self._aborts_on_exit)
        self._fed.stop()
        with contextlib.suppress(Exception) if kind is not None else contextlib.nullcontext():
            for _ in self:
                pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is None:
            self.cancel()
        if self._run is None or self._report is not None or not self._home.is_here():
            return
        self._run.cancel(abort=kind is not None or self._aborts_on_exit)
        await self._fed.stop_on_loop()
        with contextlib.suppress(Exception) if kind is not None else contextlib.nullcontext():
            async for _ in self:
                pass

    def __del__(self) -> None:
        line = getattr(self, "_unrun", None)
        with contextlib.suppress(Exception):
            self.close()
        if line is not None and self._home.is_here():
            warn_once(
                f"the batch of {self._work.noun} that is made here was never run: iterate over it, call `run()` or "
                "await it (or `close()` it, if it is not wanted)",
                line,
            )

    # How it works. Nothing that outlives the batch may hold it, and it is in no cycle: what the loop or a thread holds
    # is its feed, its listener and its run. That is why it can stop when the last reference to it goes.

    def _start(self, *, keep_outcomes: bool) -> _native.Run[OutcomeT]:
        if self._run is not None:
            return self._run
        # Also where it cannot begin, which is told.
        self._unrun = None
        # Several threads may be the first.
        with self._starting:
            return self._run or self._start_now(keep_outcomes=keep_outcomes)

    def _start_now(self, *, keep_outcomes: bool) -> _native.Run[OutcomeT]:
        refuse_own_output(self._given, self._work.noun, self._work.reads, self._options)
        _prune_abandoned()
        # Of what goes back to a queue, the outcomes tell.
        self._keeps_items, self._home = keep_outcomes or self._returns is not None, _forks.HomeProcess()
        run = self._begin(keep_outcomes=self._keeps_items)
        if self._returns is not None:
            run.keep_begun()
        # Before it is given anything: nothing can have happened yet.
        run.log_from(level_of(self._work.logger))
        # A queue has a length as well, but that is no total.
        if self._work.counted and isinstance(self._given, Sized) and not isinstance(self._given, Queue):
            run.set_total(len(self._given))
        self._listener = Listener(run)
        items = self._items if self._keeps_items else None
        limit = int(self._options.get("limit") or self._work.limit)
        self._feed = Feeder(
            self._given, self._work.noun, run, self._listener, items, self._returns, self._ahead(), limit
        )
        _running.add(self)
        if self._cancelled is not None:
            self._feed.stop()
        # At last, since a reader that sees it goes on with all of them.
        self._run = run
        if self._cancelled is not None:
            run.cancel(abort=self._cancelled)
        return run

    def _ahead(self) -> int | None:
        """How many times its limit it may have of a queue's items."""
        if not self._work.is_plain or self._options.get("key") is not None:
            # Which of them may begin is known when they are looked at.
            return None
        # Those that wait for a repeat keep none from beginning.
        return 2 if self._options.get("retries") else 1

    def _wait_for_results(self) -> None:
        """A batch that was left a moment ago may still write to the same file, and nothing else could wait for it."""
        if self._run is None:
            for run in _abandoned_with(_results_of(self._options)):
                while not _has_ended(run):
                    run.wait(_LOOK_UP)
                    run.clear()

    async def _wait_for_results_on_loop(self) -> None:
        if self._run is None:
            for run in _abandoned_with(_results_of(self._options)):
                listener = Listener(run)
                try:
                    while not _has_ended(run):
                        # Another reader may hear the notifier.
                        await listener.wait(_LOOK_UP)
                finally:
                    listener.leave()

    def _begin(self, *, keep_outcomes: bool) -> _native.Run[OutcomeT]:
        return self._work.start(keep_outcomes=keep_outcomes, **self._options)

    @property
    def _fed(self) -> Feeder:
        assert self._feed is not None, "made with the run"
        return self._feed

    @property
    def _heard(self) -> Listener:
        assert self._listener is not None, "made with the run"
        return self._listener

    def _log(self, run: _native.Run[OutcomeT]) -> None:
        if events := run.take_events():
            hand_on(self._work.logger, events)

    def _take(self, run: _native.Run[OutcomeT]) -> bool:
        is_left = self._returns is not None and self._returns.is_left
        outcomes = None if is_left else run.take(self._items)
        self._log(run)
        if outcomes is None:
            self._taken_all = True
            self._tell_others(run)
            return False
        if outcomes and self._returns is not None:
            outcomes = self._returns.sift(outcomes)
            if not outcomes:
                # There was something, so there may be more, or the end, without another word.
                run.notify()
        self._ready.extend(outcomes)
        if outcomes:
            self._tell_others(run)
        if len(self._failures) < MOST_FAILURES:
            self._failures.extend(outcome for outcome in outcomes if not (outcome.ok or outcome.kind == "skipped"))
        return True

    def _tell_others(self, run: _native.Run[OutcomeT]) -> None:
        """Several tasks or threads may take from one batch, and one has taken the news of all."""
        self._heard.notify()
        if self._waiting:
            run.notify()

    def _pass_over(self, run: _native.Run[OutcomeT]) -> None:
        """Outcomes are not taken: what has been heard has been heard."""
        if self._returns is None:
            run.clear()
            self._log(run)
        else:
            self._take(run)
            self._ready.clear()

    def _wait(self, run: _native.Run[OutcomeT]) -> None:
        self._display.show(run)
        self._waiting += 1
        try:
            # They may have been taken since the look, by another thread, which did not know of this one yet.
            if not self._ready and not self._taken_all:
                run.wait(self._display.every)
        finally:
            self._waiting -= 1

    def _wait_or_stop(self, run: _native.Run[OutcomeT]) -> None:
        """Wait; when Ctrl-C ends that, stop all, and account for it, before it goes on. Another one ends this too."""
        try:
            self._wait(run)
        except KeyboardInterrupt:
            run.cancel(abort=True)
            self._fed.stop()
            # What is taken makes room for what is still to end.
            while (self._keeps_items and not self._taken_all and self._take(run)) or self._numbers(run) is None:
                run.wait(_LOOK_UP)
                run.clear()
            self._finish(run)
            raise

    async def _wait_or_stop_on_loop(self, run: _native.Run[OutcomeT]) -> None:
        """Wait; when the task that waits is cancelled, stop all, and account for it, before it goes on."""
        try:
            await self._wait_on_loop(run)
        except asyncio.CancelledError:
            run.cancel(abort=True)
            await self._fed.stop_on_loop()
            while (numbers := await self._numbers_on_loop(run)) is None or (
                self._keeps_items and not self._taken_all and self._take(run)
            ):
                if numbers is None:
                    await self._wait_on_loop(run)
            await self._return_on_loop(run)
            self._ended(run.report() or {})
            raise

    async def _wait_on_loop(self, run: _native.Run[OutcomeT]) -> None:
        self._display.show(run)
        every = self._display.every
        if self._fed.is_on_another_loop:
            every = min(every or _LOOK_UP, _LOOK_UP)
        await self._heard.wait(every)

    def _finish(self, run: _native.Run[OutcomeT]) -> None:
        while (numbers := self._numbers(run)) is None:
            # Another thread may hear the notifier.
            run.wait(_LOOK_UP)
            run.clear()
        self._ended(numbers)

    async def _finish_on_loop(self, run: _native.Run[OutcomeT]) -> None:
        while (numbers := await self._numbers_on_loop(run)) is None:
            await self._wait_on_loop(run)
        await self._fed.stop_on_loop()
        await self._return_on_loop(run)
        self._ended(numbers)

    def _numbers(self, run: _native.Run[OutcomeT]) -> dict[str, Any] | None:
        """The report's numbers, once there are any. What a run was given that could not begin goes back."""
        try:
            return _numbers(run)
        except (UsageError, RunError):
            self._fed.stop()
            if self._returns is not None:
                self._returns.finish(run)
            raise

    async def _numbers_on_loop(self, run: _native.Run[OutcomeT]) -> dict[str, Any] | None:
        try:
            return _numbers(run)
        except (UsageError, RunError):
            await self._fed.stop_on_loop()
            await self._return_on_loop(run)
            raise

    async def _return_on_loop(self, run: _native.Run[OutcomeT]) -> None:
        if self._returns is not None:
            await self._returns.finish_on_loop(run)

    def _ended(self, numbers: dict[str, Any]) -> None:
        self._fed.stop()
        self._heard.leave()
        if self._run is not None:
            self._log(self._run)
            self._tell_others(self._run)
        _running.discard(self)
        if self._run is not None:
            # It was closed, and has been waited for.
            _abandoned.pop(self._run, None)
        if self._report is None:
            report: Report[OutcomeT] = Report(numbers, [], self._failures[:MOST_FAILURES], self._work.key)
            if self._returns is not None and self._run is not None:
                self._returns.finish(self._run)
                for kind, count in self._returns.returned.items():
                    setattr(report, kind, getattr(report, kind) - count)
            self._report = report
            if self._work.counted and "paginate" not in self._options:
                # What was taken from the iterator, but came too late for the engine, is pending like what was not.
                late = self._fed.pushed - self._report.total
                if self._report.pending is not None:
                    self._report.pending = max(self._report.pending, late)
            if self._run is not None:
                self._display.end(self._run)
        error = self._fed.take_error()
        try:
            if error is not None:
                raise error
        finally:
            # Its traceback has this frame, which must not have it in turn.
            del error


def _aborts(on_exit: object) -> bool:
    if on_exit not in ("finish", "cancel"):
        raise UsageError(f'on_exit is "finish" or "cancel", not {_native.printable(repr(on_exit))[:60]}')
    return on_exit == "cancel"


def _numbers(run: _native.Run[Any]) -> dict[str, Any] | None:
    """The report's numbers, once there are any. A thread that waits for them when the program ends, ends with it."""
    try:
        return run.report()
    except RunError:
        if _program.ends:
            raise SystemExit from None
        raise


class _ProgramState:
    ends = False


_program = _ProgramState()
_running: weakref.WeakSet[Batch[Any]] = weakref.WeakSet()
# Their batch is gone, but what they have started may take a moment to end. With the results file of each.
_abandoned: dict[_native.Run[Any], str | None] = {}


def give_up(run: _native.Run[Any], options: Mapping[str, Any], returns: Returns | None = None) -> None:
    """A run is not wanted any more. It may take a moment to end, for which the next one with the same results waits."""
    try:
        if returns is None:
            run.abandon()
        else:
            # Before the stop: what another thread takes after it is known to be unwanted.
            returns.follow(run)
    except RunError:
        # Without a thread nothing takes what tells what goes back; the run ends all the same.
        run.abandon()
    finally:
        run.cancel(abort=True)
    _prune_abandoned()
    _abandoned[run] = _results_of(options)


def _prune_abandoned() -> None:
    for run in [run for run in list(_abandoned) if _has_ended(run)]:
        _abandoned.pop(run, None)


def _abandoned_with(results: str | None) -> list[_native.Run[Any]]:
    return [run for run, its in list(_abandoned.items()) if results is not None and its == results]


def _results_of(options: Mapping[str, Any]) -> str | None:
    out = options.get("out")
    if not isinstance(out, str | bytes | os.PathLike):
        return None
    # A name with a zero byte is none, which the run says.
    with contextlib.suppress(ValueError):
        return os.path.realpath(os.fsdecode(out))
    return None


def _has_ended(run: _native.Run[Any]) -> bool:
    try:
        return run.report() is not None
    except Exception:
        # It could not begin, or it is that of the process that we were forked from.
        return True


@_shutdown.stops
def _stop_all() -> None:
    """Stop what still runs and give it a moment to write what it has; what has not ended then is killed."""
    _program.ends = True
    for batch in list(_running):
        batch.close()
    runs = list(_abandoned)
    try:
        _wait_for_all(runs)
    finally:
        # Also when Ctrl-C is what ends the wait.
        for run in runs:
            if not _has_ended(run):
                run.kill()
        _wait_for_all(runs)


def _wait_for_all(runs: list[_native.Run[Any]]) -> None:
    until = time.monotonic() + _LONGEST_GOODBYE
    for run in runs:
        while not _has_ended(run) and time.monotonic() < until:
            run.wait(0.05)
            run.clear()


# Enough to see what went wrong; a batch of a million that fails keeps no million exceptions.
MOST_FAILURES = 100
_LONGEST_GOODBYE = 2.0
# Seconds.
_LOOK_UP = 0.05
