"""A run's requests on their way: which worker sends which, and what is known of those that went with one.

Each request goes to the worker that has the fewest. To each there is a lane (see `_far`): one post at a time carries
what has come meanwhile, one question at a time waits for ends. A message that fails is sent again, since the other side
takes it once; after three times the lane is given up, and its worker left alone for a moment.

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

from unisono.clusters._cluster import Cluster, Inbox, Place
from unisono.clusters._far import GONE, TAKEN, Collect, Dismiss, News, Post

if TYPE_CHECKING:
    from unisono.clusters._executor import ClusterExecutor

__all__ = ["Errands", "Exchange"]


class Errands(Protocol):
    """Where requests come from, and their ends go: `unisono._native.Errands`, or a pipe to the command."""

    def wait(self) -> object:
        """Wait until there is something to take."""

    def take(self) -> tuple[list[tuple[int, bytes]], list[int], bool]:
        """Requests to send, numbers of those to stop, and whether the run is over."""

    def give_back(self, ends: list[tuple[int, bytes]]) -> None:
        """These have ended."""

    def lost(self, numbers: list[int], why: str) -> None:
        """Nobody knows what became of these."""

    def unsent(self, numbers: list[int], why: str) -> None:
        """These were never sent."""

    def give_up(self, why: str) -> None:
        """Nothing can be sent any more."""


@dataclass(eq=False)
class _Lane:
    place: Place
    name: str
    # What waits for the next post.
    outbox: dict[int, bytes] = field(default_factory=dict)
    stops: list[int] = field(default_factory=list)
    # What was posted, and has not ended.
    open: set[int] = field(default_factory=set)
    posts: int = 0
    posting: Post | None = None
    tries: int = 0
    heard: int = 0
    is_collecting: bool = False
    failures: int = 0
    served: int = 0

    def load(self) -> tuple[int, int]:
        """The less, the sooner it gets the next request; among equals they take turns."""
        return (len(self.open) + len(self.outbox), self.served)


class Exchange:
    """The requests of one run, sent by the workers of a cluster. Made by `ClusterExecutor.exchange`.

    Args:
        cluster: Carries messages.
        executor: What the executor is known by.
        inbox: Where calls from other threads go.
        places: The workers that are there; kept by the executor.
        options: The client's, as bytes.
        errands: Is told of ends.
        name: Tells the run apart.
    """

    def __init__(
        self,
        cluster: Cluster,
        executor: str,
        inbox: Inbox,
        places: list[Place],
        options: bytes,
        errands: Errands,
        name: str,
    ) -> None:
        self._cluster = cluster
        self._executor = executor
        self._inbox = inbox
        self._places = places
        self._options = options
        self._errands = errands
        self._name = name
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._lanes: dict[Place, _Lane] = {}
        self._made = 0
        # Workers that did not answer, and until when they are left alone.
        self._aside: dict[Place, float] = {}
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
        free = [place for place in self._places if self._aside.get(place, now) <= now]
        while self._waiting and free:
            number, request = self._waiting.popleft()
            lane = min((self._lane(place) for place in free), key=_Lane.load)
            lane.outbox[number] = request
            lane.served += 1
        for lane in self._lanes.values():
            self._post(lane)
            self._collect(lane)

    def next_look(self) -> float | None:
        """When to look after it again, by the monotonic clock, if nothing happens before."""
        if not self._waiting:
            return None
        if self._places:
            return min(self._aside.get(place, 0.0) for place in self._places)
        return self._without_places + LONGEST_WITHOUT_WORKERS

    def look_after(self, now: float) -> None:
        """See that nothing waits for a worker for ever."""
        if self._waiting and not self._places and now >= self._without_places + LONGEST_WITHOUT_WORKERS:
            self._refuse_waiting(f"{self._cluster.address} has had no worker for {LONGEST_WITHOUT_WORKERS:g} s")

    def on_left(self, place: Place, why: str) -> None:
        """A worker has gone."""
        self._without_places = time.monotonic()
        self._aside.pop(place, None)
        lane = self._lanes.pop(place, None)
        if lane is not None:
            self._lose(lane, f"the worker {place.name} has gone: {why}" if why else f"the worker {place.name} has gone")

    def on_broken(self, why: str) -> None:
        """The cluster has gone as a whole."""
        if self._why_broken is not None:
            return
        self._why_broken = why
        # Before any end is given back: the run is not to begin anything in its place.
        self._errands.give_up(why)
        lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            self._lose(lane, why)
        self._refuse_waiting(why)

    def _on_send(self, requests: list[tuple[int, bytes]], stops: list[int]) -> None:
        if self._why_broken is not None:
            self._errands.unsent([number for number, _ in requests], self._why_broken)
            return
        self._waiting.extend(requests)
        for number in stops:
            self._stop(number)

    def _stop(self, number: int) -> None:
        waits = next((waiting for waiting in self._waiting if waiting[0] == number), None)
        if waits is not None:
            self._waiting.remove(waits)
            self._errands.unsent([number], _STOPPED)
            return
        for lane in self._lanes.values():
            if lane.outbox.pop(number, None) is not None:
                self._errands.unsent([number], _STOPPED)
            elif number in lane.open:
                lane.stops.append(number)

    def _on_close(self, executor: ClusterExecutor) -> None:
        for lane in self._lanes.values():
            question = Dismiss(lane.place.token, self._executor, lane.name)
            self._cluster.ask(lane.place, question, lambda *_: None)
        self._lanes.clear()
        self._waiting.clear()
        if self in executor._exchanges:
            executor._exchanges.remove(self)

    def _lane(self, place: Place) -> _Lane:
        lane = self._lanes.get(place)
        if lane is None:
            self._made += 1
            lane = self._lanes[place] = _Lane(place, f"{self._name}-{self._made}")
        return lane

    # Posts.

    def _post(self, lane: _Lane) -> None:
        if lane.posting is not None or not (lane.outbox or lane.stops):
            return
        requests: list[tuple[int, bytes]] = []
        size = 0
        for number, request in list(lane.outbox.items()):
            size += len(request)
            if requests and size > _MOST_BYTES:
                break
            requests.append((number, lane.outbox.pop(number)))
        lane.open.update(number for number, _ in requests)
        stops, lane.stops = lane.stops, []
        lane.posts += 1
        options = self._options if lane.posts == 1 else None
        lane.posting = Post(lane.place.token, self._executor, lane.name, lane.posts, options, requests, [*stops])
        lane.tries = 1
        self._cluster.ask(lane.place, lane.posting, partial(self._posted, lane))

    def _posted(self, lane: _Lane, said: Any, why: str | None) -> None:
        if self._lanes.get(lane.place) is not lane or lane.posting is None:
            return
        if why is not None and lane.tries < _MOST_TRIES:
            lane.tries += 1
            self._cluster.ask(lane.place, lane.posting, partial(self._posted, lane))
            return
        if said == TAKEN:
            lane.posting = None
            return
        if why is None and lane.tries == 1:
            # The other side says that it has not begun these; after a try that failed, it may have before.
            self._take_back(lane, lane.posting.requests)
        if why is not None or said != GONE or lane.posts == 1:
            self._leave_alone(lane.place)
        self._drop(lane, why or "it had forgotten the run")

    # Ends.

    def _collect(self, lane: _Lane) -> None:
        # Not before the first post: there is nobody to ask.
        if lane.is_collecting or not lane.open or (lane.posts == 1 and lane.posting is not None):
            return
        lane.is_collecting = True
        question = Collect(lane.place.token, self._executor, lane.name, lane.heard)
        self._cluster.ask(lane.place, question, partial(self._collected, lane))

    def _collected(self, lane: _Lane, news: News | None, why: str | None) -> None:
        if self._lanes.get(lane.place) is not lane:
            return
        lane.is_collecting = False
        if why is not None:
            lane.failures += 1
            if lane.failures >= _MOST_TRIES:
                self._leave_alone(lane.place)
                self._drop(lane, why)
            return
        if news is None:
            self._drop(lane, "it had forgotten the run")
            return
        lane.failures = 0
        lane.heard, ends = news
        ends = [end for end in ends if end[0] in lane.open]
        ended = {number for number, _ in ends}
        lane.open -= ended
        # The engine may use these numbers again, and nobody has asked to stop what has them then.
        lane.stops = [number for number in lane.stops if number not in ended]
        self._errands.give_back(ends)

    # What goes wrong.

    def _leave_alone(self, place: Place) -> None:
        self._aside[place] = time.monotonic() + _ALONE

    def _drop(self, lane: _Lane, why: str) -> None:
        del self._lanes[lane.place]
        self._lose(lane, f"the worker {lane.place.name} does not answer: {why}")

    def _lose(self, lane: _Lane, why: str) -> None:
        self._take_back(lane, list(lane.outbox.items()))
        if lane.open:
            self._errands.lost(sorted(lane.open), why)

    def _take_back(self, lane: _Lane, requests: list[tuple[int, bytes]]) -> None:
        """What never began waits again: in its order, before what came later."""
        lane.open.difference_update(number for number, _ in requests)
        stopped = [number for number, _ in requests if number in lane.stops]
        if stopped:
            self._errands.unsent(stopped, _STOPPED)
        self._waiting.extendleft((number, request) for number, request in reversed(requests) if number not in stopped)

    def _refuse_waiting(self, why: str) -> None:
        if self._waiting:
            self._errands.unsent([number for number, _ in self._waiting], why)
            self._waiting.clear()


# As the executor's: whoever waits for a worker waits as long for either.
LONGEST_WITHOUT_WORKERS = 60.0
_STOPPED = "stopped before it was sent"
# A message is bounded, so that a large one does not keep the small ones waiting.
_MOST_BYTES = 8 << 20
_MOST_TRIES = 3
_ALONE = 5.0
