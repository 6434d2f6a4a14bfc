"""A queue between threads and coroutines: any number of both, on both ends, on any number of event loops.

Waiters are served in order of arrival, and what serves one is its own from then on, so one item wakes one consumer.
`close` ends it without sentinels: producers get `QueueClosed`, consumers drain what is left and end.

The line itself is native (`crates/unisono-python/src/queue`); here is what can be said in terms of it. There are no
priorities: put a `heapq` behind a lock where another order matters more than arrival.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from unisono._hooks import refuse_hooks
from unisono._keywords import told
from unisono._native import QueueCore, QueueWait, seconds, whole
from unisono.errors import QueueClosed

__all__ = ["Queue"]

T = TypeVar("T")

# What `aget` returns can then be given to `asyncio.create_task`, which asks for a coroutine.
Coroutine.register(QueueWait)


class Queue(QueueCore[T]):
    """A first-in, first-out queue for threads and coroutines alike.

    It has the calls of `queue.Queue`, and those of `asyncio.Queue` with an `a` in front where they wait. `QueueFull`
    and `QueueEmpty` are caught by code that was written for either module.

    Args:
        maxsize: How many items it holds at most; 0 for no bound.

    | threads | coroutines | |
    |---|---|---|
    | `put(item, block=True, timeout=None)` | `await aput(item)` | waits for room; `QueueFull` after `timeout` seconds |
    | `get(block=True, timeout=None)` | `await aget()` | waits for an item; `QueueEmpty` after `timeout` seconds |
    | `get_many(count, max_wait=0, timeout=None)` | `await aget_many(count, max_wait=0)` | takes 1 to `count` items |
    | `for item in queue` | `async for item in queue` | takes until the queue is closed and drained |
    | `join(timeout=None)` | `await ajoin()` | waits until `task_done` was called for each item; `TimeoutError` |
    | `put_nowait(item)`, `get_nowait()` | the same | never wait |
    | `close(immediate=False)`, `shutdown` | the same | no more is put; `immediate` throws away what is in it |
    | `task_done(count=1)`, `qsize()`, `empty()`, `full()`, `len` | the same | as the standard ones |
    | `waiting()` | the same | how many wait for an item, for room, and in `join` |

    A cancelled `aget` loses no item, and the item of a cancelled `aput` was not put. A `get` or `put` in the main
    thread can be interrupted with Ctrl-C. A queue is true even when it is empty. In the child of a fork a queue has the
    items it had, and nothing waits at it.

    >>> queue = Queue(maxsize=100)
    >>> queue.put("a")
    >>> queue.put("b")
    >>> queue.close()
    >>> list(queue)
    ['a', 'b']

    A thread gives to a coroutine:

    >>> import threading
    >>> async def total(queue):
    ...     return sum([number async for number in queue])
    >>> def produce(queue):
    ...     for number in range(10):
    ...         queue.put(number)
    ...     queue.close()
    >>> numbers = Queue()
    >>> threading.Thread(target=produce, args=[numbers]).start()
    >>> asyncio.run(total(numbers))
    45
    """

    @told("Queue")
    def __new__(cls, maxsize: int = 0) -> Self:
        """See the class."""
        return super().__new__(cls, maxsize)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        refuse_hooks(
            cls,
            ("_init", "_put", "_get", "_qsize"),
            "items lie in a line of this queue's own, first in, first out; for another order keep `queue.Queue`",
        )

    @property
    def is_shutdown(self) -> bool:
        """`closed`, by the name that it has in the standard library from Python 3.13 on."""
        return self.closed

    def shutdown(self, immediate: bool = False) -> None:
        """`close`, by the name that it has in the standard library from Python 3.13 on.

        Args:
            immediate: Throw away what is in it, as if it were done.
        """
        self.close(immediate)

    async def aget_many(self, count: int, *, max_wait: float = 0.0) -> list[T]:
        """Take 1 to `count` items: wait for the first as `aget` does, and then up to `max_wait` seconds for more.

        When it is cancelled, what it had taken goes back to the front.

        Args:
            count: How many at most.
            max_wait: How long to wait for more after the first, in seconds. With 0 it takes what is there.

        Raises:
            QueueClosed: The queue is closed and nothing is left.

        >>> async def main():
        ...     queue = Queue()
        ...     for number in range(5):
        ...         queue.put(number)
        ...     return await queue.aget_many(3), await queue.aget_many(3)
        >>> asyncio.run(main())
        ([0, 1, 2], [3, 4])
        """
        whole("count", count)
        longest = seconds("max_wait", max_wait)
        items = [await self.aget()]
        items += self._take(count - 1)
        if len(items) == count or longest <= 0:
            return items
        try:
            async with asyncio.timeout(longest):
                while len(items) < count:
                    items.append(await self.aget())
                    items += self._take(count - len(items))
        except (TimeoutError, QueueClosed):
            return items
        except BaseException:
            self._give_back(items)
            raise
        return items
