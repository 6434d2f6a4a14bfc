"""Code that was written for the standard pools: what `ProcessPool` and `Pool` do for it.

Most is shown by the interpreter's own tests (`tests/conformance`). Here is what these do not look at, and what they
found wrong once.
"""

import concurrent.futures
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool

import pytest

import unisono
from unisono.errors import PoolBroken, ResultTimeout, UsageError, WorkerDied

LONG = 60


class Thing:
    def __init__(self, number):
        self.number = number


def raise_at(limit):
    yield from range(limit)
    raise LookupError("the input has ended early")


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def name_file_and_fail_first(path, number):
    (path / str(number)).touch()
    if number == 0:
        raise LookupError(number)


def is_fork_of_zygote():
    with open("/proc/self/cmdline") as file:
        return "unisono._pools.zygote" in file.read()


@pytest.mark.parametrize("name", ["workers", "max_workers", "processes"])
def test_the_number_of_workers_is_taken_by_each_of_its_names(name):
    with unisono.ProcessPool(**{name: 1}) as pool:
        assert len({pool.submit(os.getpid).result(LONG) for _ in range(5)}) == 1


@pytest.mark.parametrize("name", ["max_tasks_per_child", "maxtasksperchild"])
def test_the_number_of_tasks_of_a_worker_is_taken_by_each_of_its_names(name):
    with unisono.ProcessPool(1, **{name: 1}) as pool:
        assert len({pool.submit(os.getpid).result(LONG) for _ in range(3)}) == 3


@pytest.mark.parametrize("name", ["mp_context", "context"])
@pytest.mark.parametrize(("method", "is_zygotes"), [("forkserver", True), ("spawn", False)])
def test_the_start_method_of_a_context_is_that_of_the_workers(name, method, is_zygotes):
    with unisono.ProcessPool(1, **{name: multiprocessing.get_context(method)}) as pool:
        assert pool.submit(is_fork_of_zygote).result(LONG) is is_zygotes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 1, "max_workers": 1}, "max_workers and workers are the same option"),
        ({"max_workers": 1, "processes": 1}, "processes and max_workers are the same option"),
        ({"mp_context": multiprocessing.get_context("spawn"), "start_method": "zygote"}, "mp_context and start_method"),
        ({"context": "spawn"}, "context is what multiprocessing.get_context"),
        ({"max_workers": 0}, "max_workers must be greater than 0"),
    ],
)
def test_options_that_contradict_each_other_or_make_no_sense_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        unisono.ProcessPool(**options)


def test_a_name_that_no_pool_has_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'threads'"):
        unisono.ProcessPool(threads=3)


def test_deaths_and_broken_pools_are_what_callers_of_the_standard_executor_catch():
    with unisono.ProcessPool(1) as pool, pytest.raises(BrokenProcessPool) as caught:
        pool.submit(die, None).result(LONG)
    assert isinstance(caught.value, WorkerDied)
    assert issubclass(PoolBroken, BrokenProcessPool)


def test_a_managers_proxies_work_in_the_workers(tmp_path):
    # A program of its own, since multiprocessing keeps a process for managers until the end of the program.
    script = tmp_path / "program.py"
    script.write_text(
        """
import multiprocessing, unisono
def append(shared, value): shared.append(value)
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Manager() as manager, unisono.ProcessPool(2) as pool:
        shared = manager.list()
        list(pool.map(append, [shared] * 4, range(4)))
        print(sorted(shared))
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.stdout, done.stderr) == ("[0, 1, 2, 3]\n", "")


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered"])
def test_an_iterator_of_results_keeps_none_of_them(call, chunksize):
    with unisono.ProcessPool(1) as pool:
        for thing in getattr(pool, call)(Thing, range(9), chunksize=chunksize):
            reference = weakref.ref(thing)
            del thing
            gc.collect()
            assert reference() is None


@pytest.mark.parametrize("call", ["imap", "imap_unordered"])
def test_what_the_input_raises_comes_behind_the_results_of_what_came_before(call):
    with unisono.ProcessPool(2) as pool:
        results = getattr(pool, call)(abs, raise_at(5))
        assert sorted(next(results) for _ in range(5)) == [0, 1, 2, 3, 4]
        with pytest.raises(LookupError, match="ended early"):
            next(results)


def test_a_callback_has_run_when_the_wait_for_its_result_is_over():
    with unisono.Pool(1) as pool:
        for _ in range(50):
            told = []
            pool.apply_async(abs, (-1,), callback=told.append).wait()
            assert told == [1]


def test_a_result_that_is_late_raises_what_callers_of_multiprocessing_catch():
    with unisono.Pool(1) as pool:
        late = pool.apply_async(time.sleep, (LONG,))
        with pytest.raises(multiprocessing.TimeoutError) as caught:
            late.get(0.01)
        assert isinstance(caught.value, ResultTimeout)
        assert isinstance(caught.value, TimeoutError)
        assert not late.cancel()


def test_a_timeout_that_the_task_raises_is_not_taken_for_a_late_result():
    with unisono.Pool(1) as pool, pytest.raises(TimeoutError) as caught:
        pool.apply_async(raise_timeout).get(LONG)
    assert not isinstance(caught.value, ResultTimeout)


def raise_timeout():
    raise TimeoutError("mine")


@pytest.mark.parametrize("chunksize", [None, 1, 2])
def test_map_of_pool_is_a_list_and_all_items_are_done_before_it_raises(tmp_path, chunksize):
    with unisono.Pool(2) as pool:
        assert pool.map(abs, [-1, -2, -3], chunksize) == [1, 2, 3]
        assert pool.starmap(pow, [(2, 3), (3, 2)], chunksize) == [8, 9]
        with pytest.raises(LookupError):
            pool.starmap(name_file_and_fail_first, [(tmp_path, n) for n in (1, 2, 0, 3, 4, 5)], chunksize)
        # In the chunk that failed nothing comes after the failure, as with the standard pool.
        done = {path.name for path in tmp_path.iterdir()}
        assert done == {"0", "1", "2", "4", "5"} | ({"3"} if chunksize != 2 else set())


def test_pool_takes_its_arguments_by_position():
    with unisono.Pool(1, os.putenv, ("CONFORMANCE", "1"), 1, multiprocessing.get_context("forkserver")) as pool:
        assert len(set(pool.starmap(os.getpid, [()] * 3))) == 3


def test_leaving_a_pool_ends_what_runs():
    with unisono.Pool(1) as pool:
        endless = pool.apply_async(time.sleep, (3600,))
    assert isinstance(endless.exception(LONG), concurrent.futures.CancelledError | WorkerDied)


def test_a_closed_pool_refuses_with_the_error_of_multiprocessing():
    pool = unisono.Pool(1)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    for call in (pool.map, pool.map_async, pool.imap_unordered):
        with pytest.raises(ValueError, match="Pool not running"):
            call(abs, [1])
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass
    pool.join()
    assert not [thread for thread in threading.enumerate() if thread is pool._server]
