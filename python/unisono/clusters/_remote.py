"""What happens on a worker of a cluster: chunks of calls, none of which begins twice.

Every cluster repeats work by itself when it believes a worker dead, and believes so by a guess. So a chunk says which
process it is meant for, and that process remembers what it has begun: another one, or the same one a second time,
answers `None` and calls nothing.

Calls of a chunk are made one after another. `recall` comes in beside it, on a thread that is never busy: it hands out
the ends that are there, and takes away what has not begun, so that a slow call holds back nothing but itself.

What travels is bytes, pickled here and by us alone: a scheduler in between needs none of the program's modules, and an
item that cannot be read is that item's error. It leaves out isolation: a function that ends its process ends the
worker. `_call` is the one place that would hand a call to a process of its own.
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from unisono._native import __version__
from unisono._pools import pickling as _pickling
from unisono.clusters import _remote_fetch
from unisono.clusters._remote_fetch import Question

__all__ = ["ChunkResult", "Greeting", "Submission", "answer", "answer_on_loop", "farewell", "greet", "recall", "run"]

End: TypeAlias = tuple[int, bool, bytes]
"""A call's position in its chunk, whether it returned, and what it answered, or a `Described` of what it raised."""


@dataclass(frozen=True)
class Greeting:
    """What a worker is known by.

    Attributes:
        token: Tells its process apart from all others, also from a later one at the same address.
        version: Its version of unisono.
        python: Its version of Python, as `(3, 11)`.
    """

    token: str
    version: str
    python: tuple[int, int]


@dataclass(frozen=True)
class Submission:
    """A chunk of calls, as it is sent.

    Attributes:
        token: The process that it is meant for.
        executor: The executor that sends it.
        number: Its number; they ascend.
        settled: All chunks of this executor with lower numbers are over, and need not be remembered.
        key: Which function is called.
        function: The function, for a process that may not have it yet.
        items: What it is called with: arguments and keywords, pickled.
    """

    token: str
    executor: str
    number: int
    settled: int
    key: str
    function: bytes | None
    items: list[bytes]


@dataclass(frozen=True)
class ChunkResult:
    """What a chunk or a recall answers.

    Attributes:
        ends: Calls that have ended, of which no executor has been told.
        unbegun: Positions of calls that were taken away before they began, and never will.
        seconds: How long the calls took together.
    """

    ends: list[End]
    unbegun: list[int]
    seconds: float


@dataclass
class _BegunChunk:
    """A chunk that is being worked on."""

    items: list[bytes]
    begun: int = 0
    ends: list[End] = field(default_factory=list)


class _ExecutorState:
    """What must never begin, or never again: chunks that have begun, or were recalled before they came."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        # All below it are as good as seen, so that what is remembered is bounded by what is under way.
        self.settled = 0

    def has_seen(self, number: int) -> bool:
        return number < self.settled or number in self.seen

    def see(self, number: int, settled: int = 0) -> None:
        self.settled = max(self.settled, settled)
        self.seen = {one for one in self.seen if one >= self.settled}
        self.seen.add(number)


class _Process:
    """What this process knows of every program that sends it chunks."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        # Held for a few updates, never while a function runs.
        self.lock = threading.Lock()
        self.functions: dict[tuple[str, str], Callable[..., Any]] = {}
        # As they were sent.
        self.sources: dict[tuple[str, str], bytes] = {}
        self.chunks: dict[tuple[str, int], _BegunChunk] = {}
        self.programs: dict[str, _ExecutorState] = {}

    def claim(self, submission: Submission) -> _BegunChunk | None:
        """Begin a chunk, unless it is meant for another process or was here before."""
        with self.lock:
            program = self.programs.setdefault(submission.executor, _ExecutorState())
            if submission.token != self.token or program.has_seen(submission.number):
                return None
            program.see(submission.number, submission.settled)
            if submission.function is not None:
                self.sources[submission.executor, submission.key] = submission.function
            chunk = self.chunks[submission.executor, submission.number] = _BegunChunk(submission.items)
            return chunk

    def next(self, chunk: _BegunChunk) -> int | None:
        """The position of the call that begins now."""
        with self.lock:
            if chunk.begun == len(chunk.items):
                return None
            chunk.begun += 1
            return chunk.begun - 1

    def take_ends(self, chunk: _BegunChunk) -> list[End]:
        ends, chunk.ends = chunk.ends, []
        return ends


def answer(question: Question) -> Any:
    """Answer a question of a fetch; may wait. See `_remote_fetch.answer`."""
    return _remote_fetch.answer(question, _process.token)


async def answer_on_loop(question: Question) -> Any:
    """The same on an event loop."""
    return await _remote_fetch.answer_on_loop(question, _process.token)


def greet() -> Greeting:
    """What this process is known by."""
    return Greeting(_process.token, __version__, sys.version_info[:2])


def run(submission: Submission) -> bytes | None:
    """Make the calls of a chunk; returns a pickled `ChunkResult`, or `None` when it is meant for another process."""
    chunk = _process.claim(submission)
    if chunk is None:
        return None
    began = time.monotonic()
    try:
        while (position := _process.next(chunk)) is not None:
            end = _call(submission, position)
            with _process.lock:
                chunk.ends.append(end)
    finally:
        with _process.lock:
            del _process.chunks[submission.executor, submission.number]
    return pickle.dumps(ChunkResult(_process.take_ends(chunk), [], time.monotonic() - began))


def recall(token: str, executor: str, number: int, size: int) -> bytes | None:
    """Take back what has not begun of a chunk of `size` calls.

    Returns a pickled `ChunkResult`, or `None` from another process than the chunk was meant for, which cannot know.
    """
    with _process.lock:
        if token != _process.token:
            return None
        chunk = _process.chunks.get((executor, number))
        if chunk is None:
            # It has ended, and its answer says all; or it has not come yet, and never begins.
            program = _process.programs.setdefault(executor, _ExecutorState())
            unbegun = [] if program.has_seen(number) else list(range(size))
            program.see(number)
            return pickle.dumps(ChunkResult([], unbegun, 0.0))
        unbegun = list(range(chunk.begun, len(chunk.items)))
        del chunk.items[chunk.begun :]
        return pickle.dumps(ChunkResult(_process.take_ends(chunk), unbegun, 0.0))


def farewell(executor: str) -> None:
    """Forget a program that sends nothing any more."""
    _remote_fetch.farewell(executor)
    with _process.lock:
        _process.programs.pop(executor, None)
        for functions in (_process.functions, _process.sources):
            for known in [known for known in functions if known[0] == executor]:
                del functions[known]


def _call(submission: Submission, position: int) -> End:
    """Make one call. Whatever goes wrong with it, or with telling of it, is its end."""
    try:
        function = _function(submission)
        arguments, keywords = pickle.loads(submission.items[position])
        result = function(*arguments, **keywords)
    except BaseException as error:
        # A worker outlives what a function does, `sys.exit()` and all.
        return (position, False, _described(error))
    try:
        return (position, True, _pickling.dumps_by_value(result))
    except BaseException as error:
        mistake = TypeError(f"its result cannot be sent back: {_pickling.text_of(error)}")
        mistake.__cause__ = error
        return (position, False, _described(mistake))


def _function(submission: Submission) -> Callable[..., Any]:
    known = (submission.executor, submission.key)
    function = _process.functions.get(known)
    if function is None:
        # Read anew for each call as long as it cannot be read, since each says why.
        function = _process.functions[known] = pickle.loads(_process.sources[known])
    return function


def _described(error: BaseException) -> bytes:
    return pickle.dumps(_pickling.describe_error(error, _pickling.dumps_by_value))


_process = _Process()
