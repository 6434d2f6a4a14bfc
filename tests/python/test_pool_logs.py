"""What pools tell under `unisono.pool`: deaths, starts that fail, replacements, tasks past their time, lost zygotes."""

import logging
import os
import signal
import threading
import time

import pytest

import unisono
from support.processes import until
from unisono.errors import PoolBroken, TaskTimeout, WorkerDied

# What these tests are about is not what a fork of a program with threads may lead to, as that of pytest may be.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:RuntimeWarning")

LONG = 60
METHODS = ["zygote", "spawn", "fork"]


@pytest.fixture
def records(caplog):
    """What was told so far, with the level and without what else logs."""
    caplog.set_level(logging.INFO, "unisono.pool")
    return lambda: [record for record in caplog.records if record.name == "unisono.pool"]


def die(signal_number):
    os.kill(os.getpid(), signal_number)


def leave(code):
    os._exit(code)


def said(record):
    return record.levelname, record.getMessage()


@pytest.mark.parametrize("method", METHODS)
def test_a_death_is_told_with_the_worker_how_it_ended_what_it_ran_and_what_becomes_of_that(records, method):
    with unisono.ProcessPool(1, start_method=method, name="crunch") as pool:
        pid = pool.submit(os.getpid).result(LONG)
        with pytest.raises(WorkerDied):
            pool.submit(die, signal.SIGKILL).result(LONG)
    [record] = records()
    text = (
        f"the process pool crunch: worker {pid} was killed by SIGKILL while it ran task 2 ({__name__}.die), which fails"
    )
    assert said(record) == ("WARNING", text)
    about = ("pool", "pid", "signal", "exit_code", "item", "task", "attempt", "key")
    assert [getattr(record, name) for name in about] == [
        *("crunch", pid, 9, None),
        *(f"{__name__}.die", 2, 1, None),
    ]


def test_each_attempt_that_loses_its_worker_is_told_and_whether_there_is_another(records):
    with unisono.ProcessPool(1) as pool, pytest.raises(WorkerDied):
        pool.task(retries=5, key="db").submit(leave, 3).result(LONG)
    first, second, third = records()
    assert said(first)[1].endswith(
        " exited with code 3 while it ran task 1 (" + __name__ + ".leave), which is tried again: attempt 2 of 6"
    )
    assert said(third)[1].endswith("which fails, since it has killed 3 workers")
    assert [(one.attempt, one.exit_code, one.key) for one in (first, second, third)] == [
        (n, 3, "db") for n in (1, 2, 3)
    ]
    assert len({one.pid for one in (first, second, third)}) == 3


def test_a_worker_that_dies_between_tasks_is_told_when_it_is_noticed(records):
    with unisono.ProcessPool(1) as pool:
        pid = pool.submit(os.getpid).result(LONG)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the worker")
        assert pool.submit(os.getpid).result(LONG) != pid
    [record] = records()
    assert f"worker {pid} was killed by SIGKILL while it ran no task; another one" in record.getMessage()
    assert record.task is None


def test_a_task_past_its_time_is_told_and_its_worker_is_not_told_again(records):
    with unisono.ProcessPool(1) as pool, pytest.raises(TaskTimeout):
        pool.task(timeout=0.05).submit(time.sleep, 3600).result(LONG)
    [record] = records()
    assert record.levelname == "WARNING"
    assert "task 1 (time.sleep) has run for longer than 0.05 s, for which worker " in record.getMessage()
    assert record.getMessage().endswith("is killed; the task fails")


def test_a_worker_that_is_replaced_is_told_at_info_alone(records, caplog):
    with unisono.ProcessPool(1, max_tasks_per_child=2) as pool:
        pids = [pool.submit(os.getpid).result(LONG) for _ in range(4)]
    assert [said(one) for one in records()][:1] == [
        ("INFO", f"the process pool unisono: worker {pids[0]} has had its 2 tasks, and ends")
    ]
    caplog.clear()
    caplog.set_level(logging.WARNING, "unisono.pool")
    with unisono.ProcessPool(1, max_tasks_per_child=1) as pool:
        list(pool.map(abs, range(5)))
        assert pool._engine.events() == []
    assert records() == []


def test_a_start_that_fails_is_told_with_the_reason_and_the_last_says_that_the_pool_is_broken(records):
    with unisono.ProcessPool(1, initializer=leave, initargs=(7,)) as pool, pytest.raises(PoolBroken):
        pool.submit(abs, -1).result(LONG)
    first, second, last = [said(one) for one in records()]
    why = " exited with code 7 before its first task"
    assert first[1] == f"the process pool unisono: a start has failed, 1 of 3 in a row that break it: a worker{why}"
    assert "2 of 3" in second[1]
    assert last[1].startswith(
        "the process pool unisono: is broken: 3 starts of workers in a row have failed; the last:"
    )
    assert {first[0], second[0], last[0]} == {"WARNING"}


def fail():
    raise LookupError("no table")


