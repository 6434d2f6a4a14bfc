"""Which model when: run a function on samples, measure it, and say what to use.

`unisono.explain` answers an `Explanation`; printed, it is a table with reasons. It measures and does not guess: each
candidate is tried on the samples, and where the measurements do not suffice it says that it cannot tell.

It runs the function for real, many times. What the function does, it does.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from unisono._given import many
from unisono._native import seconds, whole
from unisono.errors import UsageError
from unisono.explaining.answer import (
    Blocking,
    Candidate,
    Confidence,
    Explanation,
    Measured,
    Model,
    Recommendation,
    Spread,
)
from unisono.explaining.decision import decide
from unisono.explaining.experiment import measure

__all__ = [
    "Blocking",
    "Candidate",
    "Confidence",
    "Explanation",
    "Measured",
    "Model",
    "Recommendation",
    "Spread",
    "decide",
    "explain",
]

ItemT = TypeVar("ItemT")


def explain(
    function: Callable[[ItemT], Any],
    samples: Iterable[ItemT],
    *,
    budget: float = 5.0,
    repeat: int | None = None,
    max_workers: int = 32,
) -> Explanation:
    """Run a function on samples, and say whether coroutines, threads or processes make it faster, and how many.

    The function is run for real, on the first 100 samples, again and again and several at once, in this process and in
    others. Do not give it one that must not be repeated, or limit it with `repeat`.

    Args:
        function: Takes one item; a coroutine function is measured on event loops of its own.
        samples: Items as they will be. More than one, since a single one says nothing of the others.
        budget: Seconds for all of it. A call that runs is not cut off, and starting worker processes comes on top.
            Several at once that wait for each other for ever are given up after half a minute, or twenty times what
            they take alone.
        repeat: How many times each sample may be run, on average; `None` means as often as the budget allows.
        max_workers: How many calls at once are tried at most.

    Raises:
        UsageError: There are no samples, an option is out of range, or a coroutine function is explained on the thread
            of a running event loop; `await asyncio.to_thread(unisono.explain, ...)` does that.
        SampleFailed: The function raised an exception, which is the cause; or it hangs when threads call it at once.

    >>> import time
    >>> def ask(name):
    ...     time.sleep(0.01)
    >>> answer = unisono.explain(ask, ["a", "b"], budget=3)
    >>> answer.recommendation.model in ("threads", None)  # None when the machine is too busy to tell
    True
    """
    taken = list(itertools.islice(many(samples, "samples"), _MOST_SAMPLES))
    if not taken:
        raise UsageError("there are no samples to explain the function with")
    seconds("budget", budget, above_zero=True)
    if repeat is not None:
        whole("repeat", repeat)
    whole("max_workers", max_workers, least=2)
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "this is a worker process that imports the program: put what the program does below "
            '`if __name__ == "__main__":`'
        )
    if _on_a_loop():
        raise UsageError("explain would block this event loop: use `await asyncio.to_thread(unisono.explain, ...)`")
    return decide(*measure(function, taken, budget=budget, repeat=repeat, most=max_workers))


# A mean over so many says enough; more would leave less time for each.
_MOST_SAMPLES = 100


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
