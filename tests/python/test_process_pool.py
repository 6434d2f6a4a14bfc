"""Worker processes as an executor: results, errors, deaths, deadlines, and what the standard library makes of them."""

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import unisono
from support.processes import is_alive, until
from unisono.errors import PoolBroken, RemoteError, TaskTimeout, UnpicklableError, WorkerDied

LONG = 60


@pytest.fixture
def pool():
    pool = unisono.ProcessPool(2)
    yield pool
    pool.terminate()


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first}-{second}")


def raise_two_arguments():
    raise TwoArguments(1, 2)


def pause(seconds, value=None):
    time.sleep(seconds)
    return value


def die(number):
    os.kill(os.getpid(), number)


def append(path, text):
    with open(path, "a") as file:
        file.write(text)
    return text


def append_and_die(path):
    append(path, "x")
    os._exit(9)


def fail_first(path, text):
    append(path, text)
    with open(path) as file:
        if len(file.read()) < 3:
            raise ValueError("not yet")
    return "now"


def test_a_call_runs_in_another_process_and_its_result_comes_back(pool):
    assert pool.submit(os.getpid).result(LONG) != os.getpid()
    assert pool.submit(dict, [("a", 1)], b=[2.5, None, True, "é", b"\0"]).result(LONG) == {
        "a": 1,
        "b": [2.5, None, True, "é", b"\0"],
    }


def test_plain_values_come_back_as_they_went(pool):
    values = [None, True, False, 0, -1, 2**62, 2**80, 1.5, "", "é\ud800", b"", b"x" * 100_000, "x" * 100_000, (), (1,)]
    assert list(pool.map(_itself, values)) == values


def _itself(value):
    return value


def test_map_keeps_the_order_and_raises_where_the_call_raised(pool):
    results = pool.map(int, ["1", "2", "x", "4"])
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="invalid literal"):
        next(results)


@pytest.mark.parametrize("options", [{}, {"chunksize": 7}, {"buffersize": 3}, {"chunksize": 4, "buffersize": 2}])
def test_map_of_many_items_gives_each_result_once(pool, options):
    assert list(pool.map(pow, range(5000), [2] * 5000, **options)) == [n * n for n in range(5000)]


def test_map_with_a_buffer_pulls_no_further_than_that(pool):
    pulled = []
    results = pool.map(abs, (pulled.append(n) or n for n in range(100)), buffersize=5)
    assert len(pulled) == 5
    assert next(results) == 0
    assert len(pulled) == 6


def test_map_past_its_timeout_raises(pool):
    with pytest.raises(TimeoutError):
        list(pool.map(pause, [LONG], timeout=0.05))


def test_an_exception_comes_back_with_its_remote_frames(pool):
    error = pool.submit(int, "x").exception(LONG)
    assert isinstance(error, ValueError)
    assert "invalid literal" in str(error.__cause__)


def test_an_exception_that_cannot_be_read_again_comes_as_its_text(pool):
    with pytest.raises(RemoteError, match="TwoArguments: 1-2") as caught:
        pool.submit(raise_two_arguments).result(LONG)
    assert "raise_two_arguments" in caught.value.traceback


def test_sys_exit_in_a_task_is_its_exception_and_not_the_workers_end(pool):
    with pytest.raises(SystemExit):
        pool.submit(sys.exit, 3).result(LONG)
    assert pool.submit(abs, -1).result(LONG) == 1


def test_an_argument_that_cannot_be_pickled_fails_its_own_task(pool):
    with pytest.raises(UnpicklableError, match="cannot be sent"):
        pool.submit(abs, threading.Lock()).result(LONG)
    assert pool.submit(abs, -1).result(LONG) == 1


def test_a_method_of_an_object_is_called_on_the_object_as_it_is_when_it_is_submitted(pool):
    numbers = {}
    method = numbers.get
    assert pool.submit(method, "one").result(LONG) is None
    numbers["one"] = 1
    assert pool.submit(method, "one").result(LONG) == 1
    assert list(pool.map(method, ["one", "two"])) == [1, None]


def test_a_result_that_cannot_be_pickled_fails_its_own_task(pool):
    with pytest.raises(UnpicklableError, match="cannot be sent"):
        pool.submit(threading.Lock).result(LONG)
    assert pool.submit(abs, -1).result(LONG) == 1


def test_large_arguments_and_results_come_back_whole(pool):
    data = os.urandom(20_000_000)
    for size in (32_000, 33_000, 65_535, 65_537, 1_000_000, len(data)):
        assert pool.submit(_itself, data[:size]).result(LONG) == data[:size]
        assert bytes(pool.submit(_itself, memoryview(data[:size])).result(LONG)) == data[:size]


