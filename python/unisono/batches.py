"""Many items as one batch: iterate over its outcomes, or run it to its report."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack

from unisono import _goodbye, _native
from unisono._display import Display, Progress
from unisono._given import many, refuse_own_output
from unisono._native import Ended
from unisono._pulling import AnyQueue, Puller, items_of
from unisono.errors import RunError, UsageError
from unisono.queue import Queue
from unisono.report import Report

OutcomeT = TypeVar("OutcomeT", bound=Ended)


class LimitOptions(TypedDict, total=False):
    """What bounds the starts of a batch or client, and may be changed while it runs."""

    limit: int
    per_host: int
    rate: str
    per_host_rate: str


class NewLimits(LimitOptions, total=False):
    """Limits to be changed. What is kept by host for requests is kept by key for everything else."""

    per_key: int
    per_key_rate: str


@dataclass(frozen=True)
class Work(Generic[OutcomeT]):
    """What a kind of work is to its batches.

    Attributes:
        start: Starts the engine, with the batch's options.
        noun: What it is given, in messages.
        counted: Each thing that it is given is one item, so that their number is the batch's total.
        limit: Its default limit.
        reads: Files that are read beside what it is given.
    """

    start: Callable[..., _native.Run[OutcomeT]]
    noun: str
    counted: bool
    limit: int
    reads: tuple[Any, ...] = ()


class Batch(Generic[OutcomeT]):
    """Many items under limits.

    Made by `unisono.fetch`, `unisono.files.digest` and the like; starts when it is first iterated over, awaited or run.

    Iterate with `for` or `async for` to take outcomes as they come; await it, or call `run`, for the report alone. In
    a `with` or `async with` block, leaving early is well defined: what runs is let finish, and all is accounted for.
    """

    def __init__(
        self,
        work: Work[OutcomeT],
        given: Iterable[Any] | AsyncIterable[Any] | queue.Queue[Any] | asyncio.Queue[Any],
        *,
        progress: Progress = False,
        options: Mapping[str, Any],
    ) -> None:
        self._work = work
        given = many(given, work.noun)
        self._given = items_of(given) if isinstance(given, asyncio.Queue) else given
        self._puller: Puller | None = None
        self._options = dict(options)
        self._run: _native.Run[OutcomeT] | None = None
        self._source: Iterator[Any] | None = None
        self._feeder: asyncio.Task[None] | None = None
        # What outcomes that are still to come were given for; none when nobody takes outcomes.
        self._items: dict[int, Any] = {}
        self._keeps_items = True
        self._pushed = 0
        self._fed = False
        self._input_error: BaseException | None = None
        self._ready: deque[OutcomeT] = deque()
        # The first that did not go well, for those who want them raised at the end.
        self._failures: list[OutcomeT] = []
        self._taken_all = False
        self._report: Report[OutcomeT] | None = None
        self._display = Display(progress)
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # Taking outcomes, from a thread.

    def __iter__(self) -> Iterator[OutcomeT]:
        return self

    def __next__(self) -> OutcomeT:
        while not self._ready:
            run = self._start(keep_outcomes=True)
            pushed = self._feed(run)
            if self._taken_all or not self._take(run):
                self._finish(run)
                raise StopIteration
            if not self._ready and not pushed:
                self._wait(run)
        return self._ready.popleft()

    def run(self) -> Report[OutcomeT]:
        """Run it to its end; answer its report.

        Without `out=`, the report holds the outcomes; with it, they are in the file.
        """
        if self._run is not None or "out" not in self._options:
            outcomes = list(self)
            report = self.report
            report.outcomes = outcomes
            return report
        run = self._start(keep_outcomes=False)
        while _numbers(run) is None:
            if not self._feed(run):
                self._wait(run)
                self._pass_over(run)
        self._finish(run)
        return self.report

    # Taking outcomes, on an event loop.

    def __aiter__(self) -> AsyncIterator[OutcomeT]:
        return self

    async def __anext__(self) -> OutcomeT:
        while not self._ready:
            run = self._start(keep_outcomes=True)
            pushed = self._feed_on_loop(run)
            if self._taken_all or not self._take(run):
                await self._finish_on_loop(run)
                raise StopAsyncIteration
            if not self._ready and not pushed:
                await self._wait_or_stop(run)
        return self._ready.popleft()

    def __await__(self) -> Generator[Any, None, Report[OutcomeT]]:
        return self._run_on_loop().__await__()

    async def _run_on_loop(self) -> Report[OutcomeT]:
        if self._run is not None or "out" not in self._options:
            outcomes = [outcome async for outcome in self]
            report = self.report
            report.outcomes = outcomes
            return report
        run = self._start(keep_outcomes=False)
        while _numbers(run) is None:
            if not self._feed_on_loop(run):
                await self._wait_or_stop(run)
                self._pass_over(run)
        await self._finish_on_loop(run)
        return self.report

    # Steering.

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
            self._options["limit"] = limit
        else:
            self._run.set_limits(limit=limit)

    def set_limits(self, **limits: Unpack[NewLimits]) -> None:
        """Change limits; they hold from then on. A rate of `none` takes it away."""
        if self._run is None:
            for name, limit in limits.items():
                self._options.pop(name, None)
                if limit != "none":
                    self._options[name] = limit
            return
        self._run.set_limits(
            limit=limits.get("limit"),
            per_host=limits.get("per_host", limits.get("per_key")),
            rate=limits.get("rate"),
            per_host_rate=limits.get("per_host_rate", limits.get("per_key_rate")),
        )

    def cancel(self, *, abort: bool = False) -> None:
        """Start nothing new, and let what runs finish; with `abort`, stop that as well.

        Every item that was pulled still gets its outcome.
        """
        if self._run is not None:
            self._run.cancel(abort=abort)

    def close(self) -> None:
        """Stop at once; nobody wants further outcomes."""
        if self._run is not None and self._report is None:
            self._run.abandon()
            _abandoned.difference_update([run for run in list(_abandoned) if _has_ended(run)])
            _abandoned.add(self._run)
        self._stop_pulling()
        self._stop_waiting()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is None or self._report is not None:
            return
        self._run.cancel(abort=kind is not None)
        self._stop_pulling()
        self._fed = True
        self._run.end_input()
        with contextlib.suppress(Exception) if kind is not None else contextlib.nullcontext():
            for _ in self:
                pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is None or self._report is not None:
            return
        self._run.cancel(abort=kind is not None)
        await self._stop_feeding()
        self._stop_pulling()
        self._fed = True
        self._run.end_input()
        with contextlib.suppress(Exception) if kind is not None else contextlib.nullcontext():
            async for _ in self:
                pass

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    # How it works.

    def _start(self, *, keep_outcomes: bool) -> _native.Run[OutcomeT]:
        if self._run is None:
            refuse_own_output(self._given, self._work.noun, self._work.reads, self._options)
            self._run = self._work.start(keep_outcomes=keep_outcomes, **self._options)
            self._keeps_items = keep_outcomes
            _running.add(self)
            if self._work.counted and isinstance(self._given, Sized):
                self._run.set_total(len(self._given))
        return self._run

    def _take(self, run: _native.Run[OutcomeT]) -> bool:
        outcomes = run.take(self._items)
        if outcomes is None:
            self._taken_all = True
            return False
        self._ready.extend(outcomes)
        if len(self._failures) < MOST_FAILURES:
            self._failures.extend(outcome for outcome in outcomes if outcome.kind not in ("ok", "skipped"))
        return True

    def _pass_over(self, run: _native.Run[OutcomeT]) -> None:
        """Nobody takes outcomes: what has been heard has been heard."""
        run.hush()

    def _feed(self, run: _native.Run[OutcomeT]) -> bool:
        """Push what there is room for; answer whether anything was done."""
        if self._fed:
            return False
        if isinstance(self._given, Queue | queue.Queue):
            return self._feed_from_queue(self._given, run)
        if self._source is None:
            if isinstance(self._given, AsyncIterable):
                raise UsageError(f"an async iterable of {self._work.noun} needs `async for` or `await`")
            self._source = iter(self._given)
        room = min(run.room(), _AT_ONCE)
        return room > 0 and self._push_from(self._source, run, room)

    def _feed_from_queue(self, given: AnyQueue, run: _native.Run[OutcomeT]) -> bool:
        def end() -> None:
            self._fed = True
            run.end_input()

        if self._puller is None:
            self._puller = Puller(given, lambda items: self._push(run, items), end)
        # Whoever waits is rung for as the engine takes what has been pushed.
        self._puller.ask(min(run.room(), _AT_ONCE))
        return False

    def _push_from(self, source: Iterator[Any], run: _native.Run[OutcomeT], room: int) -> bool:
        items: list[Any] = []
        ended, failed = False, None
        until = time.monotonic() + _LONGEST_PULL
        try:
            for _ in range(room):
                items.append(next(source))
                if time.monotonic() > until:
                    break
        except StopIteration:
            ended = True
        except Exception as error:
            # What was pulled before is accounted for first; then the exception is raised.
            self._input_error = error
            ended, failed = True, f"the {self._work.noun} raised {error!r}"
        self._push(run, items)
        if ended:
            self._fed = True
            run.end_input(failed)
        return True

    def _push(self, run: _native.Run[OutcomeT], items: list[Any]) -> None:
        first = self._pushed
        self._pushed += len(items)
        if self._keeps_items:
            self._items.update(enumerate(items, first))
        run.push(first, items)

    def _feed_on_loop(self, run: _native.Run[OutcomeT]) -> bool:
        if not isinstance(self._given, AsyncIterable):
            return self._feed(run)
        if self._feeder is None:
            self._feeder = asyncio.get_running_loop().create_task(self._feed_from(self._given, run))
        return False

    async def _feed_from(self, given: AsyncIterable[Any], run: _native.Run[OutcomeT]) -> None:
        failed = None
        try:
            async for item in given:
                self._push(run, [item])
                while run.room() == 0 and not self._taken_all and run.report() is None:
                    # Room comes with outcomes, and whoever takes them rings.
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
        except Exception as error:
            self._input_error = error
            failed = f"the {self._work.noun} raised {error!r}"
        finally:
            self._fed = True
            run.end_input(failed)

    async def _stop_feeding(self) -> None:
        if self._feeder is not None and not self._feeder.done():
            self._feeder.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._feeder

    def _wait(self, run: _native.Run[OutcomeT]) -> None:
        self._display.show(run)
        run.wait(self._display.every)

    async def _wait_or_stop(self, run: _native.Run[OutcomeT]) -> None:
        """Wait; when the task that waits is cancelled, stop all, and account for it, before it goes on."""
        try:
            await self._wait_on_loop(run)
        except asyncio.CancelledError:
            run.cancel(abort=True)
            await self._stop_feeding()
            self._fed = True
            run.end_input()
            while _numbers(run) is None or (self._keeps_items and not self._taken_all and self._take(run)):
                if _numbers(run) is None:
                    await self._wait_on_loop(run)
            self._ended(run.report() or {})
            raise

    async def _wait_on_loop(self, run: _native.Run[OutcomeT]) -> None:
        self._display.show(run)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._stop_waiting()
            loop.add_reader(run.fileno(), self._heard)
            self._loop = loop
        self._waiter = loop.create_future()
        timer = loop.call_later(self._display.every, self._ring) if self._display.every else None
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _heard(self) -> None:
        if self._run is not None:
            self._run.hush()
        self._ring()

    def _ring(self) -> None:
        for waiter in (self._waiter, self._room):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _stop_waiting(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._run is not None and not loop.is_closed():
            loop.remove_reader(self._run.fileno())

    def _finish(self, run: _native.Run[OutcomeT]) -> None:
        while (numbers := _numbers(run)) is None:
            run.wait(None)
            run.hush()
        self._ended(numbers)

    async def _finish_on_loop(self, run: _native.Run[OutcomeT]) -> None:
        while (numbers := _numbers(run)) is None:
            await self._wait_on_loop(run)
        await self._stop_feeding()
        self._ended(numbers)

    def _stop_pulling(self) -> None:
        if self._puller is not None:
            self._puller.stop()

    def _ended(self, numbers: dict[str, Any]) -> None:
        self._stop_pulling()
        self._stop_waiting()
        _running.discard(self)
        if self._report is None:
            self._report = Report(numbers, [], self._failures[:MOST_FAILURES])
            if self._work.counted and "paginate" not in self._options:
                # What was taken from the iterator, but came too late for the engine, is pending like what was not.
                late = self._pushed - self._report.total
                self._report.pending = max(self._report.pending or 0, late)
            if self._run is not None:
                self._display.end(self._run)
        error, self._input_error = self._input_error, None
        if error is not None:
            raise error


def _numbers(run: _native.Run[Any]) -> dict[str, Any] | None:
    """The report's numbers, once there are any. A thread that waits for them when the program ends, ends with it."""
    try:
        return run.report()
    except RunError:
        if _program.ends:
            raise SystemExit from None
        raise


class _Program:
    ends = False


_program = _Program()
_running: weakref.WeakSet[Batch[Any]] = weakref.WeakSet()
# Nobody has their batch any more, but what they have started may take a moment to end.
_abandoned: set[_native.Run[Any]] = set()


def _has_ended(run: _native.Run[Any]) -> bool:
    try:
        return run.report() is not None
    except Exception:
        # It could not begin, or it is that of the process that we were forked from.
        return True


@_goodbye.stops
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
            run.hush()


# Enough to see what went wrong; a batch of a million that fails keeps no million exceptions.
MOST_FAILURES = 100
# Enough to keep the engine busy between two looks, few enough that a slow iterator delays no outcome for long.
_AT_ONCE = 256
# What a slow iterator has yielded is begun before it is asked for more.
_LONGEST_PULL = 0.02
_LONGEST_GOODBYE = 2.0
