"""`Limiter`: the engine's limits without a batch, for threads and coroutines together.

What asks first goes first, among those with the same key; keys take turns. A place that is given to a waiter that is
cancelled, interrupted or gone goes to the next one. All of it is native (`crates/unisono-python/src/limiter`), so
that no exception from outside can come between two of its steps; here is what is to be said of it.

Left out: priorities, and limits that hold over several processes.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Self

from unisono import _shutdown
from unisono._keywords import told
from unisono._native import LimiterCore, PlaceWait, stop_clocks

__all__ = ["Limiter"]

# What `aacquire` returns can then be given to `asyncio.create_task`, which asks for a coroutine.
Coroutine.register(PlaceWait)

# Nothing is let in by time any more, and no thread of ours is in the way of the interpreter's end.
_shutdown.joins(stop_clocks)


class Limiter(LimiterCore):
    """Bounds how many are inside at once and how often one enters, thread or coroutine.

    One object may be shared by threads, coroutines on any number of event loops, and the functions of several batches.

    Args:
        limit: Most inside at once; no bound by default.
        rate: Most entries per time, as `"100/s"`, `"5000/m"` or `"100/s burst 20"`.
        per_key: Most inside at once with the same key; see `of`.
        per_key_rate: Most entries with the same key.

    Raises:
        UsageError: When a bound is not what it should be.

    | threads | coroutines | |
    |---|---|---|
    | `with limiter:` | `async with limiter:` | waits until there is a place; gives it back at the end of the block |
    | `with limiter.of(key):` | `async with limiter.of(key):` | the same with a key, such as a host |
    | `acquire(key="")` | `await aacquire(key="")` | where a block does not fit |
    | `release(key="")` | the same | gives a place back; `RuntimeError` when nothing with this key is inside |
    | `limit`, `set_limits(...)` | the same | may be changed at any time; a rate of `"none"` takes it away |
    | `inside`, `waiting` | the same | how many are inside, and how many wait for a place |

    No place is lost: when a task is cancelled, a thread gets Ctrl-C, or a loop is closed while they wait, or in the
    very moment in which they are let in, it goes to the next one. So does an entry of a rate, if nothing has entered
    since. On the thread of a running event loop a plain `with` or `acquire` that would have to wait raises
    `UsageError`, since the loop would wait with it. In the child of a fork nothing waits, and only what the forking
    thread has entered counts.

    >>> limiter = Limiter(limit=10, rate="1000/s", per_key=2)
    >>> with limiter:
    ...     limiter.inside
    1
    >>> async def call(host):
    ...     async with limiter.of(host):
    ...         return limiter.inside
    >>> asyncio.run(call("web-1"))
    1
    >>> limiter.limit = 20
    >>> limiter
    <Limiter limit=20 per_key=2 rate=1000/s inside=0 waiting=0>
    """

    @told("Limiter")
    def __new__(
        cls,
        limit: int | None = None,
        *,
        rate: str | None = None,
        per_key: int | None = None,
        per_key_rate: str | None = None,
    ) -> Self:
        """See the class."""
        return super().__new__(cls, limit, rate=rate, per_key=per_key, per_key_rate=per_key_rate)
