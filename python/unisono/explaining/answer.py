"""What `explain` answers: what was measured, what was tried, and what to use.

Everything here is frozen data with names and units, so that it can be printed, compared, stored as JSON, and written
down by hand in a test. Times are seconds, sizes are bytes, and a value that could not be measured is `None`, never a
guess.

A speed-up is given as a range, not as a number: the runs of a candidate are few and their distribution is unknown, so
the range is that of order statistics around the median, which assumes nothing about the shape of the noise.

It knows nothing of how things are measured (`experiment.py`) or judged (`decision.py`).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import Any, Literal

from unisono._wording import counted, seconds, size
from unisono.explaining.table import table, times, wrapped

__all__ = ["Blocking", "Candidate", "Confidence", "Explanation", "Measured", "Model", "Recommendation", "Spread"]

Model = Literal["sequential", "coroutines", "threads", "processes"]
Confidence = Literal["high", "medium", "low", "none"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and a range that holds the true median in about nine of ten cases.

    Attributes:
        median: The middle of the values.
        low, high: The range. Of up to six values it is all of them, of seven or more the outermost two are left out.
            The chance that the true median lies in it is 50 % for two values, 75 % for three, and 87 to 97 % from four
            on (the sign test's interval: H. A. David and H. N. Nagaraja, Order Statistics, section 7.1).

    >>> Spread.of([1.9, 1.7, 1.8])
    Spread(median=1.8, low=1.7, high=1.9)
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of these values, of which there must be one at least."""
        ordered = sorted(values)
        cut = 0 if len(ordered) < 7 else 1
        return cls(statistics.median(ordered), ordered[cut], ordered[-1 - cut])

    def __str__(self) -> str:
        low, high = times(self.low), times(self.high)
        return f"{times(self.median)}x" if low == high else f"{times(self.median)}x ({low} to {high})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocking:
    """How a coroutine kept its event loop from running anything else.

    Attributes:
        share: The part of a call's time in which the loop was not free, from 0 to 1.
        longest: The longest time at a stretch, in seconds.
        working: The part of that time in which it computed, or would have if it had had a core, from 0 to 1; the rest
            was waiting, as in `time.sleep`.
        where: The line that was seen most often, as `file:line in function: source`, or `None` when no stretch was long
            enough to be seen.
    """

    share: float
    longest: float
    working: float
    where: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one call does, as a mean over the samples, and what the machine had to offer meanwhile.

    Attributes:
        function: Its name, as `module:name`.
        unnamed: What it is, where it has no name that could be written, such as `a bound method`.
        coroutine: Whether it is a coroutine function.
        samples: How many samples were measured.
        calls: How often the function was called, all experiments taken together.
        wall: Seconds that a call takes.
        cpu: Seconds of CPU that a call takes, in all threads of the process (`CLOCK_PROCESS_CPUTIME_ID`).
        queued: Seconds of a call in which it could have gone on, but other programs had the cores.
        blocked: Seconds of a call in which its thread waited for something else than a core.
        lock_held: Seconds of a call in which it held the interpreter lock, or `None`.
        lock_unknown: Why `lock_held` is not known.
        item_size, result_size: Bytes of a pickled sample and a pickled result, or `None`.
        pickling: Seconds to pickle and unpickle both, or `None`.
        unpicklable: Why function, sample or result cannot be sent to another process.
        memory: Most bytes that a call had allocated at a time (`tracemalloc`), or `None` when a call takes too long.
        repeats: How many times faster a sample was when it was not run for the first time.
        loop: How it blocked its event loop; `None` for what is no coroutine function.
        cores: Cores that this process may use.
        free_cores: How many of them were free: how much faster threads outside of the interpreter lock were than one.
    """

    function: str
    coroutine: bool
    samples: int
    calls: int
    wall: float
    cpu: float
    queued: float
    blocked: float
    lock_held: float | None
    lock_unknown: str | None
    item_size: int | None
    result_size: int | None
    pickling: float | None
    unpicklable: str | None
    memory: int | None
    repeats: float
    loop: Blocking | None
    cores: int
    free_cores: Spread
    unnamed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run the function, and what came of trying it.

    Attributes:
        model: `coroutines`, `threads` or `processes`.
        workers: How many calls at once.
        chunk: How many samples were handed to a worker at a time.
        speedup: How many times more calls were done in a second than by a plain loop, or `None` if it was not measured.
        rounds: How many times that was measured.
        start: Seconds to start the workers, which the speed-up leaves out, or `None`.
        memory: Bytes that each worker needs for itself, or `None`.
        excluded: Why it was not measured.
    """

    model: Model
    workers: int
    chunk: int = 1
    speedup: Spread | None = None
    rounds: int = 0
    start: float | None = None
    memory: int | None = None
    excluded: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to use.

    Attributes:
        model: `sequential`, `coroutines`, `threads` or `processes`; `None` means that it cannot be told.
        workers: How many calls at once; 1 for `sequential`, `None` when it cannot be told.
        chunk: How many items to hand to a worker at a time.
        speedup: What was measured for it, or `None`.
        code: How to write it: statements that run where `items`, the function by its name, `unisono` and `asyncio` are
            there. What has no name is called `function`, and a comment says so.
    """

    model: Model | None
    workers: int | None
    chunk: int
    speedup: Spread | None
    code: str

    def __str__(self) -> str:
        if self.model is None:
            return "cannot tell"
        if self.model == "sequential":
            return "a plain loop"
        return f"{counted(self.workers or 1, _SINGULAR[self.model], self.model)}, expected speed-up {self.speedup}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer of `unisono.explain`. Printed, it is a table and its reasons.

    Attributes:
        measured: What a call does, and what the machine had to offer.
        candidates: What was tried, and what was not and why.
        recommendation: What to use.
        reasons: Why, in sentences, the decisive one first.
        confidence: `high`: five rounds or more and a clear distance; `medium`: fewer, or another candidate is close;
            `low`: two rounds, or a busy machine; `none`: it cannot be told.
    """

    measured: Measured
    candidates: tuple[Candidate, ...]
    recommendation: Recommendation
    reasons: tuple[str, ...]
    confidence: Confidence

    def to_dict(self) -> dict[str, Any]:
        """Everything as dictionaries, lists, numbers and texts, ready for `json.dumps`."""
        fields: dict[str, Any] = dataclasses.asdict(self)
        fields["candidates"] = list(fields["candidates"])
        fields["reasons"] = list(fields["reasons"])
        return fields

    def __str__(self) -> str:
        parts = [
            self.measured.function,
            table(_measured_rows(self.measured)),
            table(_candidate_rows(self.candidates)),
            f"use: {self.recommendation} (confidence: {self.confidence})\n{indent(self.recommendation.code, ' ' * 5)}",
            "\n".join(wrapped(reason) for reason in self.reasons),
        ]
        return "\n\n".join(parts)


