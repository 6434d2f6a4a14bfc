"""The function with its samples, and what one call of it does.

Every call of the function passes through here or is taken from the same allowance, so that `repeat` holds for all
experiments together. What a call costs is learnt per sample, since samples differ: a later experiment that runs some of
them is compared with what these would have cost one after another.

The first run of each sample is kept apart: it imports, connects and fills caches, and it is where an exception of the
function shows, which ends everything and names the sample.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pickle
import statistics
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from unisono._functions.callables import is_coroutine_function, is_generator_function
from unisono._pools.pickling import text_of
from unisono._wording import counted, seconds
from unisono.errors import SampleFailed, UsageError
from unisono.explaining import machine
from unisono.explaining.answer import Blocking
from unisono.explaining.event_loop import WatchedLoop

__all__ = ["Cost", "Pickled", "Running", "Subject", "run_chunk"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What some calls took, in seconds: in all, on CPUs, on the calling thread's CPU, and waiting for a CPU."""

    wall: float = 0.0
    cpu: float = 0.0
    own_cpu: float = 0.0
    queued: float = 0.0

    def __truediv__(self, count: int) -> Cost:
        return Cost(self.wall / count, self.cpu / count, self.own_cpu / count, self.queued / count)

    @classmethod
    def of(cls, run: Callable[[], object]) -> Cost:
        """What this run takes. Clocks are read inside out, so that slow ones do not count for quick ones."""
        queued, cpu, own_cpu, wall = machine.queued(), time.process_time(), time.thread_time(), time.perf_counter()
        run()
        wall, own_cpu = time.perf_counter() - wall, time.thread_time() - own_cpu
        return cls(wall, time.process_time() - cpu, own_cpu, machine.queued() - queued)


@dataclass(frozen=True, slots=True)
class Pickled:
    """Sizes in bytes and seconds for a sample and its result, there and back; or why they cannot be sent."""

    item_size: int | None = None
    result_size: int | None = None
    seconds: float | None = None
    impossible: str | None = None


