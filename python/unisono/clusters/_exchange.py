"""A run's requests on their way: which worker sends which, and what is known of those that went with one.

Each request goes to the worker that has the fewest. With each there is a session (see `_remote_fetch`): one batch at a
time carries what has come meanwhile, one question at a time waits for ends. A message that fails is sent again, since
the other side takes it once; after three times the session is given up, and its worker left alone for a moment.

What a worker that goes had not been sent yet goes to others. What it may have sent is lost, and the engine decides
whether it may be sent again. Nothing here is locked: all of it is done by the thread of the executor that decides.

It leaves out limits and retries: what comes here may be sent now.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from unisono.clusters._cluster import Cluster, ClusterWorker, Inbox
from unisono.clusters._remote_fetch import GONE, TAKEN, Collect, Completions, Dismiss, RequestBatch

if TYPE_CHECKING:
    from unisono.clusters._executor import ClusterExecutor

__all__ = ["RemoteExchange", "RemoteRequests"]


class RemoteRequests(Protocol):
    """Where requests come from, and their ends go: `unisono._native.RemoteRequests`, or a pipe to the command."""

    def wait(self) -> object:
        """Wait until there is something to take."""

    def take(self) -> tuple[list[tuple[int, bytes]], list[int], bool]:
        """Requests to send, numbers of those to stop, and whether the run is over."""

    def give_back(self, ends: list[tuple[int, bytes]]) -> None:
        """These have ended."""

    def lost(self, numbers: list[int], why: str) -> None:
        """What became of these is not known."""

    def unsent(self, numbers: list[int], why: str) -> None:
        """These were never sent."""

    def give_up(self, why: str) -> None:
        """Nothing can be sent any more."""


@dataclass(eq=False)
class _Session:
    worker: ClusterWorker
    name: str
    # What waits for the next batch.
    outbox: dict[int, bytes] = field(default_factory=dict)
    stops: list[int] = field(default_factory=list)
    # What was sent, and has not ended.
    open: set[int] = field(default_factory=set)
    batches: int = 0
    sending: RequestBatch | None = None
    tries: int = 0
    acknowledged: int = 0
    is_collecting: bool = False
    failures: int = 0
    served: int = 0

    def load(self) -> tuple[int, int]:
        """The less, the sooner it gets the next request; among equals they take turns."""
        return (len(self.open) + len(self.outbox), self.served)


class RemoteExchange:
    """The requests of one run, sent by the workers of a cluster. Made by `ClusterExecutor.exchange`.

    Args:
        cluster: Carries messages.
        executor: What the executor is known by.
        inbox: Where calls from other threads go.
        places: The workers that are there; kept by the executor.
        options: The client's, as bytes.
        remote_requests: Is told of ends.
        name: Tells the run apart.
    """

    def __init__(
        self,
        cluster: Cluster,
        executor: str,
        inbox: Inbox,
        places: list[ClusterWorker],
        options: bytes,
        remote_requests: RemoteRequests,
        name: str,
    ) -> None:
        self._cluster = cluster
        self._executor = executor
        self._inbox = inbox
        self._places = places
        self._options = options
        self._remote_requests = remote_requests
        self._name = name
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._sessions: dict[ClusterWorker, _Session] = {}
        self._made = 0
        # Workers that did not answer, and until when they are left alone.
        self._aside: dict[ClusterWorker, float] = {}
        self._without_places = time.monotonic()
        self._why_broken: str | None = None

    # From any thread.

    def send(self, requests: list[tuple[int, bytes]], stops: list[int]) -> None:
        """Have requests sent, and others stopped."""
        if requests or stops:
            self._inbox.put(lambda _: self._on_send(requests, stops))

    def close(self) -> None:
        """The run is over."""
        self._inbox.put(self._on_close)

    # On the thread that decides.

    def flush(self) -> None:
        """Hand on what has come."""
        now = time.monotonic()
        free = [worker for worker in self._places if self._aside.get(worker, now) <= now]
        while self._waiting and free:
            number, request = self._waiting.popleft()
            session = min((self._session(worker) for worker in free), key=_Session.load)
            session.outbox[number] = request
            session.served += 1
        for session in self._sessions.values():
            self._send_batch(session)
            self._collect(session)

    def next_look(self) -> float | None:
        """When to look after it again, by the monotonic clock, if nothing happens before."""
        if not self._waiting:
            return None
        if self._places:
            return min(self._aside.get(worker, 0.0) for worker in self._places)
        return self._without_places + LONGEST_WITHOUT_WORKERS

    def look_after(self, now: float) -> None:
        """See that nothing waits for a worker for ever."""
        if self._waiting and not self._places and now >= self._without_places + LONGEST_WITHOUT_WORKERS:
            self._refuse_waiting(f"{self._cluster.address} has had no worker for {LONGEST_WITHOUT_WORKERS:g} s")

    def on_left(self, worker: ClusterWorker, why: str) -> None:
        """A worker has gone."""
        self._without_places = time.monotonic()
        self._aside.pop(worker, None)
        session = self._sessions.pop(worker, None)
        if session is not None:
            self._lose(
                session, f"the worker {worker.name} has gone: {why}" if why else f"the worker {worker.name} has gone"
            )

    def on_broken(self, why: str) -> None:
        """The cluster has gone as a whole."""
        if self._why_broken is not None:
            return
        self._why_broken = why
        # Before any end is given back: the run is not to begin anything in its place.
        self._remote_requests.give_up(why)
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            self._lose(session, why)
        self._refuse_waiting(why)

    def _on_send(self, requests: list[tuple[int, bytes]], stops: list[int]) -> None:
        if self._why_broken is not None:
            self._remote_requests.unsent([number for number, _ in requests], self._why_broken)
            return
        self._waiting.extend(requests)
        for number in stops:
            self._stop(number)

    def _stop(self, number: int) -> None:
        waits = next((waiting for waiting in self._waiting if waiting[0] == number), None)
        if waits is not None:
            self._waiting.remove(waits)
            self._remote_requests.unsent([number], _STOPPED)
            return
        for session in self._sessions.values():
            if session.outbox.pop(number, None) is not None:
                self._remote_requests.unsent([number], _STOPPED)
            elif number in session.open:
                session.stops.append(number)

    def _on_close(self, executor: ClusterExecutor) -> None:
        for session in self._sessions.values():
            question = Dismiss(session.worker.token, self._executor, session.name)
            self._cluster.ask(session.worker, question, lambda *_: None)
        self._sessions.clear()
        self._waiting.clear()
        if self in executor._exchanges:
            executor._exchanges.remove(self)

    def _session(self, worker: ClusterWorker) -> _Session:
        session = self._sessions.get(worker)
        if session is None:
            self._made += 1
            session = self._sessions[worker] = _Session(worker, f"{self._name}-{self._made}")
        return session

    # Posts.

    def _send_batch(self, session: _Session) -> None:
        if session.sending is not None or not (session.outbox or session.stops):
            return
        requests: list[tuple[int, bytes]] = []
        size = 0
        for number, request in list(session.outbox.items()):
            size += len(request)
            if requests and size > _MOST_BYTES:
                break
            requests.append((number, session.outbox.pop(number)))
        session.open.update(number for number, _ in requests)
        stops, session.stops = session.stops, []
        session.batches += 1
        options = self._options if session.batches == 1 else None
        session.sending = RequestBatch(
            session.worker.token, self._executor, session.name, session.batches, options, requests, [*stops]
        )
        session.tries = 1
        self._cluster.ask(session.worker, session.sending, partial(self._batch_sent, session))

    def _batch_sent(self, session: _Session, said: Any, why: str | None) -> None:
        if self._sessions.get(session.worker) is not session or session.sending is None:
            return
        if why is not None and session.tries < _MOST_TRIES:
            session.tries += 1
            self._cluster.ask(session.worker, session.sending, partial(self._batch_sent, session))
            return
        if said == TAKEN:
            session.sending = None
            return
        if why is None and session.tries == 1:
            # The other side says that it has not begun these; after a try that failed, it may have before.
            self._take_back(session, session.sending.requests)
        if why is not None or said != GONE or session.batches == 1:
            self._leave_alone(session.worker)
        self._drop(session, why or "it had forgotten the run")

    # Ends.

    def _collect(self, session: _Session) -> None:
        # Not before the first batch: there is no session to ask.
        if session.is_collecting or not session.open or (session.batches == 1 and session.sending is not None):
            return
        session.is_collecting = True
        question = Collect(session.worker.token, self._executor, session.name, session.acknowledged)
        self._cluster.ask(session.worker, question, partial(self._collected, session))

    def _collected(self, session: _Session, completions: Completions | None, why: str | None) -> None:
        if self._sessions.get(session.worker) is not session:
            return
        session.is_collecting = False
        if why is not None:
            session.failures += 1
            if session.failures >= _MOST_TRIES:
                self._leave_alone(session.worker)
                self._drop(session, why)
            return
        if completions is None:
            self._drop(session, "it had forgotten the run")
            return
        session.failures = 0
        session.acknowledged, ends = completions
        ends = [end for end in ends if end[0] in session.open]
        ended = {number for number, _ in ends}
        session.open -= ended
        # The engine may use these numbers again, and what has them then was not asked to stop.
        session.stops = [number for number in session.stops if number not in ended]
        self._remote_requests.give_back(ends)

    # What goes wrong.

    def _leave_alone(self, worker: ClusterWorker) -> None:
        self._aside[worker] = time.monotonic() + _ALONE

    def _drop(self, session: _Session, why: str) -> None:
        del self._sessions[session.worker]
        self._lose(session, f"the worker {session.worker.name} does not answer: {why}")

    def _lose(self, session: _Session, why: str) -> None:
        self._take_back(session, list(session.outbox.items()))
        if session.open:
            self._remote_requests.lost(sorted(session.open), why)

    def _take_back(self, session: _Session, requests: list[tuple[int, bytes]]) -> None:
        """What never began waits again: in its order, before what came later."""
        session.open.difference_update(number for number, _ in requests)
        stopped = [number for number, _ in requests if number in session.stops]
        if stopped:
            self._remote_requests.unsent(stopped, _STOPPED)
        self._waiting.extendleft((number, request) for number, request in reversed(requests) if number not in stopped)

    def _refuse_waiting(self, why: str) -> None:
        if self._waiting:
            self._remote_requests.unsent([number for number, _ in self._waiting], why)
            self._waiting.clear()


# As the executor's: a caller that waits for a worker waits as long for either.
LONGEST_WITHOUT_WORKERS = 60.0
_STOPPED = "stopped before it was sent"
# A message is bounded, so that a large one does not keep the small ones waiting.
_MOST_BYTES = 8 << 20
_MOST_TRIES = 3
_ALONE = 5.0