def test_a_death_fails_its_own_task_and_no_other(pool):
    futures = [pool.submit(os._exit, 7) if n == 5 else pool.submit(pow, n, 2) for n in range(12)]
    with pytest.raises(WorkerDied, match="exited with code 7") as caught:
        futures[5].result(LONG)
    assert caught.value.exit_code == 7
    assert [f.result(LONG) for n, f in enumerate(futures) if n != 5] == [n * n for n in range(12) if n != 5]
    assert pool.submit(abs, -1).result(LONG) == 1


def test_a_death_by_signal_names_the_signal(pool):
    with pytest.raises(WorkerDied, match="SIGSEGV") as caught:
        pool.submit(die, signal.SIGSEGV).result(LONG)
    assert caught.value.signal == signal.SIGSEGV
    assert isinstance(caught.value, concurrent.futures.BrokenExecutor)


def speak_and_die():
    sys.stderr.write("the last words\n")
    sys.stderr.flush()
    os.abort()


def test_a_death_comes_with_the_last_words_of_the_worker_and_they_are_passed_on(capfd):
    last = "SIGABRT; the end of its stderr:\nthe last words"
    with unisono.ProcessPool(1) as pool, pytest.raises(WorkerDied, match=last) as caught:
        pool.submit(speak_and_die).result(LONG)
    assert caught.value.stderr == "the last words\n"
    assert capfd.readouterr().err == "the last words\n"


def test_no_task_runs_twice_when_workers_die_among_many(pool, tmp_path):
    path = tmp_path / "ran"
    futures = [pool.submit(os._exit, 1) if n % 50 == 25 else pool.submit(append, path, f"{n}\n") for n in range(500)]
    assert sum(isinstance(f.exception(LONG), WorkerDied) for f in futures) == 10
    ran = path.read_text().split()
    assert sorted(map(int, ran)) == [n for n in range(500) if n % 50 != 25]


def test_a_task_that_has_killed_three_workers_is_not_tried_again(pool, tmp_path):
    with pytest.raises(WorkerDied, match="ended 3 workers"):
        pool.task(retries=10).submit(append_and_die, tmp_path / "ran").result(LONG)
    assert (tmp_path / "ran").read_text() == "xxx"


def test_a_task_that_raises_is_tried_again_as_often_as_asked(pool, tmp_path):
    assert pool.task(retries=2).submit(fail_first, tmp_path / "a", "x").result(LONG) == "now"
    with pytest.raises(ValueError, match="not yet"):
        pool.task(retries=1).submit(fail_first, tmp_path / "b", "x").result(LONG)


def test_a_task_past_its_timeout_is_killed_and_what_waits_behind_it_runs(pool):
    late = [pool.task(timeout=0.1).submit(pause, LONG) for _ in range(2)]
    behind = [pool.submit(abs, -n) for n in range(20)]
    for future in late:
        with pytest.raises(TaskTimeout) as caught:
            future.result(LONG)
        assert isinstance(caught.value, TimeoutError)
    assert [f.result(LONG) for f in behind] == list(range(20))


def test_the_time_that_a_task_waits_is_not_counted(pool):
    futures = [pool.task(timeout=30).submit(pause, 0.01, n) for n in range(20)]
    assert [f.result(LONG) for f in futures] == list(range(20))


def test_a_timeout_that_is_no_time_is_refused(pool):
    for timeout in (0, -1, float("nan")):
        with pytest.raises(unisono.UsageError):
            pool.task(timeout=timeout).submit(abs, 1)


def test_a_waiting_task_can_be_cancelled_and_a_running_one_killed(pool):
    running = [pool.submit(pause, LONG) for _ in range(2)]
    while not all(f.running() for f in running):
        time.sleep(0.001)
    waiting = pool.submit(abs, -1)
    assert not running[0].cancel()
    assert waiting.cancel()
    assert waiting.cancelled()
    assert running[0].cancel(running=True)
    with pytest.raises(concurrent.futures.CancelledError):
        running[0].result(LONG)
    assert pool.submit(abs, -1).result(LONG) == 1


