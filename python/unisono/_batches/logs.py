"""What runs tell of themselves, handed on to `logging`: retries, hosts that come and go, and with DEBUG each attempt.

Under `unisono.http`, `.commands`, `.files` and `.batch`; there is no handler of ours, so what is shown is the
program's to say. A logger is asked for its level once, when something begins: a level that is set later holds for what
begins later. Records have `item` (the row's name), `key` (the host) and `attempt`, each `None` where there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

__all__ = ["LogEvent", "hand_on", "level_of"]

# Level, message, item, key, attempt.
LogEvent = tuple[int, str, str | None, str | None, int | None]


def level_of(logger: logging.Logger) -> int | None:
    """The lowest of the levels that are used here which is on; `None` when none is."""
    levels = (logging.DEBUG, logging.INFO, logging.WARNING)
    return next((level for level in levels if logger.isEnabledFor(level)), None)


def hand_on(logger: logging.Logger, events: Iterable[LogEvent]) -> None:
    """Log what has happened."""
    for level, message, item, key, attempt in events:
        logger.log(level, "%s", message, extra={"item": item, "key": key, "attempt": attempt})
