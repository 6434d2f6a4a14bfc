"""An executor of threads: what it shows, what it bounds, and how it ends. The rest is in tests/conformance."""

import asyncio
import contextvars
import ctypes
import functools
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.thread import BrokenThreadPool

import pytest

from unisono import QueueFull, ThreadPool

# Only against hanging: nothing here takes as long.
BOUND = 30


def until(holds):
    """Lets others run until it holds."""
    deadline = time.monotonic() + BOUND
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.fixture
def gate():
    """Tasks wait at it; it is open at the end of the test in any case."""
    gate = threading.Event()
    yield gate
    gate.set()


def program(text, **options):
    """What a program prints, and how it ends."""
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=BOUND, **options)
    return ended.returncode, ended.stdout, ended.stderr


# Growing and ending


def test_a_task_that_finds_an_idle_thread_starts_none():
    with ThreadPool(10) as pool:
        for number in range(20):
            assert pool.submit(int, number).result(BOUND) == number
            until(lambda: pool._work_queue.waiting() == (1, 0, 0))
        assert len(pool._threads) == 1


def test_threads_are_started_as_tasks_need_them_and_no_more_than_allowed(gate):
    with ThreadPool(3, "worker") as pool:
        tasks = [pool.submit(gate.wait, BOUND) for _ in range(10)]
        until(lambda: len(pool.busy()) == 3)
        assert sorted(thread.name for thread in pool._threads) == ["worker_0", "worker_1", "worker_2"]
        assert (pool.pending, pool.max_workers) == (7, 3)
        gate.set()
        assert all(task.result(BOUND) for task in tasks)


def test_idle_threads_end_and_others_are_started_when_there_is_work_again():
    with ThreadPool(2, idle_timeout=0.001) as pool:
        assert pool.submit(int, 1).result(BOUND) == 1
        until(lambda: not pool._threads)
        assert pool.submit(int, 2).result(BOUND) == 2


def test_no_task_is_lost_between_a_thread_that_ends_and_one_that_is_started():
    with ThreadPool(2, idle_timeout=0.0) as pool:
        assert [pool.submit(int, number).result(BOUND) for number in range(2000)] == list(range(2000))


def test_the_threads_of_a_pool_that_nobody_holds_end_after_their_work(gate):
    pool = ThreadPool(2)
    task = pool.submit(gate.wait, BOUND)
    threads = pool._threads
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    gate.set()
    assert task.result(BOUND)
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()


def test_a_broken_initializer_fails_what_waits_and_refuses_the_rest(caplog):
    def fail():
        raise ValueError("no database")

    with caplog.at_level(logging.CRITICAL), ThreadPool(1, initializer=fail) as pool:
        with pytest.raises(BrokenThreadPool):
            pool.submit(int).result(BOUND)
        with pytest.raises(BrokenThreadPool):
            pool.submit(int)
    assert "no database" in caplog.text


@pytest.mark.parametrize("options", [{"max_workers": 0}, {"max_pending": 0}])
def test_a_bound_of_nothing_is_refused(options):
    with pytest.raises(ValueError):
        ThreadPool(**options)
    with pytest.raises(TypeError):
        ThreadPool(initializer="not callable")


# What it shows


def test_busy_names_function_item_seconds_and_the_line(gate):
    def process(item, other):
        assert item and other
        gate.wait(BOUND)

    with ThreadPool(2, "busy") as pool:
        pool.submit(process, "host-7", 1)
        until(lambda: pool.busy() and "wait" in pool.busy()[0].where)
        [busy] = pool.busy()
        gate.set()
    assert busy.function.endswith("<locals>.process")
    assert (busy.item, busy.thread) == ("host-7", "busy_0")
    assert busy.seconds >= 0
    assert "threading.py:" in busy.where
    assert "process('host-7') for " in str(busy)
    assert pool.busy() == []


def test_busy_sees_through_what_to_thread_wraps_around_a_function(gate):
    async def main(pool):
        asyncio.get_running_loop().set_default_executor(pool)
        task = asyncio.create_task(asyncio.to_thread(gate.wait, BOUND))
        while not pool.busy():
            await asyncio.sleep(0)
        seen = [(busy.function, busy.item) for busy in pool.busy()]
        gate.set()
        await task
        return seen

    assert asyncio.run(main(ThreadPool(1))) == [("Event.wait", BOUND)]


def test_a_pool_whose_threads_are_all_busy_says_so_while_work_waits(gate, caplog):
    with caplog.at_level(logging.WARNING), ThreadPool(2, "handlers", warn_after=0.01) as pool:
        tasks = [pool.submit(gate.wait, BOUND) for _ in range(5)]
        until(lambda: caplog.records)
        gate.set()
        assert all(task.result(BOUND) for task in tasks)
    [record] = caplog.records
    text = record.getMessage()
    assert "all 2 threads of handlers have been busy" in text
    # On a busy machine the third may wait for so long before the fifth is submitted.
    assert any(f"and {waiting} tasks wait" in text for waiting in (1, 2, 3))
    assert "Event.wait(30) for" in text


