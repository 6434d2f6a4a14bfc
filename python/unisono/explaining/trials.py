"""Trying a candidate: some samples run by it for real, against what they take one after another.

What is timed begins with the first call handed in and ends with the last result here, pickling both ways included.
Starting the workers, and importing the function in them, is timed apart.

Every call in another process gets a sample of its own: a chunk that held the same object many times would be pickled
as one, and look cheaper than it is.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any, NoReturn

from unisono._pools.pickling import text_of
from unisono._pools.process_pool import ProcessPool
from unisono._wording import seconds
from unisono.errors import SampleFailed
from unisono.explaining import machine, pools
from unisono.explaining.answer import Candidate, Model, Spread
from unisono.explaining.subject import Subject, run_chunk
from unisono.explaining.watch import FunctionHangs

__all__ = ["Trial"]

# A chunk of 5 ms makes the 0.1 ms of a round trip to another process small.
_CHUNK_SECONDS = 0.005
# So many calls tell enough even of those that take a microsecond.
_MOST_CALLS = 20_000
_MOST_COPIED = 16 << 20


class Trial:
    """One candidate, from the start of its workers to its end."""

    def __init__(self, subject: Subject, model: Model, workers: int, item_size: int | None) -> None:
        self.model = model
        self.workers = workers
        self.speedups: list[float] = []
        self.excluded: str | None = None
        self._subject = subject
        self._item_size = item_size or 0
        self._executor: Executor | None = None
        self._start: float | None = None
        self._memory: int | None = None
        self._chunk = 1
        # Seconds that a call took here the last time, with what it took to prepare it.
        self._each: float | None = None
        self._warm = False
        self._unsettled: float | None = None
        self._hangs = False
        # Those of its processes that were met.
        self._processes: set[int] = set()

    def start(self) -> float:
        """Start its workers, and let them import the function; returns the seconds that this took."""
        if self.model == "threads":
            self._executor = pools.threads(self.workers)
        elif self.model == "processes":
            began = time.perf_counter()
            self._executor = pools.processes(self.workers)
            self._attempt(self._meet_all)
            self._start = time.perf_counter() - began
        return self._start or 0.0

    def round(self, block: float) -> None:
        """Try it for about `block` seconds."""
        self._unsettled = None
        if self.excluded is None:
            self._attempt(lambda: self._round(block))

    def settle(self, drift: float) -> None:
        """Count the last round, in which a plain loop was `drift` times slower than learnt."""
        if self._unsettled is not None and self.excluded is None:
            self.speedups.append(drift * self._unsettled)

    def close(self) -> None:
        """End its workers."""
        if self._executor is not None:
            # A thread that hangs cannot be waited for.
            self._executor.shutdown(wait=not self._hangs, cancel_futures=True)

    def found(self) -> Candidate:
        """Tell what was found."""
        if self.model == "processes" and self.excluded is None:
            # What its workers needed is known after their work.
            self._attempt(self._meet_all)
        if not self.speedups and self.excluded is None:
            self.excluded = "there was no time, or no call, left for it"
        tried = self.excluded is None
        return Candidate(
            model=self.model,
            workers=self.workers,
            chunk=self._chunk,
            speedup=Spread.of(self.speedups) if tried else None,
            rounds=len(self.speedups) if tried else 0,
            start=self._start if tried else None,
            memory=self._memory if tried else None,
            excluded=self.excluded,
        )

    def exclude(self, why: str) -> None:
        """It is not tried, or not any more."""
        self.excluded = why

    def _attempt(self, what: Callable[[], None]) -> None:
        try:
            what()
        except BrokenExecutor:
            self.exclude(
                "its processes died. Each imports the program anew, so the function must be importable there, and what "
                'the program does belongs below `if __name__ == "__main__":`'
            )
        except FunctionHangs:
            raise
        except SampleFailed as error:
            self.exclude(str(error))
        except BaseException as error:
            # Also an exit: the function's, and no signal is handled on this thread.
            self.exclude(f"{type(error).__name__}: {text_of(error)}")

    def _meet_all(self) -> None:
        assert self._executor is not None, "workers were started"
        self._processes = set()
        until = time.perf_counter() + _LONGEST_START
        while len(self._processes) < self.workers and time.perf_counter() < until:
            futures = [self._executor.submit(_introduce, self._subject.function) for _ in range(self.workers)]
            for future in futures:
                number, memory = future.result()
                self._processes.add(number)
                self._memory = max(self._memory or 0, memory)

    def _round(self, block: float) -> None:
        wall = self._subject.cost.wall
        if not self._warm:
            # What workers do for the first time (imports in functions, caches) is not what the thousandth call takes.
            self._warm = True
            if wall * self.workers < block:
                items, _ = self._subject.pick(self._subject.allow(self.workers))
                self._time(items, 1)
        count = max(self.workers, min(_MOST_CALLS, round(block / (self._each or wall))))
        if self.model == "processes" and self._item_size:
            count = min(count, max(self.workers, _MOST_COPIED // self._item_size))
        count = self._subject.allow(count)
        if count < self.workers:
            return
        if self.model == "processes":
            self._chunk = max(1, min(round(_CHUNK_SECONDS / wall), count // (4 * self.workers)))
        items, alone = self._subject.pick(count)
        self._unsettled = alone / self._time(items, self._chunk)

    def _time(self, items: list[Any], chunk: int) -> float:
        began = time.perf_counter()
        taken = self._run(items, chunk)
        self._each = (time.perf_counter() - began) / len(items) if items else None
        return taken

    def _run(self, items: list[Any], chunk: int) -> float:
        # Whatever runs at once with others may come to wait for one of them for ever.
        patience = max(_LEAST_PATIENCE, _PATIENCE * self._subject.cost.wall * len(items))
        if self._executor is None:
            began = time.perf_counter()
            asyncio.run(_at_once(self._subject.function, items, self.workers, patience))
            return time.perf_counter() - began
        if self.model == "processes":
            items = [pickle.loads(pickle.dumps(item)) for item in items]
        chunks = [items[at : at + chunk] for at in range(0, len(items), chunk)]
        function, coroutine = self._subject.function, self._subject.coroutine
        began = time.perf_counter()
        futures = [self._executor.submit(run_chunk, function, piece, coroutine) for piece in chunks]
        futures.reverse()
        while futures:
            # Results are let go one by one, since all of them may not fit into memory.
            self._wait(futures.pop(), patience)
        return time.perf_counter() - began

    def _wait(self, future: Future[Any], patience: float) -> None:
        """Wait for a result for so many seconds in which the machine let its workers run."""
        served: machine.Served | None = None
        while True:
            try:
                future.result(_LOOK_UP)
                return
            except TimeoutError:
                if future.done():
                    # It came as the wait was over.
                    future.result()
                    return
                if served is None:
                    # A quick one is never looked at.
                    served = machine.Served(_LOOK_UP, self._processes)
                elif served.passed() > patience:
                    self._give_up(patience)

    def _give_up(self, patience: float) -> NoReturn:
        subject = self._subject
        why = f"had not ended after {seconds(patience)}, where a call alone takes {seconds(subject.cost.wall)}"
        if isinstance(self._executor, ProcessPool):
            self._executor.terminate()
            raise TimeoutError(f"it {why}, and was killed")
        self._hangs = True
        message = (
            f"{subject.name} hangs when {self.workers} threads call it at once: it {why}. "
            "What its calls wait for may be held for ever, so nothing more can be measured."
        )
        raise FunctionHangs(message)


async def _at_once(function: Callable[[Any], Any], items: list[Any], limit: int, patience: float) -> None:
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await function(item)

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(worker())

    trial = asyncio.create_task(all_of_them())
    served: machine.Served | None = None
    while not (await asyncio.wait([trial], timeout=_LOOK_UP))[0]:
        if served is None:
            served = machine.Served(_LOOK_UP)
        elif served.passed() > patience:
            trial.cancel()
            await asyncio.wait([trial])
            raise TimeoutError(f"had not ended after {seconds(patience)}")
    await trial


def _introduce(_function: Callable[[Any], Any]) -> tuple[int, int]:
    """Number and memory of a worker, which has imported the function to be called with it."""
    # So that one quick worker does not answer for those that are still starting.
    time.sleep(0.01)
    # Not `getrusage`: its maximum is inherited from the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return os.getpid(), int(status["VmHWM"].split()[0]) * 1024


_LONGEST_START = 20.0
# Many times what calls take one after another, and long enough for what they wait for elsewhere. What they wait for a
# CPU does not count, so how busy this machine is matters to neither.
_PATIENCE = 20
_LEAST_PATIENCE = 30.0
# Longer than a round of most trials, which are so never looked at.
_LOOK_UP = 0.25
