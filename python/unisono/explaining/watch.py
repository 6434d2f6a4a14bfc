"""Measuring on a thread of its own, so that a call that does not end holds up nothing else.

A thread cannot be stopped. One whose call has not ended when its time is up is left behind; it ends with the program.
Its time does not go on while the machine keeps it from running (`machine.Served`): a busy machine is no hang.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from unisono._wording import seconds
from unisono.errors import SampleFailed
from unisono.explaining import machine
from unisono.explaining.subject import Running, Subject

__all__ = ["FunctionHangs", "watched"]

T = TypeVar("T")


class FunctionHangs(SampleFailed):
    """A call that this process made does not end, and for all that is known never will."""


def watched(subject: Subject, budget: float, work: Callable[[], T]) -> T:
    """Do work that calls the function, on another thread; returns what that work returned.

    Args:
        subject: The function; it says which call is under way.
        budget: Longest time for one call, in seconds, without those for which the machine was busy with others.
        work: What is done.

    Raises:
        FunctionHangs: When a call took longer.
    """
    over = threading.Event()
    found: list[T] = []
    raised: list[BaseException] = []

    def do() -> None:
        try:
            found.append(work())
        except BaseException as error:
            raised.append(error)
        finally:
            over.set()

    context: Any = contextvars.copy_context()
    threading.Thread(target=context.run, args=(do,), name="unisono-explain", daemon=True).start()
    seen: Running | None = None
    served: machine.Served | None = None
    try:
        while not over.wait(_LOOK_UP):
            running = subject.running
            if running is None or running is not seen:
                seen, served = running, None
            elif served is None:
                # Quick calls are over by now, so what is measured is not disturbed by looking at the machine.
                served = machine.Served(_LOOK_UP)
            elif served.passed() > budget:
                raise FunctionHangs(
                    f"{subject.name} had not ended on sample {running.place} after {seconds(budget)}, which is the "
                    "whole budget: it hangs, or needs a larger one"
                )
    finally:
        # Also when Ctrl-C has ended the wait: nothing further is called.
        subject.stop()
    if raised:
        raise raised[0]
    return found[0]


# Seconds.
_LOOK_UP = 0.05