def test_the_thread_that_watches_ends_with_the_last_pool_it_watches(gate):
    with ThreadPool(1) as pool:
        pool.submit(gate.wait, BOUND)
        pool.submit(int)
        watchers = [thread for thread in threading.enumerate() if thread.name == "unisono-watch"]
        assert watchers
        gate.set()
    for thread in watchers:
        thread.join(BOUND)
        assert not thread.is_alive()


# What it bounds, and what it carries


def test_submit_waits_while_as_many_tasks_wait_as_may(gate):
    with ThreadPool(1, max_pending=2) as pool, ThreadPoolExecutor(1) as other:
        pool.submit(gate.wait, BOUND)
        until(lambda: pool.busy())
        pool.submit(int)
        pool.submit(int)
        third = other.submit(pool.submit, int, 3)
        assert pool.pending == 2
        gate.set()
        assert third.result(BOUND).result(BOUND) == 3


def test_on_a_loop_a_full_pool_raises_instead_of_stopping_the_loop(gate):
    async def main():
        with ThreadPool(1, max_pending=1) as pool:
            pool.submit(gate.wait, BOUND)
            while not pool.busy():
                await asyncio.sleep(0)
            pool.submit(int)
            with pytest.raises(QueueFull):
                pool.submit(int)
            gate.set()

    asyncio.run(main())


def test_a_task_of_the_pool_may_submit_to_it_even_when_it_is_full():
    with ThreadPool(1, max_pending=1) as pool:
        inner = pool.submit(lambda: [pool.submit(int, number) for number in range(5)]).result(BOUND)
        assert [task.result(BOUND) for task in inner] == [0, 1, 2, 3, 4]


def test_places_of_tasks_that_are_cancelled_are_given_back(gate):
    pool = ThreadPool(1, max_pending=2)
    pool.submit(gate.wait, BOUND)
    until(lambda: pool.busy())
    waiting = [pool.submit(int), pool.submit(int)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(task.cancelled() for task in waiting)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
    gate.set()
    pool.shutdown()


def test_a_task_runs_in_the_context_in_which_it_was_submitted():
    variable = contextvars.ContextVar("variable", default="none")
    with ThreadPool(1) as pool:
        variable.set("mine")
        task = pool.submit(variable.get)
        variable.set("later")
        assert task.result(BOUND) == "mine"
        assert pool.submit(variable.set, "theirs").result(BOUND)
        assert variable.get() == "later"


def test_map_with_a_buffersize_submits_no_more_than_that_ahead():
    pulled = []

    def numbers():
        for number in range(10):
            pulled.append(number)
            yield number

    with ThreadPool(2) as pool:
        results = pool.map(abs, numbers(), buffersize=3)
        assert pulled == [0, 1, 2]
        assert next(results) == 0
        assert pulled == [0, 1, 2, 3]
        assert list(results) == list(range(1, 10))
        for wrong, error in ((0, ValueError), (1.5, TypeError)):
            with pytest.raises(error):
                pool.map(abs, [], buffersize=wrong)


def test_a_loop_takes_it_as_its_default_executor():
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPool(2, "mine"))
        return await loop.run_in_executor(None, lambda: threading.current_thread().name)

    assert asyncio.run(main()) == "mine_0"


# How it ends


def test_at_the_end_of_the_program_what_was_submitted_is_finished():
    text = """
import unisono
pool = unisono.ThreadPool(1)
for number in range(100):
    pool.submit(print, number)
"""
    assert program(text) == (0, "".join(f"{number}\n" for number in range(100)), "")


def test_a_task_that_runs_at_the_end_of_the_program_is_named():
    text = """
import sys, threading, unisono
from unisono._pools import thread_workers as _thread_workers
_thread_workers._PATIENCE = 0.01
said = threading.Event()
class Stderr:
    def write(self, text):
        sys.__stderr__.write(text)
        said.set()
    def flush(self):
        sys.__stderr__.flush()
sys.stderr = Stderr()
def stuck(host):
    said.wait()
unisono.ThreadPool(1, "deploy").submit(stuck, "db-3")
"""
    status, _, said = program(text)
    assert status == 0
    assert "the program ends when what runs in deploy has ended:\n  stuck('db-3') for " in said


def test_the_child_of_a_fork_is_refused_and_the_parent_goes_on(gate):
    with ThreadPool(1) as pool:
        pool.submit(gate.wait, BOUND)
        until(lambda: pool.busy())
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                pool.submit(int)
            except RuntimeError as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with open(reader) as said:
            assert "in the parent" in said.read()
        gate.set()
        assert pool.submit(int, 5).result(BOUND) == 5


