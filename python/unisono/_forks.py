"""What is done in the child of a fork, in its order, whatever was imported when: the one place that asks to be told.

A child has a copy of everything, and one thread. First the native module forgets what the parent's threads waited for.
Then what goes on in the child is reset: locks that another thread may have held, and what stood behind them. Last, what
is the parent's is left behind: it is kept, since dropping it would touch what the parent's threads held at that moment.
Each is done whatever the others raise.

What is served by threads or sockets of the parent is neither: it is asked where it is at home, and refuses elsewhere
(`HomeProcess`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from unisono import _phases
from unisono._native import HomeProcess, after_fork_in_child

__all__ = ["HomeProcess", "leaves", "resets"]

CallT = TypeVar("CallT", bound=Callable[[], None])


def resets(call: CallT) -> CallT:
    """Call this in the child: it makes anew what threads of the parent may have held."""
    _RESETS.append(call)
    return call


def leaves(call: CallT) -> CallT:
    """Call this in the child, when all is reset: it keeps what is the parent's out of the way."""
    _LEAVES.append(call)
    return call


def _after_in_child() -> None:
    _phases.call_all([after_fork_in_child, *_RESETS, *_LEAVES])


_RESETS: list[Callable[[], None]] = []
_LEAVES: list[Callable[[], None]] = []

os.register_at_fork(after_in_child=_after_in_child)
