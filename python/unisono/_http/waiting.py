"""Where the calls of clients wait for their ends: a thread at its queue, and an event loop for all of its own."""

from __future__ import annotations

import asyncio
import functools

from unisono import _native
from unisono._batches.listening import LoopWatch, on_loop
from unisono._forks import HomeProcess
from unisono._http.attempts import Attempts, drive, drive_on_loop
from unisono._native import FetchOutcome
from unisono.errors import UsageError

__all__ = ["LoopCalls", "LoopWait", "ThreadWait"]


class ThreadWait:
    """A thread's call."""

    def __init__(
        self,
        completions: _native.CompletionQueue,
        engine: _native.ClientEngine,
        call: _native.ClientCall,
        attempts: Attempts | None,
    ) -> None:
        self._completions = completions
        self._engine = engine
        self._call = call
        self._attempts = attempts

    def outcome(self) -> FetchOutcome:
        """How the call ended, or the head of a stream; what its attempts are accompanied by has been told."""
        while True:
            outcome = self._call.outcome()
            # After the look: all that comes before an outcome is there when that is.
            if self._attempts is not None:
                drive(self._attempts.told(self._engine, self._call))
            if outcome is not None:
                if self._attempts is not None:
                    drive(self._attempts.ended(outcome))
                return outcome
            self._completions.wait()
            self._completions.take()

    def chunk(self) -> bytes:
        """The next piece of a stream; empty at its end."""
        while (chunk := self._call.chunk()) is None:
            self._completions.wait()
            self._completions.take()
        return chunk


class LoopWait:
    """A call on an event loop."""

    def __init__(
        self,
        loop_calls: LoopCalls,
        number: int,
        engine: _native.ClientEngine,
        call: _native.ClientCall,
        attempts: Attempts | None,
    ) -> None:
        self._loop_calls = loop_calls
        self._number = number
        self._engine = engine
        self._call = call
        self._attempts = attempts

    async def outcome(self) -> FetchOutcome:
        """As `ThreadWait.outcome`."""
        while True:
            # The waiter comes before the look: while a hook is awaited, what comes next may be told.
            waiter = self._waiter()
            outcome = self._call.outcome()
            if self._attempts is not None:
                await drive_on_loop(self._attempts.told(self._engine, self._call))
            if outcome is not None:
                if self._attempts is not None:
                    await drive_on_loop(self._attempts.ended(outcome))
                return outcome
            await waiter

    async def chunk(self) -> bytes:
        """As `ThreadWait.chunk`."""
        while (chunk := self._call.chunk()) is None:
            await self._waiter()
        return chunk

    def _waiter(self) -> asyncio.Future[None]:
        if not self._loop_calls.is_here:
            raise UsageError("the answer comes in on the event loop that it was asked for on: read it there")
        # Completions come to the queue of this very loop, so none can come between the look and the wait.
        return self._loop_calls.waiter(self._number)


class LoopCalls:
    """Where the calls of one event loop wait. The loop keeps the waiters, and not the client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.completions = _native.CompletionQueue()
        self.waiters: dict[int, asyncio.Future[None]] = {}
        # Those under way.
        self.calls: dict[int, _native.ClientCall] = {}
        self.home = HomeProcess()
        self._deliver = functools.partial(_deliver, self.completions, self.waiters)
        # On a loop that was closed nothing waits any more, though not all of them may have been cancelled.
        self._watch = LoopWatch(loop, self.completions, self._deliver, functools.partial(_stop, self.calls))

    def waiter(self, number: int) -> asyncio.Future[None]:
        waiter = self.waiters[number] = asyncio.get_running_loop().create_future()
        return waiter

    @property
    def is_here(self) -> bool:
        """Whether its event loop is the one that runs here."""
        return self._watch.loop is asyncio._get_running_loop()

    def end(self) -> None:
        """All calls have been answered: wake the waiters, and leave the loop."""
        loop = self._watch.loop
        if loop is not None and self.home.is_here():
            on_loop(loop, self._deliver)
        self._watch.leave()

    def __del__(self) -> None:
        # It may have come to nothing.
        if (watch := getattr(self, "_watch", None)) is not None:
            watch.leave()


def _deliver(completions: _native.CompletionQueue, waiters: dict[int, asyncio.Future[None]]) -> None:
    for number in completions.take():
        waiter = waiters.get(number)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _stop(calls: dict[int, _native.ClientCall]) -> None:
    for call in list(calls.values()):
        call.stop()
