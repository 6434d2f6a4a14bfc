"""From measurements to a recommendation: a pure function, without a clock.

So each case can be written down in a test. The rules, in this order:

1. What was not measured is not recommended, and what may have been measured wrongly (a cache that answers repeats, one
   round only, a gain that cannot be, work that had to wait for cores) cannot be told.
2. A candidate is *faster* when the low end of its range is worth the trouble, *no faster* when the high end is not.
   When it is neither, and nothing else is faster, it cannot be told.
3. When some are faster, the one with the highest median wins, unless one that costs less comes close: coroutines cost
   less than threads, threads less than processes, few workers less than many.
   Where the interpreter lock is never held and threads gain, processes do not win over them.
4. When nothing is faster, a plain loop is the answer; but only if the candidates would not be faster either on a
   machine that is free. Otherwise it cannot be told.

It leaves out what was not measured: how many calls a server bears, and other machines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unisono._wording import counted, seconds, size
from unisono.explaining.answer import Candidate, Confidence, Explanation, Measured, Recommendation, Spread
from unisono.explaining.table import times

__all__ = ["decide"]

# A gain of less is not worth a pool, and not more than the noise of a quiet machine.
WORTHWHILE = 1.15
# How much of the highest speed-up one that costs less has to reach.
CLOSE = 0.8
# Below this share of the cores, what needs cores had no fair chance.
FREE_ENOUGH = 0.7
# With fewer rounds there is no spread, so nothing is known of the noise.
FEWEST_ROUNDS = 2
# Repeats that are so much faster than first runs do not do the same work.
CACHED = 5.0

# Two workers that seem more than so many times two times as fast were lucky in when others used the machine.
IMPOSSIBLE = 1.25
# What computes and has to wait for a core for so much of its time is measured along with what others do.
STARVED = 0.3
# What holds the interpreter lock for less of its time never has threads take turns, on whatever machine.
NEVER = 0.05

_COST = {"sequential": 0, "coroutines": 1, "threads": 2, "processes": 3}


def decide(measured: Measured, candidates: Sequence[Candidate]) -> Explanation:
    """Judge what was measured.

    Args:
        measured: What a call does.
        candidates: What was tried, and what was excluded.
    """
    tried = [candidate for candidate in candidates if candidate.rounds >= FEWEST_ROUNDS]
    doubt = _doubt(measured, candidates, tried)
    possible = [candidate for candidate in tried if not _is_impossible(measured, candidate)]
    faster = [candidate for candidate in possible if _speedup(candidate).low >= WORTHWHILE]
    gaining = [candidate for candidate in possible if _speedup(candidate).median >= WORTHWHILE]
    if faster and _never_holds_the_lock(measured) and any(candidate.model == "threads" for candidate in gaining):
        # Processes have nothing that threads lack then: where they seemed better, the machine was, in their rounds.
        possible = faster = [candidate for candidate in gaining if candidate.model != "processes"]
    notes = list(_notes(measured, candidates))
    recommendation, confidence = _CANNOT_TELL, _NOT_KNOWN
    if doubt is not None:
        reasons = [doubt]
    elif faster and _is_starved(measured):
        reasons = [
            "cannot tell: what computes had to share its cores with other programs, and so did all that was tried."
        ]
    elif faster:
        chosen = _cheapest_of_the_best(faster, possible)
        recommendation = _use(measured, chosen)
        reasons = list(_why_faster(measured, chosen, tried))
        confidence = _confidence(measured, chosen, tried)
    elif unclear := _unclear(measured, candidates, tried):
        reasons = unclear
    else:
        recommendation = _plain_loop(measured)
        reasons = list(_why_plain(measured, tried))
        confidence = _confidence(measured, None, tried)
    if recommendation.model is None and (_is_busy(measured) or _was_busy_at_times(measured)):
        reasons.append(_busy(measured))
    return Explanation(
        measured=measured,
        candidates=tuple(candidates),
        recommendation=recommendation,
        reasons=(*reasons, *notes),
        confidence=confidence,
    )


_CANNOT_TELL = Recommendation(model=None, workers=None, chunk=1, speedup=None, code="(nothing: see the reasons)")
_NOT_KNOWN: Confidence = "none"


def _doubt(measured: Measured, candidates: Sequence[Candidate], tried: Sequence[Candidate]) -> str | None:
    """Why the measurements are not to be trusted, if so."""
    if measured.repeats >= CACHED:
        return (
            f"cannot tell: a sample was {measured.repeats:.0f} times faster when it was not run for the first time. "
            "Something is cached, and repeats measure the cache. Explain the function without its cache."
        )
    if not tried and any(candidate.rounds for candidate in candidates):
        return (
            f"cannot tell: a call takes {seconds(measured.wall)}, and the budget or `repeat` left room for one "
            f"round only, of which the noise is not known. {_larger_budget(measured, candidates)}"
        )
    if not tried:
        return f"cannot tell: no candidate could be tried; the table says why. {_larger_budget(measured, candidates)}"
    return None


def _larger_budget(measured: Measured, candidates: Sequence[Candidate]) -> str:
    # Three rounds of a plain loop and each candidate, after the quarter of the time that learns what a call takes.
    enough = 3 * (2 + len(candidates)) * measured.wall / 0.75
    if enough < 5.0:
        return "Allow more repeats, or a larger budget."
    return f"A budget of about {enough:.0f} s would do, or samples that take less time."


def _is_impossible(measured: Measured, candidate: Candidate) -> bool:
    """Whether a gain is more than there can be."""
    speedup = _speedup(candidate)
    if speedup.high > IMPOSSIBLE * candidate.workers:
        return True
    # Threads cannot hold the lock for more time than there is; a share that is seen in samples is not exact.
    held = measured.lock_held or 0.0
    takes_turns = candidate.model == "threads" and held > 0.5 * measured.wall
    return takes_turns and speedup.median > IMPOSSIBLE * measured.wall / held


def _never_holds_the_lock(measured: Measured) -> bool:
    return measured.lock_held is not None and measured.lock_held < NEVER * measured.wall


def _is_starved(measured: Measured) -> bool:
    computes = measured.cpu >= 0.5 * (measured.wall - measured.queued)
    return computes and measured.queued >= STARVED * measured.wall


def _cheapest_of_the_best(faster: Sequence[Candidate], tried: Sequence[Candidate]) -> Candidate:
    highest = max(_speedup(candidate).median for candidate in faster)
    # One bad round must not make the costly one win, so that one that comes close need not be surely faster.
    enough = max(WORTHWHILE, CLOSE * highest)
    close = [candidate for candidate in tried if _speedup(candidate).median >= enough]
    return min(close, key=lambda candidate: (_COST[candidate.model], candidate.workers))


def _unclear(measured: Measured, candidates: Sequence[Candidate], tried: Sequence[Candidate]) -> list[str]:
    """Why it cannot be told whether anything is faster, if so. Nothing was surely faster."""
    reasons = []
    for candidate in tried:
        speedup = _speedup(candidate)
        if _is_impossible(measured, candidate):
            reasons.append(
                f"cannot tell: {_named(candidate)} seemed {speedup} as fast as a plain loop, which they cannot be; "
                "something else disturbed the rounds."
            )
        elif speedup.high >= WORTHWHILE:
            reasons.append(
                f"cannot tell: {_named(candidate)} were between {times(speedup.low)} and {times(speedup.high)} "
                f"times as fast as a plain loop, which is too wide to decide."
            )
        elif _could_gain_on_a_free_machine(measured, candidate):
            reasons.append(
                f"cannot tell: {_named(candidate)} were {times(speedup.median)} times as fast as a plain loop while "
                f"only {measured.free_cores.median:.1f} of {measured.cores} cores were free."
            )
    if reasons:
        return reasons
    missing = [candidate for candidate in candidates if candidate.model == "processes" and candidate.speedup is None]
    if missing and measured.cores > 1 and measured.cpu > 0.25 * measured.wall and not _uses_several_cores(measured):
        return [f"cannot tell: only processes could be faster, and they could not be tried: {missing[0].excluded}"]
    return []


def _could_gain_on_a_free_machine(measured: Measured, candidate: Candidate) -> bool:
    # With all cores free, a candidate would gain no more than this factor.
    most = _speedup(candidate).high * measured.cores / measured.free_cores.median
    if candidate.model == "threads" and measured.lock_held:
        # Threads cannot hold the lock for more time than there is.
        most = min(most, measured.wall / measured.lock_held)
    return _is_busy(measured) and most >= WORTHWHILE


def _is_busy(measured: Measured) -> bool:
    return measured.cores > 1 and measured.free_cores.median < FREE_ENOUGH * measured.cores


def _was_busy_at_times(measured: Measured) -> bool:
    return measured.free_cores.low < FREE_ENOUGH * measured.cores or measured.queued >= 0.1 * measured.wall


def _busy(measured: Measured) -> str:
    free = measured.free_cores
    return (
        f"the machine was busy: {free.median:.1f} ({free.low:.1f} to {free.high:.1f}) of {measured.cores} cores were "
        f"free while measuring, and a call waited {measured.queued / measured.wall:.0%} of its time for a core. Try "
        "again when it is quiet, or with a larger budget."
    )


def _why_faster(measured: Measured, chosen: Candidate, tried: Sequence[Candidate]) -> Iterator[str]:
    speedup = _speedup(chosen)
    rounds = counted(chosen.rounds, "round")
    yield f"{_named(chosen)} did {speedup} the work of a plain loop in the same time, measured in {rounds}."
    if chosen.model == "threads" and measured.coroutine:
        yield "each thread runs an event loop of its own, so a call that blocks its loop holds up no other."
    elif chosen.model == "threads":
        yield f"threads can help since a call leaves the interpreter lock to others: {_lock_free(measured)}."
    elif chosen.model == "processes" and measured.coroutine:
        yield "what a coroutine computes holds up everything else on its loop; each process has a loop of its own."
    elif chosen.model == "processes":
        if measured.lock_held is None or measured.lock_held >= 0.3 * measured.wall:
            yield f"threads take turns: {_lock_bound(measured)}. Each process has a lock of its own."
    elif chosen.model == "coroutines":
        yield f"a call leaves its event loop free {_free_share(measured):.0%} of its time, and others run meanwhile."
    for other in _best_of_others(chosen, tried):
        found = _speedup(other)
        if found.median >= CLOSE * speedup.median:
            yield f"{_named(other)} were about as fast ({found}), and cost more."
        else:
            yield f"{_named(other)} did {found}."
    most = max((other.workers for other in tried if other.model == chosen.model), default=0)
    if most == chosen.workers and speedup.low > 0.7 * chosen.workers and chosen.workers > measured.cores:
        yield f"more than {chosen.workers} at once were not tried; what the other side bears was not measured."
    if chosen.start is not None and chosen.start > 0:
        saved = measured.wall * (1 - 1 / speedup.median)
        items = max(1, round(chosen.start / saved))
        yield f"starting the workers takes {seconds(chosen.start)}, so it pays from about {items:,} items on."


def _why_plain(measured: Measured, tried: Sequence[Candidate]) -> Iterator[str]:
    best = max(tried, key=lambda candidate: _speedup(candidate).median)
    yield f"nothing beat a plain loop; the best were {_named(best)} with {_speedup(best)}."
    if _uses_several_cores(measured):
        yield (
            f"a call uses {measured.cpu / measured.wall:.1f} cores by itself, with threads of its own (as numpy's "
            "linear algebra does), so there is nothing left to gain."
        )
        return
    if measured.cores == 1:
        yield "there is one core, so what computes cannot be faster here; about other machines this says nothing."
    if measured.pickling is not None and measured.pickling >= 0.5 * measured.wall:
        yield (
            f"pickling item and result costs {seconds(measured.pickling)}, the work itself {seconds(measured.wall)}: "
            "sending it to another process costs more than doing it."
        )
    if measured.lock_held is not None and measured.lock_held >= 0.5 * measured.wall:
        yield f"threads take turns: {_lock_bound(measured)}."
    if measured.wall < 20e-6:
        yield f"a call takes {seconds(measured.wall)}; handing it to a worker takes longer than that."


def _notes(measured: Measured, candidates: Sequence[Candidate]) -> Iterator[str]:
    """What is worth knowing, whatever is recommended."""
    loop = measured.loop
    if loop is not None and loop.longest >= 0.02 and loop.share >= 0.2:
        what = "computing" if loop.working >= 0.5 else "waiting without `await`"
        where = f", at {loop.where}" if loop.where else ""
        remedy = (
            "give this work to a process pool with `await loop.run_in_executor(pool, ...)`"
            if loop.working >= 0.5
            else "use its asynchronous twin, or `await asyncio.to_thread(...)`"
        )
        yield (
            f"trap: the coroutine blocks its event loop for {seconds(loop.longest)} at a stretch by {what}{where}; "
            f"nothing else on the loop runs meanwhile. Remedy: {remedy}."
        )
    if not measured.coroutine and measured.blocked >= 0.5 * measured.wall > measured.cpu:
        yield (
            f"a call waits {measured.blocked / measured.wall:.0%} of its time. Coroutines could wait as well, for less "
            "memory, but the function would have to be written anew for them; that was not measured."
        )
    for candidate in candidates:
        if candidate.excluded is not None:
            yield f"{_named(candidate)} were left out: {candidate.excluded}"
    memory = max((candidate.memory or 0 for candidate in candidates), default=0)
    if memory:
        yield f"each process takes up to {size(memory)} of memory."


def _confidence(measured: Measured, chosen: Candidate | None, tried: Sequence[Candidate]) -> Confidence:
    if chosen is None:
        rounds = min(candidate.rounds for candidate in tried)
        rivals = False
    else:
        rounds = chosen.rounds
        rivals = any(
            _speedup(other).high > _speedup(chosen).high and _speedup(other).low < _speedup(chosen).high
            for other in tried
            if other is not chosen
        )
    # That a plain loop wins has been checked against a free machine already, and what waits needs no cores.
    needs_cores = chosen is not None and measured.cpu + measured.queued > 0.5 * measured.wall
    unsure = chosen is not None and _is_wide(_speedup(chosen))
    if rounds < 3 or unsure or (_is_busy(measured) and needs_cores):
        return "low"
    return "medium" if rivals or rounds < 5 else "high"


def _is_wide(speedup: Spread) -> bool:
    return speedup.low < WORTHWHILE or speedup.high > 2 * speedup.low


def _use(measured: Measured, chosen: Candidate) -> Recommendation:
    name, said = _written(measured)
    chunk = f", chunksize={chosen.chunk}" if chosen.chunk > 1 else ""
    pool = {"threads": "ThreadPool", "processes": "ProcessPool"}.get(chosen.model)
    if chosen.model == "coroutines":
        code = f"unisono.batch({name}, items, limit={chosen.workers}).run(){said}"
    elif measured.coroutine:
        code = (
            f"def work(item):{said}\n    return asyncio.run({name}(item))\n\n"
            f"unisono.{pool}({chosen.workers}).map(work, items{chunk})"
        )
    else:
        code = f"unisono.{pool}({chosen.workers}).map({name}, items{chunk}){said}"
    return Recommendation(
        model=chosen.model, workers=chosen.workers, chunk=chosen.chunk, speedup=chosen.speedup, code=code
    )


def _plain_loop(measured: Measured) -> Recommendation:
    name, said = _written(measured)
    code = f"[{name}(item) for item in items]{said}"
    if measured.coroutine:
        code = f"async def work():{said}\n    return [await {name}(item) for item in items]\n\nasyncio.run(work())"
    return Recommendation(model="sequential", workers=1, chunk=1, speedup=None, code=code)


def _written(measured: Measured) -> tuple[str, str]:
    """How the function is written, and what is to be said of that."""
    name = measured.function.rpartition(":")[2]
    if measured.unnamed is None:
        return name.rpartition("<locals>.")[2], ""
    return "function", f"  # function: what was explained, {measured.unnamed}"


def _best_of_others(chosen: Candidate, tried: Sequence[Candidate]) -> Iterator[Candidate]:
    """Of each other model the best, and of the chosen one the best with another number of workers."""
    for model in _COST:
        others = [candidate for candidate in tried if candidate.model == model and candidate is not chosen]
        if others:
            yield max(others, key=lambda candidate: _speedup(candidate).median)


def _uses_several_cores(measured: Measured) -> bool:
    return measured.cpu > 1.3 * measured.wall


def _lock_free(measured: Measured) -> str:
    if measured.lock_held is None:
        return f"how long it holds it is not known ({measured.lock_unknown}), but the speed-up shows it"
    return f"it holds it {measured.lock_held / measured.wall:.0%} of its time"


def _lock_bound(measured: Measured) -> str:
    if measured.lock_held is None:
        return f"for how long a call holds the interpreter lock is not known ({measured.lock_unknown})"
    return f"a call holds the interpreter lock {measured.lock_held / measured.wall:.0%} of its time"


def _free_share(measured: Measured) -> float:
    return 1 - measured.loop.share if measured.loop is not None else 0.0


def _named(candidate: Candidate) -> str:
    return f"{candidate.workers} {candidate.model}"


def _speedup(candidate: Candidate) -> Spread:
    assert candidate.speedup is not None, "only candidates that were tried are compared"
    return candidate.speedup