def test_a_submit_that_is_interrupted_while_it_waits_for_room_leaves_its_place_to_the_next():
    go_on = threading.Event()
    with ThreadPool(1, max_pending=1) as pool:
        begun = threading.Event()
        pool.submit(lambda: begun.set() or go_on.wait(60))
        begun.wait(60)
        pool.submit(abs, 1)
        places = pool._workers.places
        for _ in range(10):
            killer = threading.Thread(
                target=lambda: (until(lambda: places.waiting == 1), os.kill(os.getpid(), signal.SIGINT))
            )
            killer.start()
            with pytest.raises(KeyboardInterrupt):
                pool.submit(abs, 2)
            killer.join()
        assert (places.inside, places.waiting) == (1, 0)
        go_on.set()
        assert pool.submit(abs, -3).result(60) == 3
    assert places.inside == 0


# Futures


def test_a_callback_that_raises_system_exit_takes_no_thread_with_it_and_the_next_is_called(gate, caplog):
    called = []
    with ThreadPool(1) as pool:
        first = pool.submit(gate.wait, BOUND)
        first.add_done_callback(lambda future: sys.exit("from a callback"))
        first.add_done_callback(called.append)
        gate.set()
        assert pool.submit(int, 1).result(BOUND) == 1
        assert len(pool._threads) == 1
    assert called == [first]
    assert "SystemExit: from a callback" in caplog.text


def test_whoever_waits_for_a_task_that_is_then_cancelled_hears_of_it(gate):
    with ThreadPool(2) as others, ThreadPool(1) as pool:
        pool.submit(gate.wait, BOUND)
        cancelled = pool.submit(int)
        waits = others.submit(cancelled.exception, BOUND)
        until(lambda: any(busy.function.endswith("exception") for busy in others.busy()))
        assert cancelled.cancel()
        assert isinstance(waits.exception(BOUND), CancelledError)
        gate.set()


def test_a_result_is_raised_anew_by_each_call_and_its_waiters_share_it(gate):
    def fail():
        gate.wait(BOUND)
        raise KeyError("once")

    with ThreadPool(3) as pool:
        task = pool.submit(fail)
        waits = [pool.submit(task.exception, BOUND) for _ in range(2)]
        with pytest.raises(TimeoutError):
            task.result(0)
        gate.set()
        errors = {id(wait.result(BOUND)) for wait in waits}
        with pytest.raises(KeyError) as raised:
            task.result(BOUND)
        assert errors == {id(raised.value)}


def test_a_task_is_done_for_the_standard_functions_whenever_they_look():
    with ThreadPool(2) as pool:
        for _ in range(300):
            tasks = [pool.submit(int, number) for number in range(4)]
            # Their locks are made while the tasks end.
            assert {task.result() for task in as_completed(tasks, BOUND)} == set(range(4))
            done, waiting = wait([pool.submit(int), pool.submit(int)], BOUND)
            assert (len(done), len(waiting)) == (2, 0)


def test_a_callback_is_called_once_whenever_it_is_added():
    called = []
    with ThreadPool(2) as pool:
        for number in range(1000):
            pool.submit(int).add_done_callback(lambda future, number=number: called.append(number))
    assert sorted(called) == list(range(1000))


def test_in_the_child_of_a_fork_nobody_waits_for_a_thread_that_is_in_the_parent():
    text = """
import concurrent.futures, os, signal, threading, warnings, unisono
# Since Python 3.12 each fork beside threads is warned of.
warnings.simplefilter("ignore", DeprecationWarning)
gate = threading.Event()
pool = unisono.ThreadPool(1)
task = pool.submit(gate.wait, 30)
watched = pool.submit(abs, -1)
watched.add_done_callback(lambda _: None)
waits = [
    lambda: task.result(),
    lambda: task.exception(),
    lambda: concurrent.futures.wait([task]),
    lambda: concurrent.futures.wait([watched]),
    lambda: next(concurrent.futures.as_completed([watched])),
    lambda: task.add_done_callback(print),
]
child = os.fork()
if child == 0:
    signal.alarm(60)
    for wait in waits:
        try:
            wait()
        except RuntimeError as error:
            print(error, flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
gate.set()
print(task.result(), watched.result())
"""
    refused = "this task's thread is in the parent of this process\n"
    assert program(text) == (0, 6 * refused + "0\nTrue 1\n", "")


class Noting:
    """Notes when it is dropped."""

    def __init__(self, dropped):
        self.dropped = dropped

    def __del__(self):
        self.dropped.append(self)