_SINGULAR = {"coroutines": "coroutine", "threads": "thread", "processes": "process"}


def _measured_rows(measured: Measured) -> list[list[str]]:
    def known(value: float | None, why: str | None) -> str:
        return f"not measured: {why}" if value is None else seconds(value)

    rows = [
        ["a call", seconds(measured.wall), f"mean of {counted(measured.samples, 'sample')}"],
        ["CPU", seconds(measured.cpu), _share(measured.cpu, measured.wall)],
        ["waiting for a core", seconds(measured.queued), _share(measured.queued, measured.wall)],
        ["blocked", seconds(measured.blocked), _share(measured.blocked, measured.wall)],
        [
            "interpreter lock",
            known(measured.lock_held, measured.lock_unknown),
            _share(measured.lock_held, measured.wall),
        ],
    ]
    if measured.loop is not None:
        longest = f"{measured.loop.share:.0%} of it; longest {seconds(measured.loop.longest)} at a stretch"
        rows.append(["event loop", seconds(measured.loop.share * measured.wall), longest])
    if measured.unpicklable is not None:
        rows.append(["pickling", f"not possible: {measured.unpicklable}"])
    elif measured.pickling is not None and measured.item_size is not None and measured.result_size is not None:
        sizes = f"item {size(measured.item_size)}, result {size(measured.result_size)}"
        rows.append(["pickling", seconds(measured.pickling), sizes])
    if measured.memory is not None:
        rows.append(["memory", size(measured.memory), "most at a time"])
    free = f"{measured.free_cores.median:.1f} of {measured.cores}"
    rows.append(
        ["free cores", free, f"{measured.free_cores.low:.1f} to {measured.free_cores.high:.1f} while measuring"]
    )
    return rows


def _candidate_rows(candidates: Sequence[Candidate]) -> list[list[str]]:
    rows = [["tried", "workers", "chunk", "speed-up", "rounds", "to start"]]
    rows.append(["sequential", "1", "1", "1.0x", "", ""])
    for candidate in candidates:
        found = str(candidate.speedup) if candidate.speedup else f"left out: {candidate.excluded}"
        start = seconds(candidate.start) if candidate.start is not None else ""
        numbers = [str(candidate.rounds), start] if candidate.speedup else []
        rows.append([candidate.model, str(candidate.workers), str(candidate.chunk), found, *numbers])
    return rows


def _share(part: float | None, whole: float) -> str:
    return "" if part is None or whole <= 0 else f"{part / whole:.0%} of it"