class Running:
    """A run of samples that has begun; itself and no other."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        # That of its first sample.
        self.place = place


class Subject:
    """A function, its samples, and how many more times it may be called."""

    def __init__(
        self, function: Callable[[Any], Any], samples: Sequence[Any], repeat: int | None, max_calls: int | None = None
    ) -> None:
        if is_generator_function(function):
            raise UsageError(_RUNS_NOTHING)
        self.function = function
        self.samples = list(samples)
        self.coroutine = is_coroutine_function(function)
        self.name = _name_of(function)
        self.unnamed = _unnamed(function)
        self.calls = 0
        self.costs: list[Cost] = []
        self.repeats = 1.0
        self.blocking: Blocking | None = None
        self.results: list[Any] = []
        bounds = [bound for bound in (repeat and repeat * len(self.samples), max_calls) if bound is not None]
        self._most = min(bounds, default=None)
        self._is_stopped = False
        # What runs now, one object for each run.
        self.running: Running | None = None
        self._next = 0
        # Seconds of all runs on the loop that were timed.
        self._looped = 0.0

    def allow(self, wanted: int) -> int:
        """How many of the calls that are wanted may be made; they count as made."""
        granted = wanted if self._most is None else max(0, min(wanted, self._most - self.calls))
        if self._is_stopped:
            granted = 0
        self.calls += granted
        return granted

    def announcement(self, budget: float) -> str:
        """What will be done, to be known before it is done."""
        often = "again and again" if self._most is None else f"{counted(self._most, 'time')} at most"
        samples = counted(len(self.samples), "sample")
        return f"calls {self.name} on {samples} {often}, for about {seconds(budget)}; max_calls bounds that"

    def stop(self) -> None:
        """Allow no further call."""
        self._is_stopped = True

    def pick(self, count: int) -> tuple[list[Any], float]:
        """So many samples, in turns, and the seconds that they take one after another."""
        places = [(self._next + step) % len(self.samples) for step in range(count)]
        self._next = (self._next + count) % len(self.samples)
        return [self.samples[place] for place in places], sum(self.costs[place].wall for place in places)

    @property
    def cost(self) -> Cost:
        """The mean over the samples."""
        names = ("wall", "cpu", "own_cpu", "queued")
        return Cost(*(statistics.fmean(getattr(cost, name) for cost in self.costs) for name in names))

    def learn(self, budget: float) -> None:
        """Run every sample once, and again as long as `budget` seconds last; samples beyond it are left out.

        Raises:
            SampleFailed: The function raised an exception.
        """
        with WatchedLoop() if self.coroutine else contextlib.nullcontext() as loop:
            until = time.perf_counter() + budget / 2
            self._first_runs(loop, until)
            firsts = list(self.costs)
            again = self._second_runs(loop, time.perf_counter() + budget / 2)
        # The first sample pays for what every program pays once, such as imports.
        pairs = [(firsts[place].wall, self.costs[place].wall) for place in again if place > 0]
        slow = [(first, second) for first, second in pairs if first > 1e-4]
        self.repeats = statistics.median(first / second for first, second in slow) if slow else 1.0
        if loop is not None:
            self.blocking = loop.blocking(self._looped)

    def _first_runs(self, loop: WatchedLoop | None, until: float) -> None:
        for index, item in enumerate(self.samples):
            if (index and time.perf_counter() > until) or not self.allow(1):
                del self.samples[index:]
                break
            cost, results = self._timed([item], loop)
            if inspect.isawaitable(results[0]):
                _close(results[0])
                raise UsageError(f"{self.name} returns an awaitable; give a coroutine function itself")
            if isinstance(results[0], Generator | AsyncGenerator):
                raise UsageError(_RUNS_NOTHING)
            self.costs.append(cost)
            # All of them might not fit into memory.
            self.results += results if index < _KEPT else []

    def _second_runs(self, loop: WatchedLoop | None, until: float) -> list[int]:
        again = []
        for place, item in enumerate(self.samples):
            if time.perf_counter() + self.costs[place].wall > until:
                break
            # Clocks cost about 100 ns, so that what is short is run many times between two looks. The first run does
            # not tell how many, since it may have been a slow one.
            count, long_enough = 1, False
            while not long_enough and (count := self.allow(count)):
                cost = self._timed([item] * count, loop)[0]
                self.costs[place] = cost / count
                long_enough = cost.wall > 0.001 or count >= 10_000
                count *= 10
            if not count:
                break
            again.append(place)
        return again

    def _timed(self, items: list[Any], loop: WatchedLoop | None) -> tuple[Cost, list[Any]]:
        results: list[Any] = []
        cost = Cost.of(lambda: results.extend(self.run(items, loop)))
        self._looped += cost.wall
        return cost, results

    def run(self, items: list[Any], loop: WatchedLoop | None) -> list[Any]:
        """Run these samples one after another, on the loop if there is one; returns the last result alone.

        Raises:
            SampleFailed: The function raised an exception.
        """
        if loop is not None:
            return loop.run(self._awaited(items))
        function, item, result = self.function, None, None
        # For all of them together: noting each would count for quick ones, and others are run one at a time.
        self._note(items)
        try:
            for item in items:
                result = function(item)
        except BaseException as error:
            # It is the function's, whatever it is: this thread is ours, and no signal is handled on it.
            raise self._failure(item, error) from error
        finally:
            self.running = None
        return [result]

    def _note(self, items: list[Any]) -> None:
        place = next((place for place, sample in enumerate(self.samples) if items and sample is items[0]), 0)
        self.running = Running(place)

    async def _awaited(self, items: list[Any]) -> list[Any]:
        item, result = None, None
        self._note(items)
        try:
            for item in items:
                result = await self.function(item)
        except BaseException as error:
            raise self._failure(item, error) from error
        finally:
            self.running = None
        return [result]

    def _failure(self, item: object, error: BaseException) -> SampleFailed:
        index = next(index for index, sample in enumerate(self.samples) if sample is item)
        message = f"{self.name} failed on sample {index} ({_shown(item)}): {_of(error)}"
        return SampleFailed(message, item=item, index=index)

    def pickled(self) -> Pickled:
        """What it costs to send samples and results to another process and back."""
        try:
            pickle.dumps(self.function)
        except Exception as error:
            return Pickled(impossible=f"the function cannot be pickled: {error}")
        sizes: list[tuple[int, int]] = []
        began = time.perf_counter()
        for item, result in zip(self.samples, self.results):
            pair = []
            for what, value in (("sample", item), ("result", result)):
                try:
                    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
                    pickle.loads(data)
                except Exception as error:
                    return Pickled(impossible=f"a {what} cannot be pickled: {error}")
                pair.append(len(data))
            sizes.append((pair[0], pair[1]))
        seconds = (time.perf_counter() - began) / len(sizes)
        means = [round(statistics.fmean(pair[side] for pair in sizes)) for side in (0, 1)]
        return Pickled(means[0], means[1], seconds)

    def memory(self) -> int | None:
        """Most bytes that a call had allocated at a time, of one sample; `None` if it is being traced already."""
        if tracemalloc.is_tracing() or not self.allow(1):
            return None
        tracemalloc.start()
        try:
            with WatchedLoop() if self.coroutine else contextlib.nullcontext() as loop:
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
                self.run([self.samples[0]], loop)
                return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()


def run_chunk(function: Callable[[Any], Any], items: Sequence[Any], coroutine: bool) -> list[Any]:
    """What a worker does: some items one after another, coroutines on a loop of its own.

    Raises:
        SampleFailed: The function raised an exception.
    """
    results = []
    with asyncio.Runner() if coroutine else contextlib.nullcontext() as runner:
        for item in items:
            try:
                results.append(runner.run(function(item)) if runner is not None else function(item))
            except BaseException as error:
                message = f"it failed on {_shown(item)} ({_of(error)}), which it had not done alone"
                # The exception itself may not be picklable, so its text travels.
                raise SampleFailed(message, item=None, index=None) from None
    return results


def _name_of(function: Callable[[Any], Any]) -> str:
    module = getattr(function, "__module__", None) or "builtins"
    return f"{module}:{getattr(function, '__qualname__', type(function).__name__)}"


def _unnamed(function: Callable[[Any], Any]) -> str | None:
    """What it is, if its name is not what a program would write for it."""
    owner = getattr(function, "__self__", None)
    if inspect.ismethod(function) or inspect.isbuiltin(function):
        # A class method is found by its name, and what is a module's is a function.
        is_found = owner is None or inspect.isclass(owner) or inspect.ismodule(owner)
        return None if is_found else f"the bound method `{function.__qualname__}`"
    if inspect.isfunction(function):
        name = function.__qualname__.rpartition("<locals>.")[2]
        is_written = all(part.isidentifier() for part in name.split("."))
        return None if is_written else f"the function `{name}`"
    if inspect.isclass(function) or inspect.ismethoddescriptor(function):
        return None
    return f"an object of the class `{type(function).__qualname__}`"


def _of(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


def _shown(item: object) -> str:
    try:
        text = repr(item)
    except Exception:
        text = f"a {type(item).__qualname__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _close(awaitable: object) -> None:
    if inspect.iscoroutine(awaitable):
        awaitable.close()


_RUNS_NOTHING = "a call of a generator function runs nothing: give a function that takes what it yields"
# So many results are kept, to see what pickling them costs.
_KEPT = 5