def test_the_standard_wait_and_as_completed_take_our_futures(pool):
    futures = [pool.submit(pow, n, 2) for n in range(50)]
    assert {f.result() for f in concurrent.futures.as_completed(futures, LONG)} == {n * n for n in range(50)}
    slow = pool.submit(pause, LONG)
    done, pending = concurrent.futures.wait([*futures, slow], LONG, return_when="FIRST_COMPLETED")
    assert (len(done), pending) == (50, {slow})
    fails = pool.submit(int, "x")
    done, pending = concurrent.futures.wait([slow, fails], LONG, return_when="FIRST_EXCEPTION")
    assert (done, pending) == ({fails}, {slow})


def test_callbacks_are_called_once_whether_early_or_late(pool):
    called = []
    told = threading.Event()
    future = pool.submit(pause, 0.01, 1)
    future.add_done_callback(lambda f: (called.append(f.result()), told.set()))
    assert told.wait(LONG)
    future.add_done_callback(lambda f: called.append(f.result()))
    assert called == [1, 1]


def test_a_loop_runs_calls_in_the_pool(pool):
    async def main():
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(*(loop.run_in_executor(pool, pow, n, 2) for n in range(500)))
        wrapped = await asyncio.wrap_future(pool.submit(abs, -3))
        with pytest.raises(ValueError, match="invalid literal"):
            await loop.run_in_executor(pool, int, "x")
        return results, wrapped

    assert asyncio.run(main()) == ([n * n for n in range(500)], 3)


def test_uvloop_runs_calls_in_the_pool(pool):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool, pow, n, 2) for n in range(200)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == [n * n for n in range(200)]


def test_many_threads_share_a_pool(pool):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda n: pool.submit(pow, n, 2).result(LONG), range(400)))
    assert results == [n * n for n in range(400)]


def test_tasks_run_while_nobody_asks_for_them(pool, tmp_path):
    futures = [pool.submit(append, tmp_path / "ran", "x") for _ in range(20)]
    until = time.monotonic() + LONG
    while not ((tmp_path / "ran").exists() and len((tmp_path / "ran").read_text()) == 20):
        assert time.monotonic() < until
        time.sleep(0.005)
    assert all(f.result(LONG) == "x" for f in futures)


def test_what_runs_for_multiprocessing_runs_here(pool):
    assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert list(pool.imap(abs, range(-3, 0))) == [3, 2, 1]
    assert sorted(pool.imap_unordered(abs, range(-3, 0))) == [1, 2, 3]
    assert sorted(pool.imap_unordered(abs, range(-9, 0), chunksize=2)) == list(range(1, 10))
    assert pool.apply(pow, (2,), {"exp": 5}) == 32
    result = pool.map_async(abs, range(-20, 0), chunksize=3)
    result.wait(LONG)
    assert result.get(LONG) == list(range(20, 0, -1))
    assert result.ready()
    assert result.successful()
    failed = pool.apply_async(int, ("x",))
    with pytest.raises(ValueError, match="invalid literal"):
        failed.get(LONG)
    assert not failed.successful()
    assert pool.map_async(abs, []).get(LONG) == []


def test_apply_async_calls_back(pool):
    told = threading.Event()
    called = []
    pool.apply_async(abs, (-4,), callback=lambda value: (called.append(value), told.set()))
    assert told.wait(LONG)
    assert called == [4]


def test_a_pool_that_was_shut_down_refuses_and_lets_what_waits_finish():
    pool = unisono.ProcessPool(1)
    futures = [pool.submit(pause, 0.01, n) for n in range(5)]
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)
    assert [f.result(LONG) for f in futures] == list(range(5))
    pool.join()


def open_and_close(fifo):
    with open(fifo):
        return 1