@pytest.mark.parametrize("holds", ["an argument", "a keyword", "the function", "the context"])
def test_what_a_call_held_is_dropped_before_its_result_is_there(holds):
    variable = contextvars.ContextVar("variable")

    def call(*_, held=None):
        if holds == "the context":
            variable.set(Noting(dropped))

    with ThreadPool(1) as pool:
        for _ in range(200):
            dropped = []
            if holds == "an argument":
                task = pool.submit(call, Noting(dropped))
            elif holds == "a keyword":
                task = pool.submit(call, held=Noting(dropped))
            elif holds == "the function":
                task = pool.submit(functools.partial(call, Noting(dropped)))
            else:
                task = pool.submit(call)
            task.result(BOUND)
            assert dropped


def test_a_result_is_there_while_the_callbacks_of_its_task_run(gate):
    with ThreadPool(1) as pool:
        may_end = threading.Event()
        task = pool.submit(may_end.wait, BOUND)
        task.add_done_callback(lambda _: gate.wait(BOUND))
        asked = []
        asking = threading.Thread(target=lambda: asked.append(task.result(BOUND)))
        asking.start()
        may_end.set()
        asking.join(BOUND)
        assert asked == [True]
        gate.set()


@pytest.mark.parametrize("is_last", [False, True])
def test_a_result_is_waited_for_though_its_thread_waits_for_no_further_task(is_last):
    """Those that wait for a result are woken with the next wait of the thread that has it."""
    for _ in range(200):
        pool = ThreadPool(1)
        may_end = threading.Event()

        def work(pool=pool, may_end=may_end):
            may_end.wait(BOUND)
            if is_last:
                pool.shutdown(wait=False)
            return 7

        task = pool.submit(work)
        others = [] if is_last else [pool.submit(int, number) for number in range(3)]
        asked = []
        asking = threading.Thread(target=lambda task=task, asked=asked: asked.append(task.result(BOUND)))
        asking.start()
        may_end.set()
        asking.join(BOUND)
        assert asked == [7]
        assert [other.result(BOUND) for other in others] == list(range(len(others)))
        pool.shutdown()


def test_tasks_that_are_waited_for_one_at_a_time_by_many_threads_all_have_their_own_result():
    with ThreadPool(3) as pool:

        def ask(first):
            return [pool.submit(int, number).result(BOUND) for number in range(first, first + 500)]

        with ThreadPoolExecutor(4) as askers:
            for first, results in zip(range(0, 4000, 1000), askers.map(ask, range(0, 4000, 1000)), strict=True):
                assert results == list(range(first, first + 500))


def test_a_task_that_is_waited_for_may_submit_and_wait_in_its_turn():
    with ThreadPool(8) as pool:

        def count(depth):
            return depth and 1 + pool.submit(count, depth - 1).result(BOUND)

        for _ in range(50):
            assert pool.submit(count, 7).result(BOUND) == 7


def test_a_fork_in_the_middle_of_waits_leaves_a_child_that_can_wait_and_be_waited_for():
    text = """
import os, threading, warnings
from unisono import ThreadPool
warnings.simplefilter("ignore")
pool = ThreadPool(2)
def ask():
    for number in range(2000):
        assert pool.submit(int, number).result(30) == number
asking = [threading.Thread(target=ask) for _ in range(2)]
for thread in asking:
    thread.start()
for _ in range(10):
    child = os.fork()
    if not child:
        with ThreadPool(2) as own:
            for number in range(100):
                assert own.submit(int, number).result(30) == number
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
for thread in asking:
    thread.join()
print("ok")
"""
    assert program(text) == (0, "ok\n", "")


def test_a_task_whose_result_holds_its_own_future_is_collected():
    class Holder:
        pass

    def hold():
        holder = Holder()
        with ThreadPool(1) as pool:
            holder.task = pool.submit(lambda: holder)
            assert holder.task.result(BOUND) is holder
        return weakref.ref(holder)

    gone = hold()
    gc.collect()
    assert gone() is None


def test_what_is_set_into_a_thread_of_a_pool_ends_the_task_that_it_comes_upon_and_nothing_else():
    class Stop(Exception):
        pass

    with ThreadPool(2, "stopped", max_pending=40) as pool:
        for _ in range(50):
            tasks = [pool.submit(sum, range(number * 10)) for number in range(40)]
            for thread in threading.enumerate():
                if thread.name.startswith("stopped"):
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stop))
            errors = [task.exception(BOUND) for task in tasks]
            assert all(error is None or isinstance(error, Stop) for error in errors)
        # Both threads work, and all places of `max_pending` are free.
        gate = threading.Event()
        both = [pool.submit(gate.wait) for _ in range(2)]
        until(lambda: pool.pending == 0)
        waiting = [pool.submit(abs, -1) for _ in range(40)]
        gate.set()
        assert [task.exception(BOUND) for task in [*both, *waiting]] == 42 * [None]
