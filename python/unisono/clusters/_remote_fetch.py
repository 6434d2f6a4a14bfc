"""Fetching on a worker of a cluster: requests come in as bytes, are sent from here, and their ends are asked for.

A *session* is what one run has in one process: a native fetcher with its connections. What is sent to it has a number
and is taken once, however often it comes; what has ended is told until the next question acknowledges it. So a message
that is lost on the way costs another message, and never a second request.

A question names the process that it is meant for. A session that has ended, since it was not asked for a minute or a
program said so, is never begun again under its name: a batch for it is told that it is gone. It leaves out threads of
the worker: a question to Dask is answered on the event loop, where it waits without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from unisono._native import RemoteFetcher

__all__ = [
    "GONE",
    "TAKEN",
    "WRONG_PROCESS",
    "Collect",
    "Completions",
    "Dismiss",
    "Question",
    "RequestBatch",
    "answer",
    "farewell",
]

Completions: TypeAlias = tuple[int, list[tuple[int, bytes]]]
"""How often there has been completions, and what has ended: each request's number, and its end."""

TAKEN = "taken"
GONE = "gone"
WRONG_PROCESS = "wrong process"


@dataclass(frozen=True)
class _Address:
    """Where a question goes, and to which session of the worker.

    Attributes:
        token: The process.
        executor: The executor that asks.
        session: The session's name.
    """

    token: str
    executor: str
    session: str


@dataclass(frozen=True)
class RequestBatch(_Address):
    """Requests to send; answered by `TAKEN`, or why not: `GONE` or `WRONG_PROCESS`.

    Attributes:
        number: Counts the batches of a session, from 1.
        options: The client's, as bytes; with the first batch.
        requests: Each with its number.
        stops: Numbers of those to end early.
    """

    number: int
    options: bytes | None
    requests: list[tuple[int, bytes]]
    stops: list[int]


@dataclass(frozen=True)
class Collect(_Address):
    """What has ended? Answered by `Completions`, at once or when there is some, or after a few seconds; `None`: gone.

    Attributes:
        acknowledged: Which completions was acknowledged last; 0 for none.
    """

    acknowledged: int


@dataclass(frozen=True)
class Dismiss(_Address):
    """The run is over: everything is stopped, and forgotten."""


Question: TypeAlias = RequestBatch | Collect | Dismiss


@dataclass
class _ServedSession:
    fetcher: RemoteFetcher
    batches: int = 0
    told: int = 0
    # What was told last; kept until it was acknowledged.
    last: list[tuple[int, bytes]] = field(default_factory=list)

    def completions(self, acknowledged: int) -> Completions | None:
        if acknowledged < self.told:
            return (self.told, self.last)
        ends = self.fetcher.take(_MOST_BYTES)
        if ends is None:
            return None
        self.told += bool(ends)
        self.last = ends
        return (self.told, ends)


class _Sessions:
    """What this process has for every program that fetches here."""

    def __init__(self) -> None:
        # Held for a few updates, and while a client is made.
        self.lock = threading.Lock()
        self.sessions: dict[tuple[str, str], _ServedSession] = {}
        # Names that were used, by program.
        self.used: dict[str, set[str]] = {}

    def get(self, question: Question) -> _ServedSession | None:
        with self.lock:
            return self.sessions.get((question.executor, question.session))

    def take(self, batch: RequestBatch) -> str:
        with self.lock:
            session = self.sessions.get((batch.executor, batch.session)) or self._begin(batch)
            if session is None or session.fetcher.is_over:
                return GONE
            if batch.number > session.batches:
                session.batches = batch.number
                session.fetcher.send(batch.requests)
                session.fetcher.stop(batch.stops)
            return TAKEN

    def _begin(self, batch: RequestBatch) -> _ServedSession | None:
        used = self.used.setdefault(batch.executor, set())
        if batch.options is None or batch.session in used:
            return None
        used.add(batch.session)
        # Those of programs that died are found here, since nothing says so.
        for key in [key for key, session in self.sessions.items() if session.fetcher.is_over]:
            del self.sessions[key]
        session = self.sessions[batch.executor, batch.session] = _ServedSession(
            RemoteFetcher(batch.options, _LONGEST_UNSEEN)
        )
        return session

    def end(self, executor: str, name: str | None = None) -> None:
        with self.lock:
            for key in [key for key in self.sessions if key[0] == executor and name in (None, key[1])]:
                self.sessions.pop(key).fetcher.close()
            if name is None:
                self.used.pop(executor, None)


def answer(question: Question, token: str) -> Any:
    """Answer a question, in the process of this token; a `Collect` waits for completions."""
    session, said = _look(question, token)
    if session is None:
        return said
    assert isinstance(question, Collect)
    session.fetcher.wait(_LONGEST_WAIT)
    return session.completions(question.acknowledged)


async def answer_on_loop(question: Question, token: str) -> Any:
    """The same on an event loop, which goes on meanwhile."""
    session, said = _look(question, token)
    if session is None:
        return said
    assert isinstance(question, Collect)
    await _rung(session.fetcher.fileno(), _LONGEST_WAIT)
    return session.completions(question.acknowledged)


def farewell(executor: str) -> None:
    """Forget a program that sends nothing any more."""
    _sessions.end(executor)


def _look(question: Question, token: str) -> tuple[_ServedSession | None, Any]:
    """What to wait for completions from; or nothing to wait for, and what to say."""
    if question.token != token:
        return None, WRONG_PROCESS if isinstance(question, RequestBatch) else None
    if isinstance(question, RequestBatch):
        return None, _sessions.take(question)
    if isinstance(question, Dismiss):
        _sessions.end(question.executor, question.session)
        return None, None
    session = _sessions.get(question)
    completions = session.completions(question.acknowledged) if session is not None else None
    return (session, None) if completions is not None and not completions[1] else (None, completions)


async def _rung(descriptor: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    acknowledged = loop.create_future()
    loop.add_reader(descriptor, lambda: None if acknowledged.done() else acknowledged.set_result(None))
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(acknowledged, seconds)
    finally:
        loop.remove_reader(descriptor)


_sessions = _Sessions()

# Bodies that come together wait for one another on their way.
_MOST_BYTES = 8 << 20
_LONGEST_WAIT = 10.0
# A program that lives asks again at once.
_LONGEST_UNSEEN = 60.0
