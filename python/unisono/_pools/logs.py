"""What pools tell of their workers and threads, handed on to `logging` as `unisono.pool`.

A pool of processes puts down what happens and calls nothing; its own thread, which also runs the callbacks of futures,
takes that and makes the records. It holds no lock of the pool then, so a handler may use the pool, and no task waits
for one. All are made when `shutdown` has waited. There is no handler of ours.

The logger is asked for its level once, when the pool is made. Records have what those of batches have, `item` (the
function), `key` and `attempt`, and beside them `pool`, `task`, `pid`, `exit_code` and `signal`; each is `None` where
there is none.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

from unisono import _native

__all__ = ["LOGGER", "hand_on", "members", "tell"]

LOGGER = logging.getLogger("unisono.pool")


def hand_on(name: str, engine: _native.PoolEngine) -> None:
    """Log what has happened to the workers of a pool."""
    for level, text, about in engine.events():
        tell(level, "the process pool %s: %s", name, text, **members(name, **about))


def tell(level: int, message: str, *arguments: Any, **extra: Any) -> None:
    """Log something in a thread of ours, which no handler or filter ends."""
    try:
        LOGGER.log(level, message, *arguments, extra=extra)
    except BaseException:
        if logging.raiseExceptions:
            traceback.print_exc()


def members(pool: str, **about: Any) -> dict[str, Any]:
    """What a record has beside its message."""
    return {"pool": pool, **dict.fromkeys(_MEMBERS), **about}


_MEMBERS = ("item", "key", "attempt", "task", "pid", "exit_code", "signal")
