"""Fetching on a worker of a cluster: requests come in as bytes, are sent from here, and their ends are asked for.

A *lane* is what one run has in one process: a native fetcher with its connections. What is posted to it has a number
and is taken once, however often it comes; what has ended is told until the next question says that it was heard. So a
message that is lost on the way costs another message, and never a second request.

A question names the process that it is meant for. A lane that has ended, since nobody asked for a minute or somebody
said so, is never begun again under its name: who posts to it is told that it is gone. It leaves out threads of the
worker: a question to Dask is answered on the event loop, where it waits without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from unisono._native import FarFetcher

__all__ = ["ELSEWHERE", "GONE", "TAKEN", "Collect", "Dismiss", "News", "Post", "Question", "answer", "farewell"]

News: TypeAlias = tuple[int, list[tuple[int, bytes]]]
"""How often there has been news, and what has ended: each request's number, and its end."""

TAKEN = "taken"
GONE = "gone"
ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class _Address:
    """Whom a question is for.

    Attributes:
        token: The process.
        executor: Who asks.
        lane: The lane's name.
    """

    token: str
    executor: str
    lane: str


@dataclass(frozen=True)
class Post(_Address):
    """Requests to send; answered by `TAKEN`, or why not: `GONE` or `ELSEWHERE`.

    Attributes:
        number: Counts the posts of a lane, from 1.
        options: The client's, as bytes; with the first post.
        requests: Each with its number.
        stops: Numbers of those to end early.
    """

    number: int
    options: bytes | None
    requests: list[tuple[int, bytes]]
    stops: list[int]


@dataclass(frozen=True)
class Collect(_Address):
    """What has ended? Answered by `News`, at once or when there is some, or after a few seconds; `None`: gone.

    Attributes:
        heard: Which news was heard last; 0 for none.
    """

    heard: int


@dataclass(frozen=True)
class Dismiss(_Address):
    """The run is over: everything is stopped, and forgotten."""


Question: TypeAlias = Post | Collect | Dismiss


@dataclass
class _Lane:
    fetcher: FarFetcher
    posts: int = 0
    told: int = 0
    # What was told last; kept until it was heard.
    last: list[tuple[int, bytes]] = field(default_factory=list)

    def news(self, heard: int) -> News | None:
        if heard < self.told:
            return (self.told, self.last)
        ends = self.fetcher.take(_MOST_BYTES)
        if ends is None:
            return None
        self.told += bool(ends)
        self.last = ends
        return (self.told, ends)


class _Lanes:
    """What this process has for every program that fetches here."""

    def __init__(self) -> None:
        # Held for a few updates, and while a client is made.
        self.lock = threading.Lock()
        self.lanes: dict[tuple[str, str], _Lane] = {}
        # Names that were used, by program.
        self.used: dict[str, set[str]] = {}

    def get(self, question: Question) -> _Lane | None:
        with self.lock:
            return self.lanes.get((question.executor, question.lane))

    def take(self, post: Post) -> str:
        with self.lock:
            lane = self.lanes.get((post.executor, post.lane)) or self._begin(post)
            if lane is None or lane.fetcher.is_over:
                return GONE
            if post.number > lane.posts:
                lane.posts = post.number
                lane.fetcher.send(post.requests)
                lane.fetcher.stop(post.stops)
            return TAKEN

    def _begin(self, post: Post) -> _Lane | None:
        used = self.used.setdefault(post.executor, set())
        if post.options is None or post.lane in used:
            return None
        used.add(post.lane)
        # Those of programs that died are found here, since nobody says so.
        for key in [key for key, lane in self.lanes.items() if lane.fetcher.is_over]:
            del self.lanes[key]
        lane = self.lanes[post.executor, post.lane] = _Lane(FarFetcher(post.options, _LONGEST_UNSEEN))
        return lane

    def end(self, executor: str, name: str | None = None) -> None:
        with self.lock:
            for key in [key for key in self.lanes if key[0] == executor and name in (None, key[1])]:
                self.lanes.pop(key).fetcher.close()
            if name is None:
                self.used.pop(executor, None)


def answer(question: Question, token: str) -> Any:
    """Answer a question, in the process of this token; a `Collect` waits for news."""
    lane, said = _look(question, token)
    if lane is None:
        return said
    assert isinstance(question, Collect)
    lane.fetcher.wait(_LONGEST_WAIT)
    return lane.news(question.heard)


async def answer_on_loop(question: Question, token: str) -> Any:
    """The same on an event loop, which goes on meanwhile."""
    lane, said = _look(question, token)
    if lane is None:
        return said
    assert isinstance(question, Collect)
    await _rung(lane.fetcher.fileno(), _LONGEST_WAIT)
    return lane.news(question.heard)


def farewell(executor: str) -> None:
    """Forget a program that sends nothing any more."""
    _lanes.end(executor)


def _look(question: Question, token: str) -> tuple[_Lane | None, Any]:
    """What to wait for news from; or nothing to wait for, and what to say."""
    if question.token != token:
        return None, ELSEWHERE if isinstance(question, Post) else None
    if isinstance(question, Post):
        return None, _lanes.take(question)
    if isinstance(question, Dismiss):
        _lanes.end(question.executor, question.lane)
        return None, None
    lane = _lanes.get(question)
    news = lane.news(question.heard) if lane is not None else None
    return (lane, None) if news is not None and not news[1] else (None, news)


async def _rung(descriptor: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    heard = loop.create_future()
    loop.add_reader(descriptor, lambda: None if heard.done() else heard.set_result(None))
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard, seconds)
    finally:
        loop.remove_reader(descriptor)


_lanes = _Lanes()

# Bodies that come together wait for one another on their way.
_MOST_BYTES = 8 << 20
_LONGEST_WAIT = 10.0
# A program that lives asks again at once.
_LONGEST_UNSEEN = 60.0
