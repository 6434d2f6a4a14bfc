"""What a batch took from a queue and never began, on its way back to the front of that queue.

A batch reads ahead, and a queue may have other consumers: an item that is stopped before it has begun is theirs again.
It is either among the outcomes or in the queue, never in both.

Never begun is what the engine cancels at its first attempt before it hands it on, what a loop or an executor had been
handed and gives back, and what the engine was given too late for an outcome. What an executor or a cluster cannot say
of a call is taken for begun: it is not run twice.

What stops comes in portions. They go to the front together and in their order, at the end of the run; or once nothing
has come for a while, since a call that cannot be stopped may go on for long.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, TypeVar

from unisono import _native
from unisono._batches.listening import on_loop
from unisono._native import Outcome
from unisono._queue.queue import Queue
from unisono._threads import begin
from unisono.errors import RunError, UsageError

__all__ = ["Returns", "is_queue"]

OutcomeT = TypeVar("OutcomeT", bound=Outcome[Any])


def is_queue(given: object) -> bool:
    """Whether items come from a queue, which takes them back."""
    return isinstance(given, Queue | queue.Queue | asyncio.Queue)


class Returns:
    """Gives back to a queue what was taken from it and has not begun.

    Args:
        source: The queue.
        items: What outcomes that are still to come were taken for, by number.

    Attributes:
        loop: Where an `asyncio.Queue` is taken from.
        returned: How many outcomes those had that went back, by kind.
        is_left: Outcomes are not wanted any more.
        puller: The thread that takes from the queue, if one does.
    """

    def __init__(self, source: Any, items: dict[int, Any]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.returned: Counter[str] = Counter()
        self._source = source
        self._items = items
        self._held: dict[int, Any] = {}
        # Those that were handed on and taken back before they had begun.
        self._unbegun: set[int] = set()
        # Those of a batch that was left, which may be found among these yet: the engine does not wait for that.
        self._in_doubt: dict[int, Any] = {}
        self._has_finished = False
        # What has an outcome already, and may have more.
        self._seen: set[int] = set()
        self.is_left = False
        self.puller: threading.Thread | None = None
        # Threads and loops may take outcomes at once. Held while nothing waits.
        self._lock = threading.Lock()

    def sift(self, outcomes: list[OutcomeT]) -> list[OutcomeT]:
        """Keep what goes back; returns the others."""
        with self._lock:
            begun = []
            for outcome in outcomes:
                if self._is_unbegun(outcome):
                    self._held[outcome._number] = outcome.item
                    self.returned[outcome.kind] += 1
                else:
                    begun.append(outcome)
                    if self.is_left and outcome.attempts == 1 and outcome.kind != "ok":
                        self._in_doubt[outcome._number] = outcome.item
            # Of a request whose pages are outcomes of their own.
            self._seen.update(outcome._number for outcome in begun if outcome._number in self._items)
            return begun

    def take_back(self, number: int) -> None:
        """An item was handed on, and its call was taken back before it began."""
        with self._lock:
            self._unbegun.add(number)
            if number in self._in_doubt:
                self._held[number] = self._in_doubt.pop(number)
        if self._has_finished:
            self._flush()

    def hold(self, first: int, items: list[Any]) -> None:
        """Keep items that were taken and come too late, of which the first would have had this number."""
        with self._lock:
            self._held.update(enumerate(items, first))
        if self._has_finished:
            self._flush()

    def finish(self, run: _native.Run[Any]) -> None:
        """Give back all that is left, once the run has ended and the feed was stopped."""
        if self.puller is not None:
            # It may have some in hand. If it waits at the queue, it would be served what comes back.
            self.puller.join()
        self._give_back_the_rest(run)

    async def finish_on_loop(self, run: _native.Run[Any]) -> None:
        """The same; the loop goes on meanwhile."""
        while self.puller is not None and self.puller.is_alive():
            await asyncio.sleep(_VERY_SOON)
        self._give_back_the_rest(run)

    def _give_back_the_rest(self, run: _native.Run[Any]) -> None:
        while (outcomes := run.take(self._items)) is not None:
            self.sift(outcomes)
        with self._lock:
            # Whatever has no outcome by now came too late for one. But a run that has failed gives no account of what
            # it had begun, and that is not to be done twice.
            rest = {number: item for number, item in self._items.copy().items() if number not in self._seen}
            self._items.clear()
            untold = {at: item for at, item in rest.items() if run.has_begun(at) and at not in self._unbegun}
            self._in_doubt.update(untold)
            self._held.update((at, item) for at, item in rest.items() if at not in untold)
        self._has_finished = True
        self._flush()
        if untold:
            some = ", ".join(f"{item!r:.80}" for item in list(untold.values())[:_SHOWN])
            _log.error(
                "%d items of a queue had begun as their run failed; they may have been done, and do not go back: %s%s",
                len(untold),
                some,
                ", …" if len(untold) > _SHOWN else "",
            )

    def _flush(self) -> None:
        with self._lock:
            items = [self._held[number] for number in sorted(self._held)]
            self._held.clear()
            if items:
                _put_back(self._source, items, self.loop)

    def follow(self, run: _native.Run[Any]) -> None:
        """Outcomes are not wanted any more: a thread takes them to the run's end.

        Raises:
            RunError: There is no thread for it.
        """
        if not self.is_left:
            self.is_left = True
            begin(threading.Thread(target=self._follow, args=(run,), name="unisono-returns", daemon=True), _PURPOSE)

    def _follow(self, run: _native.Run[Any]) -> None:
        while (outcomes := run.take(self._items)) is not None:
            self.sift(outcomes)
            # What cannot be stopped, and goes on for long, keeps back none of the others.
            if not outcomes and not run.wait(_LONG) and (self.puller is None or not self.puller.is_alive()):
                self._flush()
        while not self._has_ended(run):
            run.wait(_SOON)
            run.clear()
        self.finish(run)
        # A task that waits for the end may have missed what was heard here.
        run.notify()

    def _has_ended(self, run: _native.Run[Any]) -> bool:
        try:
            return run.report() is not None
        except (UsageError, RunError):
            # It could not begin.
            return True

    def _is_unbegun(self, outcome: Outcome[Any]) -> bool:
        if outcome.ok or outcome._number in self._seen:
            return False
        # The engine does not wait for calls that it has stopped, and takes some of them for begun.
        is_taken_back = outcome.attempts == 1 and outcome._number in self._unbegun
        return is_taken_back or (outcome.attempts == 0 and outcome.kind == "cancelled")


def _put_back(source: Any, items: list[Any], loop: asyncio.AbstractEventLoop | None) -> None:
    """To the front, without a bound and also when the queue is closed. What was put stays unfinished."""
    if isinstance(source, Queue):
        source._give_back(items)
    elif isinstance(source, queue.Queue):
        with source.mutex:
            _to_front(source, source.queue, items)
            source.not_empty.notify(len(items))
    elif loop is None or loop.is_closed():
        _to_front(source, source._queue, items)
    else:
        on_loop(loop, _put_back_on_loop, source, items)


def _put_back_on_loop(source: Any, items: list[Any]) -> None:
    _to_front(source, source._queue, items)
    for _ in items:
        source._wakeup_next(source._getters)


def _to_front(source: Any, line: object, items: Iterable[Any]) -> None:
    if isinstance(line, deque):
        line.extendleft(reversed(list(items)))
        return
    # What has an order of its own, or is a stack: the last that was taken goes back first.
    for item in reversed(list(items)):
        source._put(item)


_log = logging.getLogger("unisono.batch")
# Of items that are named in a message.
_SHOWN = 10
_PURPOSE = "to give back what a queue's batch has not begun"
# Seconds.
_LONG = 0.5
_SOON = 0.05
_VERY_SOON = 0.002
