"""What an engine is to the executor: a `Cluster` that sends, an `Inbox` that hears, and a `ClusterWorker` per worker.

An engine never decides anything: it does what it is told, and says what has happened. All that it says is done by the
one thread of the executor, in the order in which it was said.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from unisono.clusters._remote import Submission
from unisono.clusters._remote_fetch import Question

if TYPE_CHECKING:
    from unisono.clusters._executor import ClusterExecutor

__all__ = ["Cluster", "ClusterWorker", "Inbox", "Then"]

Then: TypeAlias = Callable[[Any, str | None], None]
"""Told what was answered; or nothing, and why there was no answer from one that knows."""


@dataclass(eq=False)
class ClusterWorker:
    """A worker that calls can be sent to.

    Attributes:
        name: What people know it by: an address, or the number of an actor.
        token: Tells its process apart from all others.
        threads: How many chunks it works on at once.
        handle: What the cluster sends by.
    """

    name: str
    token: str
    threads: int
    handle: Any = None
    # What is under way there, as the executor notes it.
    chunks: set[Any] = field(default_factory=set)
    # Functions that it has answered for, and so has.
    knows: set[str] = field(default_factory=set)


class Cluster(Protocol):
    """What an engine has to offer. No method waits; what comes of them goes to the inbox.

    Attributes:
        name: The engine's name, which is a place where functions run: `dask` or `ray`.
        address: What people know the cluster by.
        can_kill: Whether a worker can be ended without harm to others, so that calls can be stopped.
        width: How many calls its workers make at once, as far as it knows from the start.
    """

    name: str
    address: str
    can_kill: bool
    width: int

    def send(self, worker: ClusterWorker, submission: Submission) -> None:
        """Have a chunk run by a worker, at most once; what it answers is `answered`."""

    def recall(self, worker: ClusterWorker, number: int, executor: str, size: int) -> None:
        """Ask a worker to give back what it has not begun of a chunk; what it answers is `recalled`."""

    def ask(self, worker: ClusterWorker, question: Question, then: Then) -> None:
        """Ask a worker beside its calls; `then` is told, by the thread that decides."""

    def kill(self, worker: ClusterWorker) -> None:
        """End a worker; then it has `left`."""

    def close(self, executor: str) -> None:
        """Leave the cluster; it may take as long as that takes."""


class Inbox:
    """Where a cluster says what has happened; from any thread."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Callable[[ClusterExecutor], None]] = queue.SimpleQueue()

    def joined(self, places: list[ClusterWorker]) -> None:
        """Workers have come."""
        self.put(lambda executor: executor._on_joined(places))

    def left(self, worker: ClusterWorker, why: str, sent: set[int] | None = None) -> None:
        """A worker has gone; nothing of what it had begun will answer.

        Args:
            worker: Which.
            why: Why, as far as is known.
            sent: Chunks that it may have begun; what is not among them never reached it, and never will. `None`: all.
        """
        self.put(lambda executor: executor._on_left(worker, why, sent))

    def answered(self, number: int, answer: bytes | None, why: str = "") -> None:
        """A chunk has answered; `None`: that it was never made, or that it failed on its way."""
        self.put(lambda executor: executor._on_answered(number, answer, why))

    def recalled(self, number: int, answer: bytes | None) -> None:
        """A recall has answered; `None`: it did not reach the process."""
        self.put(lambda executor: executor._on_recalled(number, answer))

    def said(self, then: Then, answer: Any, why: str | None = None) -> None:
        """A question was answered, or could not be asked."""
        self.put(lambda _: then(answer, why))

    def broken(self, why: str) -> None:
        """The cluster has gone as a whole."""
        self.put(lambda executor: executor._on_broken(why))

    def put(self, event: Callable[[ClusterExecutor], None]) -> None:
        """Have something done by the thread that decides."""
        self._events.put(event)

    def get(self, seconds: float | None) -> Callable[[ClusterExecutor], None] | None:
        """What is to be done next; `None` when there is nothing in that time, in seconds."""
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return self._events.empty()
