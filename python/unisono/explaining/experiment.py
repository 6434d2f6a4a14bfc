"""The course of the measurements, within a budget.

A quarter of the budget learns what a call does; the rest goes to rounds, in which every candidate is tried once, next
to a plain loop and a look at how many cores are free. So a machine that becomes busy half way slows all of them
alike, and the spread over the rounds tells how steady it was.

What is tried follows from what was learnt: as many threads and processes as cores, more where calls wait, and
coroutines where the function is one. Many at once are tried only after some at once have paid.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence

from unisono.explaining import machine
from unisono.explaining.answer import Candidate, Measured, Model, Spread
from unisono.explaining.event_loop import WatchedLoop
from unisono.explaining.lock import Held, held_while
from unisono.explaining.subject import Subject
from unisono.explaining.trials import Trial

__all__ = ["measure"]

# Nine give a range with a confidence of 96 %; more would only shorten each.
_MOST_ROUNDS = 9
_LEARNING = 0.25
# Calls at once that a call which waits is tried with first.
_SOME = 8


def measure(subject: Subject, *, budget: float, most: int) -> tuple[Measured, tuple[Candidate, ...]]:
    """Run the function on the samples in every way that may help.

    Args:
        subject: The function and its samples.
        budget: Seconds that all of it may take; a call that runs is not cut off here.
        most: How many workers to try at most.

    Raises:
        SampleFailed: The function raised an exception.
    """
    until = time.perf_counter() + budget
    cores = machine.cores()
    free = [machine.free_cores(cores)]
    subject.learn(_LEARNING * budget)
    pickled = subject.pickled()
    short = subject.cost.wall < 0.02 * budget
    held = _lock(subject, budget) if short else Held(None, "a call takes too long to spend one on it")
    # Tracing makes Python code several times slower.
    memory = subject.memory() if short else None
    trials = [Trial(subject, model, workers, pickled.item_size) for model, workers in _plan(subject, cores, most)]
    try:
        for trial in trials:
            if trial.model == "processes" and pickled.impossible is not None:
                trial.exclude(pickled.impossible)
            else:
                until += trial.start()
        _run_rounds(subject, trials, until, most, lambda: free.append(machine.free_cores(cores)))
        candidates = tuple(trial.found() for trial in trials)
    finally:
        for trial in trials:
            trial.close()
    cost = subject.cost
    measured = Measured(
        function=subject.name,
        unnamed=subject.unnamed,
        coroutine=subject.coroutine,
        samples=len(subject.samples),
        calls=subject.calls,
        wall=cost.wall,
        cpu=cost.cpu,
        queued=cost.queued,
        blocked=max(0.0, cost.wall - cost.own_cpu - cost.queued),
        lock_held=None if held.share is None else held.share * cost.wall,
        lock_unknown=held.unknown,
        item_size=pickled.item_size,
        result_size=pickled.result_size,
        pickling=pickled.seconds,
        unpicklable=pickled.impossible,
        memory=memory,
        repeats=subject.repeats,
        loop=subject.blocking,
        cores=cores,
        free_cores=Spread.of(free),
    )
    return measured, candidates


def _lock(subject: Subject, budget: float) -> Held:
    if subject.coroutine:
        return Held(None, "for coroutines the time of the event loop counts")
    # A witness sees what holds the lock once in about 5 ms.
    count = subject.allow(max(1, min(1_000_000, round(min(0.1, 0.1 * budget) / subject.cost.wall))))
    if not count:
        return Held(None, "no call was left for it")
    items, _ = subject.pick(count)
    return held_while(lambda: subject.run(items, None))


def _plan(subject: Subject, cores: int, most: int) -> list[tuple[Model, int]]:
    cost = subject.cost
    waiting = max(0.0, cost.wall - cost.own_cpu - cost.queued) / cost.wall
    # One core may still be shared by two that wait.
    few, some = min(max(2, cores), most), min(_SOME, most)
    if subject.blocking is not None:
        plan: list[tuple[Model, int]] = [("coroutines", some)]
        if subject.blocking.share >= 0.25:
            computing = subject.blocking.working >= 0.5
            plan.append(("processes", few) if computing else ("threads", some))
        return plan
    # Where a call only waits, two at once say nothing that eight do not say better.
    plan = [("threads", few)] if waiting < 0.9 or some <= few else []
    if waiting >= 0.3 and some > few:
        plan.append(("threads", some))
    plan.append(("processes", few))
    if 0.3 <= waiting < 0.9:
        # So many keep all cores computing while the others wait.
        plan.append(("processes", min(some, math.ceil(few / (1 - waiting)))))
    return plan


def _run_rounds(
    subject: Subject,
    trials: list[Trial],
    until: float,
    most: int,
    look: Callable[[], None],
) -> None:
    left = until - time.perf_counter()
    with WatchedLoop() if subject.coroutine else contextlib.nullcontext() as loop:
        for number in range(_MOST_ROUNDS):
            began = time.perf_counter()
            # One more for the plain loop.
            block = min(0.25, max(0.005, left / ((_MOST_ROUNDS - 1) * (len(trials) + 1))))
            if _least(subject, trials, block) > until - began:
                break
            look()
            before = _drift(subject, loop, block / 2)
            # Each in its turn comes first, so that none always runs after the same other.
            turn = number % len(trials)
            for trial in trials[turn:] + trials[:turn]:
                trial.round(block)
            # One look before and one after, so that a machine that becomes busy in between shows.
            drift = (before + _drift(subject, loop, block / 2)) / 2
            look()
            for trial in trials:
                trial.settle(drift)
            if number == 0 and (more := _more(subject, trials, most)) is not None:
                trials.append(more)


def _least(subject: Subject, trials: Sequence[Trial], block: float) -> float:
    """Seconds that a round takes at least, if candidates that were not tried before do as well as they can."""
    wall = subject.cost.wall
    running = [trial for trial in trials if trial.excluded is None]
    return max(2 * wall, block) + sum(
        max(block, wall * trial.workers / (trial.speedups[-1] if trial.speedups else trial.workers))
        for trial in running
    )


def _drift(subject: Subject, loop: WatchedLoop | None, block: float) -> float:
    wall = subject.cost.wall
    count = subject.allow(max(1, round(block / wall)))
    if not count:
        return 1.0
    items, alone = subject.pick(count)
    began = time.perf_counter()
    subject.run(items, loop)
    return (time.perf_counter() - began) / alone


def _more(subject: Subject, trials: Sequence[Trial], most: int) -> Trial | None:
    """Many at once, if some at once have paid."""
    for trial in trials:
        if trial.workers == _SOME < most and trial.model != "processes" and trial.speedups and trial.speedups[0] >= 4:
            more = Trial(subject, trial.model, most, None)
            more.start()
            return more
    return None