def test_shutdown_cancels_what_waits_when_asked_to(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    pool = unisono.ProcessPool(1)
    # It ends once it is let go, and so is seen while it runs.
    first = pool.submit(open_and_close, fifo)
    until(first.running)
    rest = [pool.submit(pause, LONG) for _ in range(3)]
    closing = threading.Thread(target=pool.shutdown, kwargs={"wait": True, "cancel_futures": True})
    closing.start()
    until(lambda: all(f.cancelled() for f in rest))
    fifo.write_text("")
    closing.join(LONG)
    assert first.result(LONG) == 1
    assert all(f.cancelled() for f in rest)


def test_a_worker_is_replaced_after_its_tasks():
    with unisono.ProcessPool(1, max_tasks_per_child=3) as pool:
        processes = [pool.submit(os.getpid).result(LONG) for _ in range(9)]
    assert len(set(processes)) == 3
    assert [processes.count(process) for process in dict.fromkeys(processes)] == [3, 3, 3]


def test_the_initializer_runs_in_each_worker_and_breaks_the_pool_when_it_raises():
    with unisono.ProcessPool(1, initializer=_set_variable, initargs=("yes",)) as pool:
        assert pool.submit(os.getenv, "UNISONO_TEST").result(LONG) == "yes"
    broken = unisono.ProcessPool(1, initializer=int, initargs=("x",))
    with broken, pytest.raises(PoolBroken, match="ValueError"):
        broken.submit(abs, 1).result(LONG)


def _set_variable(value):
    os.environ["UNISONO_TEST"] = value


def test_a_fresh_interpreter_per_worker_works_as_well():
    with unisono.ProcessPool(2, start_method="spawn") as pool:
        assert list(pool.map(abs, range(-3, 0))) == [3, 2, 1]


def test_workers_are_named_and_nice_and_bounded():
    with unisono.ProcessPool(1, name="crew", nice=3, memory_limit=2 << 30) as pool:
        process = pool.submit(os.getpid).result(LONG)
        with open(f"/proc/{process}/comm") as comm:
            assert comm.read().startswith("crew-")
        assert pool.submit(os.nice, 0).result(LONG) == min(os.nice(0) + 3, 19)
        with pytest.raises(MemoryError):
            pool.submit(bytearray, 3 << 30).result(LONG)


def test_submit_waits_while_too_much_is_pending():
    with unisono.ProcessPool(1, max_pending=2) as pool:
        assert [f.result(LONG) for f in [pool.submit(pause, 0.001, n) for n in range(20)]] == list(range(20))
        futures = [pool.submit(pause, 0.05) for _ in range(6)]
        assert sum(not f.done() for f in futures) <= 2


def test_pools_within_pools_are_allowed(pool):
    assert pool.submit(_nested).result(LONG) == [1, 4, 9]


def _nested():
    with unisono.ProcessPool(1) as inner:
        return list(inner.map(pow, [1, 2, 3], [2, 2, 2]))


def test_after_a_fork_the_child_refuses_clearly(pool):
    pool.submit(abs, 1).result(LONG)
    task, watched = pool.submit(pause, LONG), pool.submit(pause, LONG)
    watched.add_done_callback(lambda _: None)
    refused = [
        lambda: pool.submit(abs, 1),
        lambda: task.result(),
        lambda: task.exception(),
        lambda: concurrent.futures.wait([task]),
        lambda: concurrent.futures.wait([watched]),
        lambda: next(concurrent.futures.as_completed([watched])),
        lambda: task.add_done_callback(print),
    ]
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(LONG)
        try:
            for call in refused:
                try:
                    call()
                except RuntimeError as error:
                    os.write(writer, f"{error}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as text:
        told = text.read().splitlines()
    assert len(told) == len(refused) and all("after a fork" in line for line in told)
    os.waitpid(child, 0)
    assert task.cancel(running=True) and watched.cancel(running=True)
    assert pool.submit(abs, -1).result(LONG) == 1


def program(tmp_path, text, **options):
    path = tmp_path / "program.py"
    path.write_text(text)
    return subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_functions_of_a_guarded_main_work_and_it_does_not_run_twice(tmp_path):
    done = program(
        tmp_path,
        """
import unisono
print("imported as", __name__, flush=True)
def square(x): return x * x
if __name__ == "__main__":
    with unisono.ProcessPool(1) as pool:
        print(list(pool.map(square, [1, 2, 3])), flush=True)
        print(pool.submit(abs, -1).result())
""",
    )
    out, err = done.communicate(timeout=LONG)
    assert (sorted(out.split("\n")), err, done.returncode) == (
        ["", "1", "[1, 4, 9]", "imported as __main__", "imported as __mp_main__"],
        "",
        0,
    )


def test_nothing_outlives_a_program_that_was_killed(tmp_path):
    killed = program(
        tmp_path,
        """
import os, time, unisono
def busy():
    while True: pass
if __name__ == "__main__":
    pool = unisono.ProcessPool(2)
    numbers = [pool.submit(os.getpid).result()]
    futures = [pool.submit(busy) for _ in range(2)]
    while not all(f.running() for f in futures): time.sleep(0.001)
    children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
    for child in children: numbers += open(f"/proc/{child}/task/{child}/children").read().split()
    print(*numbers, *children, flush=True)
    time.sleep(600)
""",
    )
    processes = [int(word) for word in killed.stdout.readline().split()]
    assert len(processes) >= 4
    killed.kill()
    killed.communicate(timeout=LONG)
    until(lambda: not any(is_alive(process) for process in processes))


def test_a_program_that_ends_with_a_busy_pool_ends_and_says_what_that_costs(tmp_path):
    done = program(
        tmp_path,
        """
import time, unisono
if __name__ == "__main__":
    pool = unisono.ProcessPool(2)
    futures = [pool.submit(time.sleep, 600) for _ in range(10)]
    print("end")
""",
    )
    said = (
        "unisono: 10 tasks of a process pool had not ended when the program did, and ended with it. "
        "`with` or `shutdown()` wait for them.\n"
    )
    assert (done.communicate(timeout=LONG), done.returncode) == (("end\n", said), 0)


def test_ctrl_c_prints_one_traceback(tmp_path):
    interrupted = program(
        tmp_path,
        """
import time, unisono
if __name__ == "__main__":
    with unisono.ProcessPool(2) as pool:
        futures = [pool.submit(time.sleep, 600) for _ in range(2)]
        while not all(f.running() for f in futures): time.sleep(0.001)
        print("busy", flush=True)
        futures[0].result()
""",
        start_new_session=True,
    )
    assert interrupted.stdout.readline() == "busy\n"
    os.killpg(interrupted.pid, signal.SIGINT)
    _, err = interrupted.communicate(timeout=LONG)
    assert err.count("Traceback") == 1
    assert "KeyboardInterrupt" in err


def test_nothing_lies_in_shared_memory_that_has_a_name():
    with unisono.ProcessPool(2) as pool:
        result = pool.submit(bytes, 1_000_000).result(LONG)
        # Of what others have there nothing is known.
        for mapped in (shared_by_name(), pool.submit(shared_by_name).result(LONG)):
            assert mapped == []
    assert len(result) == 1_000_000


def shared_by_name():
    """What this process has mapped of shared memory that has a name, or open."""
    with open("/proc/self/maps") as maps:
        mapped = [line for line in maps if "/dev/shm/" in line]
    return mapped + [name for name in os.listdir("/dev/shm") if "unisono" in name]


def test_cancelling_the_task_that_brings_a_function_leaves_the_others_whole():
    with unisono.ProcessPool(1) as pool:
        # Short ones first, so that many lie ahead of the worker.
        assert len(list(pool.map(abs, range(2000)))) == 2000
        first = pool.submit(pause, 0.2)
        futures = [pool.submit(_other, n) for n in range(20)]
        cancelled = futures[0].cancel()
        assert first.result(LONG) is None
        assert [f.result(LONG) for f in futures[1:]] == list(range(1, 20))
        assert cancelled == futures[0].cancelled()


def _other(value):
    return value


def test_a_future_that_holds_its_own_error_is_collected(pool):
    import gc
    import weakref

    def fail():
        future = pool.submit(int, "x")
        try:
            future.result(LONG)
        except ValueError:
            return weakref.ref(future)

    gone = fail()
    gc.collect()
    assert gone() is None


def test_functions_of_a_prompt_travel_by_value_when_cloudpickle_is_there(tmp_path):
    pytest.importorskip("cloudpickle")
    code = """
import unisono
factor = 3
def times(x): return x * factor
class Point:
    def __init__(self, x): self.x = x
def make(x): return Point(x)
with unisono.ProcessPool(1) as pool:
    first = list(pool.map(times, [1, 2]))
    factor = 5
    print(first, pool.submit(times, 2).result(), pool.submit(lambda p: p.x, Point(7)).result(), pool.submit(make,
    8).result().x)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.stdout, done.stderr) == ("[3, 6] 10 7 8\n", "")


def test_arrays_come_back_whole_and_give_their_place_back(pool):
    numpy = pytest.importorskip("numpy")
    array = pool.submit(numpy.arange, 1_000_000).result(LONG)
    assert array.sum() == sum(range(1_000_000))
    kept = [pool.submit(numpy.full, 20_000, n).result(LONG) for n in range(100)]
    assert [int(a[0]) for a in kept] == list(range(100)) == [int(a[-1]) for a in kept]
    assert int(pool.submit(numpy.sum, array).result(LONG)) == sum(range(1_000_000))


def test_a_program_without_a_guard_is_told_so_and_makes_no_pools_without_end(tmp_path):
    (tmp_path / "program.py").write_text(
        "import unisono\n"
        "def double(number):\n    return 2 * number\n"
        "with unisono.ProcessPool(1) as pool:\n    print(pool.submit(double, 2).exception(timeout=60))\n"
    )
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'put what the program does below `if __name__ == "__main__":`' in done.stdout
