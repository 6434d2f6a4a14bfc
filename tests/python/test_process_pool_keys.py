"""Tasks with a key: never more at once than may be, in their order, and in no other's way."""

import fcntl
import os
import signal
import threading
import time

import pytest

import unisono
from unisono.errors import TaskTimeout, UsageError

LONG = 60


def enter(folder, key, number):
    """Answers how many of its key are there, itself among them."""
    mark = folder / f"{key}-{number}"
    mark.touch()
    inside = len([name for name in os.listdir(folder) if name.startswith(f"{key}-")])
    time.sleep(0.002)
    with open(folder / f"order of {key}", "a") as file:
        file.write(f"{number}\n")
    mark.unlink()
    return inside


@pytest.mark.parametrize(("options", "most"), [({}, 1), ({"per_key": 2}, 2)])
def test_no_more_tasks_of_a_key_run_at_once_than_may(tmp_path, options, most):
    with unisono.ProcessPool(4, **options) as pool:
        keyed = [pool.task(key=f"k{n % 3}").submit(enter, tmp_path, f"k{n % 3}", n) for n in range(60)]
        assert max(future.result(LONG) for future in keyed) <= most
    if most == 1:
        for key in range(3):
            order = [int(line) for line in (tmp_path / f"order of k{key}").read_text().split()]
            assert order == list(range(key, 60, 3))


def test_a_function_says_the_key_of_each_call(tmp_path):
    with unisono.ProcessPool(4) as pool:
        keyed = pool.task(key=lambda folder, key, number: key)
        keys = ["a", "b"] * 20
        assert set(keyed.map(enter, [tmp_path] * 40, keys, range(40))) == {1}
        assert keyed.submit(enter, tmp_path, "c", number=1).result(LONG) == 1
    assert [int(line) for line in (tmp_path / "order of a").read_text().split()] == list(range(0, 40, 2))


def wait_for(path):
    until = time.monotonic() + LONG
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_the_backlog_of_a_key_keeps_nobody_else_waiting(tmp_path):
    with unisono.ProcessPool(2) as pool:
        held = [pool.task(key="busy").submit(wait_for, tmp_path / "go") for _ in range(50)]
        assert pool.submit(abs, -1).result(LONG) == 1
        assert pool.task(key="other").submit(abs, -2).result(LONG) == 2
        running = [future.running() for future in held]
        (tmp_path / "go").touch()
        assert [future.result(LONG) for future in held] == [None] * 50
    assert sum(running) <= 1


def die(path):
    path.touch()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_key_is_free_again_whatever_becomes_of_its_tasks(tmp_path):
    with unisono.ProcessPool(2) as pool:
        one = pool.task(key=("a", 1))
        waits = one.submit(wait_for, tmp_path / "never")
        behind = [one.submit(abs, -n) for n in range(5)]
        assert behind[2].cancel()
        assert waits.cancel(running=True)
        assert [future.result(LONG) for n, future in enumerate(behind) if n != 2] == [0, 1, 3, 4]
        fails = [one.submit(int, "x"), one.submit(die, tmp_path / "died"), one.submit(abs, threading.Lock())]
        assert [type(future.exception(LONG)).__name__ for future in fails] == [
            "ValueError",
            "WorkerDied",
            "UnpicklableError",
        ]
        late = pool.task(key=("a", 1), timeout=0.05).submit(wait_for, tmp_path / "never")
        assert isinstance(late.exception(LONG), TaskTimeout)
        assert one.submit(abs, -7).result(LONG) == 7


def lock_and_stay(path):
    """Holds a lock as long as it lives; answers whether it was the first."""
    file = os.open(path / "lock", os.O_CREAT | os.O_RDWR)
    # A task that does not get it runs beside another.
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if (path / "first").exists():
        os.close(file)
        return False
    (path / "first").touch()
    while True:
        time.sleep(600)


def test_a_killed_task_that_is_tried_again_keeps_its_key_and_does_not_run_beside_itself(tmp_path):
    # What a worker needs for the task is there when its time begins, also in the one that takes the place of the killed.
    with unisono.ProcessPool(2, preload=[__name__]) as pool:
        again = pool.task(key="k", timeout=2, retries=10).submit(lock_and_stay, tmp_path)
        behind = [pool.task(key="k").submit(lock_and_stay, tmp_path) for _ in range(3)]
        assert [future.result(LONG) for future in [again, *behind]] == [False] * 4


def test_a_pool_that_is_shut_down_finishes_or_cancels_what_waits_for_its_key(tmp_path):
    for cancel in (False, True):
        pool = unisono.ProcessPool(2)
        futures = [pool.task(key="k").submit(abs, -n) for n in range(30)]
        pool.shutdown(wait=True, cancel_futures=cancel)
        assert all(future.cancelled() or future.result(0) == n for n, future in enumerate(futures))
        assert cancel or not any(future.cancelled() for future in futures)
    pool = unisono.ProcessPool(1)
    futures = [pool.task(key="k").submit(wait_for, tmp_path / "never") for _ in range(3)]
    pool.terminate()
    assert all(future.cancelled() for future in futures)


def test_a_bound_that_is_none_is_refused():
    with pytest.raises(UsageError, match="per_key must be at least 1"):
        unisono.ProcessPool(per_key=0)
