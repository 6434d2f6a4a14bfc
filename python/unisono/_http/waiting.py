"""Where the calls of clients wait for their ends: a thread at its queue, and an event loop for all of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from unisono import _native
from unisono._batches.listening import LoopWatch, on_loop
from unisono._forks import HomeProcess
from unisono._http.attempts import Attempts, drive, drive_on_loop
from unisono._http.pieces import async_pieces_of, pieces_of, why_none
from unisono._native import FetchOutcome, Response
from unisono.errors import FetchError, UsageError

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
        self.call = call
        self._attempts = attempts
        # The part of the body that is brought now, and its pieces: several parts are brought one after the other.
        self._part: int | None = None
        self._pieces: Iterator[bytes] | None = None
        self._cause: Exception | None = None

    def response(self) -> Response:
        """The answer, or the head of a stream.

        Raises:
            FetchError: There is none; its cause is what has kept the body from being brought.
        """
        return _checked(self.outcome(), self._cause)

    def outcome(self) -> FetchOutcome:
        """How the call ended, or the head of a stream; what its attempts are accompanied by has been told."""
        while True:
            outcome = self.call.outcome()
            # After the look: all that comes before an outcome is there when that is.
            if self._attempts is not None:
                drive(self._attempts.told(self._engine, self.call))
            if outcome is not None:
                if self._attempts is not None:
                    drive(self._attempts.ended(outcome))
                return outcome
            self._wait()

    def chunk(self) -> bytes:
        """The next piece of a stream; empty at its end."""
        while (chunk := self.call.chunk()) is None:
            self._wait()
        return chunk

    def _wait(self) -> None:
        if (wanted := self.call.wanted()) is not None:
            self._bring(*wanted)
        else:
            self._completions.wait()
            self._completions.take()

    def _bring(self, part: int, given: Any) -> None:
        """Bring the next piece of the body, on the thread of the caller: it may have what only that has."""
        if part != self._part or self._pieces is None:
            self._part, self._pieces = part, pieces_of(given)
        try:
            piece = next(self._pieces, None)
        except Exception as error:
            self._cause = error
            self.call.cannot_put(part, why_none(error))
        else:
            self.call.put(part, piece)


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
        # Made when a piece is wanted first: most calls have a body that is there.
        self._wants: asyncio.Event | None = None
        # The part of the body that is brought now, as with `ThreadWait`.
        self._part: int | None = None
        self._bringing: asyncio.Task[None] | None = None
        self._cause: Exception | None = None

    async def response(self) -> Response:
        """As `ThreadWait.response`."""
        if self._attempts is not None:
            return _checked(await self._accompanied(self._attempts), self._cause)
        while (outcome := self._call.outcome()) is None:
            waiter = self._waiter()
            self._look_for_wants()
            await waiter
        return outcome.check() if self._cause is None else _checked(outcome, self._cause)

    async def _accompanied(self, attempts: Attempts) -> FetchOutcome:
        """How the call ended; what its attempts are accompanied by has been told."""
        while True:
            # The waiter comes before the look: while a hook is awaited, what comes next may be told.
            waiter = self._waiter()
            outcome = self._call.outcome()
            await drive_on_loop(attempts.told(self._engine, self._call))
            if outcome is not None:
                await drive_on_loop(attempts.ended(outcome))
                return outcome
            self._look_for_wants()
            await waiter

    async def chunk(self) -> bytes:
        """As `ThreadWait.chunk`."""
        while (chunk := self._call.chunk()) is None:
            waiter = self._waiter()
            self._look_for_wants()
            await waiter
        return chunk

    def _waiter(self) -> asyncio.Future[None]:
        if not self._loop_calls.is_here:
            raise UsageError("the answer comes in on the event loop that it was asked for on: read it there")
        # Completions come to the queue of this very loop, so none can come between the look and the wait.
        return self._loop_calls.waiter(self._number)

    def _look_for_wants(self) -> None:
        if (wanted := self._call.wanted()) is not None:
            part, given = wanted
            self._wants = self._wants or asyncio.Event()
            self._wants.set()
            if part != self._part:
                # One task for all pieces of a part: what an async generator holds may be of its task. That of the part
                # before has put its last.
                self._part, self._bringing = part, asyncio.ensure_future(self._bring(part, given, self._wants))

    async def _bring(self, part: int, given: Any, wants: asyncio.Event) -> None:
        try:
            async with contextlib.aclosing(async_pieces_of(given)) as pieces:
                async for piece in pieces:
                    await self._put(part, piece, wants)
            await self._put(part, None, wants)
        except Exception as error:
            self._cause = error
            self._call.cannot_put(part, why_none(error))

    async def _put(self, part: int, piece: bytes | None, wants: asyncio.Event) -> None:
        await wants.wait()
        wants.clear()
        self._call.put(part, piece)

    def leave(self) -> None:
        """The call is over, or nothing waits for it any more."""
        self._loop_calls.waiters.pop(self._number, None)
        self._loop_calls.calls.pop(self._number, None)
        self._call.stop()

    @property
    def is_bringing(self) -> bool:
        """Whether something brings a body, which `close` waits for."""
        return self._bringing is not None

    async def close(self) -> None:
        """Nothing more is brought. What brings it has ended when this returns."""
        if self._bringing is not None:
            self._bringing.cancel()
            await asyncio.wait([self._bringing])


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


def _checked(outcome: FetchOutcome, cause: Exception | None) -> Response:
    """The answer; or the error, with what has kept the body from being brought."""
    try:
        return outcome.check()
    except FetchError as error:
        if cause is None:
            raise
        raise error from cause


def _deliver(completions: _native.CompletionQueue, waiters: dict[int, asyncio.Future[None]]) -> None:
    for number in completions.take():
        waiter = waiters.get(number)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _stop(calls: dict[int, _native.ClientCall]) -> None:
    for call in list(calls.values()):
        call.stop()
