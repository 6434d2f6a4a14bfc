"""For how long something holds the interpreter lock, seen by a witness that asks for it.

The witness is a thread that sleeps half a millisecond and then needs the lock to go on. How much longer than asked its
sleep took is how long the lock was held, but for the time in which it was ready and had no CPU, which the kernel tells,
and for the delay of any wake-up. What that delay is on this machine at this moment is measured beforehand, under a load
that leaves the lock alone; waits that are not clearly longer count as none.

Time counts as held while the witness waits. The time that it sleeps counts half by what it finds afterwards, and half
by what was before: a lock that it got only because the interpreter makes threads take turns (after
`sys.getswitchinterval`, 5 ms by default) is taken again at once, one that was given back is free. What holds the lock
for tens of microseconds and then leaves it for as long is not seen; the speed-up on threads shows that.

Where the delay of wake-ups is near the interval of the turns, it cannot be told, and that is the answer. A build
without the lock holds it for no time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from unisono.explaining import machine

__all__ = ["Held", "held_while"]

_SLEEP = 0.0005


@dataclass(frozen=True, slots=True)
class Held:
    """The part of the time in which the lock was held, from 0 to 1, or why that is not known."""

    share: float | None
    unknown: str | None = None


def held_while(function: Callable[[], object]) -> Held:
    """Run the function once, and answer for how much of its time its thread held the lock."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        function()
        return Held(0.0)
    delays = sorted(_watched(lambda: machine.work(40)))
    waits = _watched(function)
    if len(delays) < 5 or len(waits) < 5:
        return Held(None, "too few looks at it")
    clear = max(0.0003, 3 * delays[int(len(delays) * 0.9)])
    if clear > 0.5 * sys.getswitchinterval():
        return Held(None, "the machine is too busy to see it")
    return Held(_share(waits, clear))


def _share(waits: list[float], clear: float) -> float:
    held = total = 0.0
    turn = 0.9 * sys.getswitchinterval()
    before = waits[0] > turn
    for wait in waits:
        after = wait > clear
        held += _SLEEP * (before + after) / 2 + (wait if after else 0.0)
        total += _SLEEP + wait
        before = wait > turn
    return held / total


def _watched(function: Callable[[], object]) -> list[float]:
    """How much longer than asked each sleep of the witness took while the function ran."""
    waits: list[float] = []
    over = threading.Event()

    def witness() -> None:
        with machine.queue_clock() as queued:
            began, before = time.perf_counter(), queued()
            while not over.is_set():
                time.sleep(_SLEEP)
                # To ask for it, the lock is given back and taken again: what that takes is part of the wait.
                after, now = queued(), time.perf_counter()
                waits.append(max(0.0, now - began - _SLEEP - (after - before)))
                began, before = now, after

    # Where the function does not end, the program may.
    thread = threading.Thread(target=witness, daemon=True)
    thread.start()
    try:
        function()
    finally:
        over.set()
        thread.join()
    return waits
