"""Workers that write over the memory that they share with their pool: they lose their own tasks, and no others."""

import ctypes
import os
import random
import threading

import pytest

import unisono
from unisono.errors import PoolError, WorkerDied

LONG = 60
WORDS = 9000


def shared():
    """Where the memory that this worker shares with its pool is mapped: from, to."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "unisono-exchange" in line:
                start, end = line.split()[0].split("-")
                return int(start, 16), int(end, 16)
    raise AssertionError("a worker shares memory with its pool")


def scribble(seed, how, linger):
    """Write there, and return or stay."""
    choice = random.Random(seed)
    start, end = shared()
    if how == "all":
        ctypes.memset(start, choice.randrange(256), end - start)
    elif how == "noise":
        ctypes.memmove(start, choice.randbytes(WORDS), WORDS)
    else:
        for _ in range(choice.randrange(1, 20)):
            at = choice.randrange(WORDS // 8) if choice.randrange(2) else choice.randrange(64)
            word = choice.choice([bytes(8), b"\xff" * 8, choice.randbytes(8), (1).to_bytes(8, "little")])
            ctypes.memmove(start + 8 * at, word, 8)
    if linger == "stay":
        threading.Event().wait()
    return "mad"


def sane(number):
    return number * 2


@pytest.mark.parametrize("linger", ["return", "stay"])
@pytest.mark.parametrize("how", ["all", "noise", "words"])
def test_a_worker_that_scribbles_over_its_shared_memory_loses_its_own_tasks_and_the_pool_can_be_closed(how, linger):
    for seed in range(6):
        with unisono.ProcessPool(2) as pool:
            assert list(pool.map(sane, range(50))) == [2 * number for number in range(50)]
            mad = pool.task(timeout=5 if linger == "stay" else None).submit(scribble, seed, how, linger)
            tasks = [pool.submit(sane, number) for number in range(300)]
            for number, task in enumerate(tasks):
                # A task may have begun in the mad one; then it fails by name.
                error = task.exception(LONG)
                assert (error is None and task.result() == 2 * number) or isinstance(error, WorkerDied), error
            failed = sum(task.exception() is not None for task in tasks)
            assert failed <= 3
            error = mad.exception(LONG)
            assert (error is None and mad.result() == "mad") or isinstance(error, PoolError), error
            # And the pool is as good as new.
            assert list(pool.map(sane, range(100))) == [2 * number for number in range(100)]


def test_an_idle_worker_that_scribbles_later_is_replaced():
    with unisono.ProcessPool(1) as pool:
        assert pool.submit(scribble_later, 1).result(LONG) == os.getpid()
        for _ in range(100):
            error = pool.submit(sane, 1).exception(LONG)
            assert error is None or isinstance(error, WorkerDied)


def scribble_later(seed):
    threading.Timer(0.01, scribble, (seed, "all", "return")).start()
    return os.getppid() and parent_of(os.getppid())


def parent_of(process):
    with open(f"/proc/{process}/stat") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[1])
