"""What is done as the program ends, in its order, whatever was imported when.

Tasks of threads are finished before the interpreter waits for threads. Then, with what `atexit` calls: jobs are waited
for, all other work is stopped, and the threads that served it are joined. Each is done whatever the others raise.

All of it is registered with the first import of unisono, and not by the modules that have something to do, since those
are imported when they are first asked for: `threading` takes nothing more by the time that the last threads run, and
what a program gave to `atexit` after it had imported unisono comes before we stop anything.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

# Registers its own end where we do, where the last one goes first: tasks that finish then may use its executors.
from concurrent.futures import thread  # noqa: F401
from typing import TypeVar

from unisono import _phases

CallT = TypeVar("CallT", bound=Callable[[], None])


def finishes(call: CallT) -> CallT:
    """Call this before the interpreter waits for threads: it finishes what they do. At once, if that time is over."""
    _FINISHES.append(call)
    if _threads_end:
        call()
    return call


def waits(call: CallT) -> CallT:
    """Call this before anything is stopped: it waits for work that a program is not ended under."""
    _WAITS.append(call)
    return call


def stops(call: CallT) -> CallT:
    """Call this once nothing is waited for any more: it stops work; of several, what was registered last goes first."""
    _STOPS.append(call)
    return call


def joins(call: CallT) -> CallT:
    """Call this once all work is stopped: it joins threads."""
    _JOINS.append(call)
    return call


def _end_threads() -> None:
    global _threads_end
    _threads_end = True
    _phases.call_all(_FINISHES)


def _end() -> None:
    _phases.call_all([*_WAITS, *reversed(_STOPS), *_JOINS])


_FINISHES: list[Callable[[], None]] = []
_WAITS: list[Callable[[], None]] = []
_STOPS: list[Callable[[], None]] = []
_JOINS: list[Callable[[], None]] = []
_threads_end = False

# Not `atexit`: its functions run after the interpreter has waited for all threads, which would then wait for us. The
# executors of the standard library are registered here as well.
threading._register_atexit(_end_threads)  # type: ignore[attr-defined]
atexit.register(_end)
