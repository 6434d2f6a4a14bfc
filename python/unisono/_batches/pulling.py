"""Items that come from queues: pulled by a thread, so that an empty queue does not keep outcomes from being taken.

The thread is told when there may be room, asks how much, waits for that many items at most, and pushes them. Nothing is
taken that the batch has no room for. Where that is no more than can begin, it looks again by itself, since the caller
that takes outcomes may be busy with one while the others end.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

from unisono._queue.queue import Queue
from unisono._threads import begin
from unisono.errors import QueueClosed, QueueEmpty

__all__ = ["AnyQueue", "Puller", "items_of"]

AnyQueue: TypeAlias = "Queue[Any] | queue.Queue[Any]"
# Only newer versions of Python have an end of their queues.
_ENDS: tuple[type[Exception], ...] = (QueueClosed, getattr(queue, "ShutDown", QueueClosed))
_NOTHING_NOW: tuple[type[Exception], ...] = (queue.Empty, *_ENDS)
_LOOP_ENDS: tuple[type[Exception], ...] = (QueueClosed, getattr(asyncio, "QueueShutDown", QueueClosed))


class Puller:
    """A thread that takes items from a queue when it is asked to.

    Args:
        source: Where items come from.
        room: Answers how many may be taken.
        looks: Whether it looks again unasked.
        push: Is given items, in order.
        end: Is called when there will be no more.
        give_back: Is given what was taken when it was stopped.

    Raises:
        RunError: There is no thread for it.
    """

    def __init__(
        self,
        source: AnyQueue,
        room: Callable[[], int],
        looks: bool,
        push: Callable[[list[Any]], None],
        end: Callable[[], None],
        give_back: Callable[[list[Any]], None],
    ) -> None:
        self._source = source
        self._room = room
        self._look_again = _LOOK_AGAIN if looks else None
        self._push = push
        self._give_back = give_back
        self._end = end
        self._wanted: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_idle = threading.Event()
        self._is_idle.set()
        # Held to push, so that nothing is pushed after a stop.
        self._lock = threading.RLock()
        self._is_stopped = False
        self.thread = threading.Thread(target=self._serve, name="unisono-items", daemon=True)
        begin(self.thread, "to take items from a queue")

    def ask(self) -> None:
        """Take what there is room for, unless some are being taken already."""
        if self._is_idle.is_set() and self._room() > 0:
            self._is_idle.clear()
            self._wanted.put(None)

    def stop(self) -> None:
        """Push nothing more. What is being taken goes back."""
        with self._lock:
            self._is_stopped = True
        self._wanted.put(None)

    def _serve(self) -> None:
        while True:
            with contextlib.suppress(queue.Empty):
                self._wanted.get(timeout=self._look_again)
            if self._is_stopped:
                return
            # From here on a wish would change nothing.
            self._is_idle.clear()
            if (count := self._room()) <= 0:
                self._is_idle.set()
                continue
            try:
                items = self._take(count)
            except _ENDS:
                self._end()
                return
            with self._lock:
                if self._is_stopped:
                    self._give_back(items)
                    return
                # Before the push, which may be answered by the next wish at once.
                self._is_idle.set()
                self._push(items)

    def _take(self, count: int) -> list[Any]:
        while not self._is_stopped:
            try:
                if isinstance(self._source, Queue):
                    return self._source.get_many(count, timeout=_LOOK_UP)
                items = [self._source.get(timeout=_LOOK_UP)]
            except (QueueEmpty, queue.Empty):
                continue
            try:
                while len(items) < count:
                    items.append(self._source.get_nowait())
            except _NOTHING_NOW:
                # An end that comes here comes again.
                pass
            return items
        return []


async def items_of(source: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """The items of a queue of asyncio's, until it is shut down (Python 3.13)."""
    while True:
        try:
            item = await source.get()
        except _LOOP_ENDS:
            return
        yield item


# Seconds after which a thread that waits for an item looks whether it is still wanted.
_LOOK_UP = 0.2
# And after which one that waits for room looks whether there is some.
_LOOK_AGAIN = 0.01
