"""Which model when: run a function on samples, measure it, and say what to use.

`unisono.explain` returns an `Explanation`; printed, it is a table with reasons. It measures and does not guess: each
candidate is tried on the samples, and where the measurements do not suffice it says that it cannot tell.

It runs the function for real, many times. What the function does, it does.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from unisono._batches.given import many
from unisono._keywords import told
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
from unisono.explaining.subject import Subject
from unisono.explaining.watch import watched

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


@told("explain")
def explain(
    function: Callable[[ItemT], Any],
    samples: Iterable[ItemT],
    *,
    budget: float = 5.0,
    repeat: int | None = None,
    max_calls: int | None = None,
    max_workers: int = 32,
) -> Explanation:
    """Run a function on samples, and say whether coroutines, threads or processes make it faster, and how many.

    The function is run for real, on the first 100 samples, again and again and several at once, in this process and in
    others: of a quick one that is hundreds of calls. Do not give it one that must not be repeated, or limit it with
    `max_calls` or `repeat`. Before the first call, `unisono.explain` logs how many there may be (at INFO).

    Args:
        function: Takes one item; a coroutine function is measured on event loops of its own. It is called on threads
            that are not the caller's.
        samples: Items as they will be. More than one, since a single one says nothing of the others.
        budget: Seconds for all of it, and for any one call. Starting worker processes comes on top. Several calls at
            once that wait for each other for ever are given up after half a minute, or twenty times what they take
            alone. Time for which a busy machine keeps a call from running does not count for either.
        repeat: How many times each sample may be run, on average; `None` means as often as the budget allows.
        max_calls: How many times the function may be called at most, in all; `None` means as `repeat` says.
        max_workers: How many calls at once are tried at most.

    Raises:
        UsageError: There are no samples, an option is out of range, the function is a generator function, or it is
            explained on the thread of a running event loop; `await asyncio.to_thread(unisono.explain, ...)` does that.
        SampleFailed: The function raised an exception, which is the cause, be it `SystemExit`; or a call did not end
            within the budget; or it hangs when threads call it at once.

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
    budget = seconds("budget", budget, above_zero=True)
    if repeat is not None:
        whole("repeat", repeat)
    if max_calls is not None:
        whole("max_calls", max_calls)
    whole("max_workers", max_workers, least=2)
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "this is a worker process that imports the program: put what the program does below "
            '`if __name__ == "__main__":`'
        )
    if _on_a_loop():
        raise UsageError("explain would block this event loop: use `await asyncio.to_thread(unisono.explain, ...)`")
    subject = Subject(function, taken, repeat, max_calls)
    _logger.info("%s", subject.announcement(budget))
    return decide(*watched(subject, budget, lambda: measure(subject, budget=budget, most=max_workers)))


_logger = logging.getLogger("unisono.explain")
# A mean over so many says enough; more would leave less time for each.
_MOST_SAMPLES = 100


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
