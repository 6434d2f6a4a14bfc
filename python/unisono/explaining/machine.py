"""How many cores are free at this moment, found by using them.

The known load is SHA-256 over a megabyte, which `hashlib` computes without the interpreter lock: as many threads as
there are cores are as much faster than one as there are cores free. Asking the load average instead would not see
quotas of a container, frequencies, or two cores that share one's units.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

__all__ = ["Served", "cores", "free_cores", "queue_clock", "queued", "work"]

_BUFFER = bytes(1 << 20)
# Long enough that starting threads (0.1 ms each) does not show, short enough to be repeated in each round.
_SECONDS = 0.015


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def free_cores(count: int) -> float:
    """How many times more threads do on `count` threads than on one, from about 1 to `count`."""
    if count == 1:
        return 1.0
    pieces = _pieces()
    alone = _timed(1, pieces)
    together = _timed(count, pieces)
    return min(float(count), count * alone / together)


def work(pieces: int) -> None:
    """The known load: CPU without the interpreter lock, but for some microseconds per piece."""
    for _ in range(pieces):
        hashlib.sha256(_BUFFER)


def queued() -> float:
    """Seconds for which this thread was ready and had no CPU (Linux: Documentation/scheduler/sched-stats.rst)."""
    with queue_clock() as clock:
        return clock()


@contextlib.contextmanager
def queue_clock() -> Iterator[Callable[[], float]]:
    """As `queued`, for a thread that asks often: one system call each time."""
    try:
        descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        # A kernel without CONFIG_SCHED_INFO does not tell; then this time counts as blocked.
        yield lambda: 0.0
        return
    try:
        yield lambda: int(os.pread(descriptor, 128, 0).split()[1]) / 1e9
    finally:
        os.close(descriptor)


class Served:
    """Time that passes only while a busy machine keeps none of these processes from going on: what hangs is told by it.

    To be asked again and again. Of the time between two looks does not count for how long a thread was ready and had no
    CPU (that of the thread with the most, since all others may wait for it), and at most `longest` counts at all: a
    watcher that could not even look in time was stopped, or so was the machine.
    """

    def __init__(self, longest: float, processes: Collection[int] = ()) -> None:
        self._longest = longest
        self._processes = processes or (os.getpid(),)
        self._passed = 0.0
        self._queues = _queues(self._processes)
        self._at = time.perf_counter()

    def passed(self) -> float:
        """Seconds since it was made."""
        before, self._queues = self._queues, _queues(self._processes)
        began, self._at = self._at, time.perf_counter()
        late = max((queue - before.get(task, 0.0) for task, queue in self._queues.items()), default=0.0)
        self._passed += max(0.0, min(self._at - began, self._longest) - late)
        return self._passed


def _queues(processes: Collection[int]) -> dict[str, float]:
    """Seconds for which each thread of these processes was ready and had no CPU."""
    found = {}
    for process in processes:
        # It may just have ended, and each of its threads.
        with contextlib.suppress(OSError):
            for task in Path("/proc", str(process), "task").iterdir():
                # A kernel without CONFIG_SCHED_INFO has no such file; then all time counts.
                with contextlib.suppress(OSError):
                    found[str(task)] = int((task / "schedstat").read_text().split()[1]) / 1e9
    return found


def _pieces() -> int:
    began = time.perf_counter()
    work(1)
    return max(1, round(_SECONDS / (time.perf_counter() - began)))


def _timed(count: int, pieces: int) -> float:
    workers = [threading.Thread(target=work, args=(pieces,)) for _ in range(count)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began
