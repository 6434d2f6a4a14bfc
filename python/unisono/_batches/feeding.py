"""What a batch is given, on its way into the batch's run: from an iterable, an async iterable or a queue.

A task that takes from an async iterable, and a thread that takes from a queue, hold the `Feeder` and never the batch,
so they do not keep a batch that nothing else holds: it stops them as it goes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterable, Iterator
from itertools import islice
from typing import Any

from unisono import _native
from unisono._batches.listening import Listener, on_loop
from unisono._batches.pulling import Puller, items_of
from unisono._batches.returning import Returns
from unisono._queue.queue import Queue
from unisono.errors import RunError, UsageError

__all__ = ["Feeder"]


class Feeder:
    """Pushes items as there is room for them.

    Args:
        given: Where they come from.
        noun: What they are, in messages.
        run: Where they go.
        listener: Is notified when there may be room.
        items: Gets each item by its number; `None` when nothing needs them.
        returns: Takes back what comes too late, where items come from a queue.
        ahead: How many times its limit the run may have of a queue's items that have no outcome; `None` for what it has
            room for.
        limit: The limit with which the run starts.

    Attributes:
        pushed: How many items have been taken in.
        is_over: There will be no more.
        is_lost: The event loop that they were taken on was closed before.
        error: What the iterable raised.
    """

    def __init__(
        self,
        given: Any,
        noun: str,
        run: _native.Run[Any],
        listener: Listener,
        items: dict[int, Any] | None,
        returns: Returns | None = None,
        ahead: int | None = None,
        limit: int = 1,
    ) -> None:
        self.pushed = 0
        self.is_over = False
        self.is_lost = False
        self.error: BaseException | None = None
        self._given = items_of(given) if isinstance(given, asyncio.Queue) else given
        self._noun = noun
        self._run = run
        self._listener = listener
        self._items = items
        self._returns = returns
        # Others may take from a queue, so that it is not emptied before there is something to do with it.
        self._ahead = ahead if returns is not None else None
        self._limit = limit
        self._source: Iterator[Any] | None = None
        self._puller: Puller | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._lock = threading.Lock()
        # The thread that pulls.
        self._owner: int | None = None

    def go_on(self) -> bool:
        """Push what there is room for, from a thread; whether anything was done.

        Raises:
            UsageError: When the items come from the batch itself.
        """
        if self._owner == threading.get_ident():
            raise UsageError(
                f"the {self._noun} take outcomes of the batch that they are for, which would wait for itself"
            )
        # Several threads may take from one batch, and one of them pulls.
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._owner = threading.get_ident()
            return self._go_on()
        finally:
            self._owner = None
            self._lock.release()

    def _go_on(self) -> bool:
        self._end_with_loop()
        if self.is_over:
            return False
        if isinstance(self._given, Queue | queue.Queue):
            if self._puller is None:
                looks = self._ahead is not None
                self._puller = Puller(self._given, self._room, looks, self._push, self._end, self._give_back)
                if self._returns is not None:
                    self._returns.puller = self._puller.thread
            # A waiter is notified as the engine takes what has been pushed.
            self._puller.ask()
            return False
        if self._source is None:
            if isinstance(self._given, AsyncIterable):
                raise UsageError(f"an async iterable of {self._noun} needs `async for` or `await`")
            self._source = iter(self._given)
        room = min(self._run.room(), _AT_ONCE)
        return room > 0 and self._push_from(self._source, room)

    def _room(self) -> int:
        """How many items of a queue may be taken now."""
        room = min(self._run.room(), _AT_ONCE)
        # Where all that is in doubt is looked for first, the engine says so, and what it takes in and does not begin
        # goes back.
        if self._ahead is None or room == 0 or self._run.looks_for_doubts():
            return room
        progress = self._run.progress()
        limit = self._run.limit
        if not (progress["in_flight"] or progress["done"]):
            # Before the engine begins, the run does not know its limit.
            limit = min(limit, self._limit)
        without_outcome: int = self.pushed - progress["done"]
        return min(room, self._ahead * limit - without_outcome)

    def go_on_on_loop(self) -> bool:
        """The same on an event loop, where an async iterable is taken from by a task."""
        if not isinstance(self._given, AsyncIterable):
            return self.go_on()
        self._end_with_loop()
        if self._task is None and not self.is_over:
            loop = asyncio.get_running_loop()
            if self._returns is not None:
                self._returns.loop = loop
            self._task = loop.create_task(self._take_from(self._given))
            self._task.add_done_callback(_look_at)
        return False

    @property
    def is_on_another_loop(self) -> bool:
        """Whether items come by another event loop than the one that runs here, which may be closed without a word."""
        return self._task is not None and self._task.get_loop() is not asyncio._get_running_loop()

    def _end_with_loop(self) -> None:
        """A task whose loop was closed never goes on."""
        if self._task is not None and not self.is_over and self._task.get_loop().is_closed():
            self._end(self._lost())

    def _lost(self) -> str:
        said = f"the event loop that the {self._noun} were taken on was closed before their end"
        self.error, self.is_lost = RunError(said), True
        return said

    def stop(self) -> None:
        """Push nothing more. May be called from any thread."""
        self._is_stopped = True
        if self._puller is not None:
            self._puller.stop()
        if self._task is not None and not self._task.done():
            on_loop(self._task.get_loop(), self._task.cancel)
        self._end()

    async def stop_on_loop(self) -> None:
        """The same, and wait until the async iterable has been left."""
        self.stop()
        task = self._task
        if task is not None and not task.done() and not self.is_on_another_loop:
            await asyncio.wait([task])
        while task is not None and not task.done() and task.get_loop().is_running():
            await asyncio.sleep(_LOOK_UP)

    def take_error(self) -> BaseException | None:
        """What the iterable raised, once."""
        error, self.error = self.error, None
        return error

    def _push_from(self, source: Iterator[Any], room: int) -> bool:
        if type(self._given) in _AT_HAND:
            there = list(islice(source, room))
            self._push(there)
            if len(there) < room:
                self._end()
            return True
        items: list[Any] = []
        ended, failed = False, None
        until = time.monotonic() + _LONGEST_PULL
        try:
            for _ in range(room):
                items.append(next(source))
                if time.monotonic() > until:
                    break
        except StopIteration:
            ended = True
        except (KeyboardInterrupt, SystemExit) as error:
            # It ends the program and not only the items; but what was pulled before is accounted for.
            self._push(items)
            self._end(self._said(error))
            raise
        except BaseException as error:
            # What was pulled before is accounted for first; then the exception is raised.
            ended, failed = True, self._failed(error)
        self._push(items)
        if ended:
            self._end(failed)
        return True

    def _push(self, items: list[Any]) -> None:
        first = self.pushed
        self.pushed += len(items)
        if self._items is not None:
            self._items.update(enumerate(items, first))
        self._run.push(first, items)

    def _give_back(self, items: list[Any]) -> None:
        if self._returns is not None:
            self._returns.hold(self.pushed, items)

    def _end(self, failed: str | None = None) -> None:
        if not self.is_over:
            self.is_over = True
            self._run.end_input(failed)

    async def _take_from(self, given: AsyncIterable[Any]) -> None:
        failed = None
        # Then what cancels this ends the loop, and it is nothing that the iterable raises.
        waits_for_room = False
        try:
            async for item in given:
                if self._is_stopped:
                    self._give_back([item])
                    break
                self._push([item])
                while self._room() <= 0 and not self._is_stopped and self._run.report() is None:
                    # Room comes with outcomes, and taking them notifies; or with a limit that is raised.
                    waits_for_room = True
                    await self._listener.wait(_LOOK_UP if self._ahead is not None else None)
                waits_for_room = False
        except (asyncio.CancelledError, GeneratorExit) as error:
            # If this was not stopped, the iterable was cancelled by what it waits for, or all on this loop was. It is
            # not raised, since the task would keep it, with its traceback, in a cycle with this.
            if not self._is_stopped:
                failed = self._lost() if waits_for_room else self._failed(error)
        except (KeyboardInterrupt, SystemExit) as error:
            # It ends the loop.
            failed = self._said(error)
            raise
        except BaseException as error:
            failed = self._failed(error)
        finally:
            self._end(failed)

    def _failed(self, error: BaseException) -> str:
        said = self._said(error)
        if isinstance(error, StopIteration | StopAsyncIteration):
            # Raised out of a loop over outcomes it would be taken for their end.
            self.error = RuntimeError(said)
            self.error.__cause__ = error
        else:
            self.error = error
        return said

    def _said(self, error: BaseException) -> str:
        try:
            return f"the {self._noun} raised {error!r}"
        except Exception:
            return f"the {self._noun} raised a {type(error).__name__}"


def _look_at(task: asyncio.Task[None]) -> None:
    """What ends the loop is raised by that; nothing else looks at it, which asyncio would complain of."""
    if not task.cancelled():
        task.exception()


# No code of the program's runs as these are iterated over: they are not slow, and do not fail.
_AT_HAND = frozenset({list, tuple, range})
# Enough to keep the engine busy between two looks, few enough that a slow iterator delays no outcome for long.
_AT_ONCE = 256
# Seconds.
_LOOK_UP = 0.05
# What a slow iterator has yielded is begun before it is asked for more.
_LONGEST_PULL = 0.02
