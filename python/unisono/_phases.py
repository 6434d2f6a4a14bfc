"""Calls one after the other, each whatever the others raise: at the end of the program, and after a fork."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence


def call_all(calls: Sequence[Callable[[], None]]) -> None:
    """Make these calls in their order; what several of them raise comes out as one exception after the other."""
    with contextlib.ExitStack() as all_of_them:
        # It calls the last one first.
        for call in reversed(calls):
            all_of_them.callback(call)