def test_an_initializer_that_raises_is_told_as_what_breaks_the_pool(records):
    with unisono.ProcessPool(1, initializer=fail) as pool, pytest.raises(PoolBroken):
        pool.submit(abs, -1).result(LONG)
    assert "is broken: " in records()[0].getMessage() and "no table" in records()[0].getMessage()


def parent():
    return os.getppid()


def test_a_zygote_that_was_killed_is_told_once_whatever_number_of_workers_it_had(records):
    # Of its own: another pool's would be told there.
    with unisono.ProcessPool(2, preload=["textwrap"]) as pool:
        started = [pool.submit(os.getpid) for _ in range(20)]
        assert {one.result(LONG) for one in started}
        zygote = pool.submit(parent).result(LONG)
        os.kill(zygote, signal.SIGKILL)
        # What happens to a pool without a task is told with its next one.
        until(lambda: pool.submit(abs, -1).result(LONG) == 1 and records(), "the record")
    [record] = records()
    assert record.getMessage() == (
        "the process pool unisono: the process that makes the workers was killed by SIGKILL, and its workers end with "
        "it; another one starts when it is needed"
    )
    assert record.signal == 9


def test_what_the_program_has_asked_for_is_not_told(records):
    with unisono.ProcessPool(2) as pool:
        running = pool.submit(time.sleep, 3600)
        until(running.running, "the start of the task")
        assert running.cancel(running=True)
        assert pool.submit(abs, -1).result(LONG) == 1
    pool = unisono.ProcessPool(1)
    until(pool.submit(time.sleep, 3600).running, "the start of the task")
    pool.terminate()
    job = unisono.spawn(time.sleep, 3600)
    job.kill()
    assert records() == []


def test_the_end_of_a_job_is_told_by_the_job_alone(records):
    job = unisono.spawn(die, signal.SIGKILL)
    assert job.join(LONG) and job.signal == 9
    assert records() == []


def test_nothing_is_told_where_the_level_is_off_when_the_pool_is_made(records, caplog):
    caplog.set_level(logging.ERROR, "unisono.pool")
    with unisono.ProcessPool(1) as pool, pytest.raises(WorkerDied):
        pool.submit(die, signal.SIGKILL).result(LONG)
    assert records() == []


def test_a_handler_may_use_the_pool_and_what_it_raises_keeps_the_pool_from_nothing(capfd):
    results = []

    class Handler(logging.Handler):
        def emit(self, record):
            results.append(pool.submit(abs, -7).result(LONG))
            results.append(threading.current_thread().name)
            raise SystemExit(record.getMessage())

    handler = Handler()
    logger = logging.getLogger("unisono.pool")
    logger.addHandler(handler)
    try:
        with unisono.ProcessPool(1, name="self") as pool:
            for _ in range(2):
                with pytest.raises(WorkerDied):
                    pool.submit(die, signal.SIGKILL).result(LONG)
            assert pool.submit(abs, -1).result(LONG) == 1
            until(lambda: len(results) == 4, "both records")
    finally:
        logger.removeHandler(handler)
    assert results == [7, "self-pool"] * 2
    assert "SystemExit" in capfd.readouterr().err


def test_a_pool_of_threads_that_cannot_start_one_says_so_once_and_again_when_it_lasts_anew(records, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def wait():
        begun.set()
        go_on.wait(LONG)

    start = threading.Thread.start
    refused = [True]

    def start_or_not(thread):
        if refused[0] and thread.name.startswith("few"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with unisono.ThreadPool(4, "few") as pool:
        first = pool.submit(wait)
        assert begun.wait(LONG)
        monkeypatch.setattr(threading.Thread, "start", start_or_not)
        waiting = [pool.submit(abs, -1) for _ in range(5)]
        [record] = records()
        text = (
            "the thread pool few could not start a thread, and goes on with those that it has: can't start new thread"
        )
        assert (said(record), record.pool) == (("WARNING", text), "few")
        refused[0] = False
        # One that starts takes all that waits.
        waiting.append(pool.submit(abs, -1))
        assert [one.result(LONG) for one in waiting] == [1] * 6
        go_on.set()
        first.result(LONG)
    assert len(records()) == 1


def test_a_handler_of_a_pool_of_threads_may_use_it_from_another_thread(records, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    start = threading.Thread.start

    def start_or_not(thread):
        if thread.name.startswith("few_") and begun.is_set():
            raise RuntimeError("can't start new thread")
        start(thread)

    def wait():
        begun.set()
        go_on.wait(LONG)

    class Handler(logging.Handler):
        def emit(self, record):
            other = threading.Thread(target=lambda: submitted.append(pool.submit(abs, -2)))
            other.start()
            other.join(LONG)
            assert not other.is_alive()

    submitted = []
    handler = Handler()
    logging.getLogger("unisono.pool").addHandler(handler)
    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    try:
        with unisono.ThreadPool(2, "few") as pool:
            pool.submit(wait)
            assert begun.wait(LONG)
            submitted.append(pool.submit(abs, -2))
            go_on.set()
            assert [one.result(LONG) for one in submitted] == [2, 2]
    finally:
        logging.getLogger("unisono.pool").removeHandler(handler)
