"""What is done as the program ends, in its order: all work is stopped, then the threads that served it are joined.

`atexit` alone would go by the order of imports.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from typing import TypeVar

CallT = TypeVar("CallT", bound=Callable[[], None])


def stops(call: CallT) -> CallT:
    """Call this first: it stops work."""
    _STOPS.append(call)
    return call


def joins(call: CallT) -> CallT:
    """Call this once all work is stopped: it joins threads."""
    _JOINS.append(call)
    return call


_STOPS: list[Callable[[], None]] = []
_JOINS: list[Callable[[], None]] = []


@atexit.register
def _say_it() -> None:
    for call in (*_STOPS, *_JOINS):
        call()
