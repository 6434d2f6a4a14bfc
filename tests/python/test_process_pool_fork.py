"""Workers that are forked from the program itself: what they have of it, what they must not have, and what it is told.

Each program is one of its own, since what has run in this one before (threads, loops, handlers) must not matter.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest

import unisono
from support.processes import is_alive, until
from unisono.errors import PoolBroken, WorkerDied

LONG = 60


def run(text, tmp_path, *options):
    path = tmp_path / "program.py"
    path.write_text(text)
    words = [sys.executable, *options, path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_workers_have_what_the_program_has_whether_it_can_be_pickled_or_not(tmp_path):
    done = run(
        """
import threading, unisono
lock, file, offset = threading.Lock(), open("/dev/null"), 1
import atexit; atexit.register(file.close)
def name(x): return file.name, lock.locked(), x + offset
def outer(step):
    return lambda x, *, times=2: (x + step) * times + offset + file.fileno() * 0
with unisono.ProcessPool(2, start_method="fork") as pool:
    offset = 10
    print(pool.submit(name, 1).result())
    offset = 100
    print(pool.submit(name, 1).result())
    print(list(pool.map(outer(3), range(3))))
    print(list(pool.map(outer(3), range(3), chunksize=2)), pool.starmap(lambda a, b: a + b + offset, [(1, 2)]))
    print(list(pool.imap(lambda x: x, [1])), pool.map_async(lambda x: x, [2]).get(), pool.apply(lambda: 3))
    print(list(pool.imap_unordered(lambda x: x, [4])), pool.task(retries=1).submit(lambda: 5).result())
with unisono.Pool(2, context=__import__("multiprocessing").get_context("fork")) as pool:
    print(pool.map(lambda x: x + offset, [1, 2]), pool.map(lambda x: x, range(5), 2))
""",
        tmp_path,
        "-W",
        "error",
    )
    assert done.stdout.splitlines() == [
        "('/dev/null', False, 11)",
        "('/dev/null', False, 11)",
        "[16, 18, 20]",
        "[16, 18, 20] [13]",
        "[1] [2] 3",
        "[4] 5",
        "[101, 102] [0, 1, 2, 3, 4]",
    ]
    assert done.stderr == ""


def test_workers_that_replace_others_are_forked_from_the_same_moment(tmp_path):
    done = run(
        """
import os, unisono
moment = 1
def see(): return moment, os.getpid()
with unisono.ProcessPool(1, start_method="fork", max_tasks_per_child=2) as pool:
    seen = [pool.submit(see).result()]
    moment = 2
    seen += [pool.submit(see).result() for _ in range(3)]
    print(type(pool.submit(os._exit, 3).exception()).__name__)
    seen.append(pool.submit(see).result())
    print({moment for moment, _ in seen}, len({process for _, process in seen}))
""",
        tmp_path,
    )
    assert done.stdout == "WorkerDied\n{1} 3\n"


def test_a_program_with_threads_is_warned_where_it_submits_and_one_without_is_not():
    pool = unisono.ProcessPool(1, start_method="fork")
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, args=(LONG,))
    thread.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match=r"is multi-threaded .*start_method=.zygote"):
            pool.submit(abs, -1)
    with pytest.warns(RuntimeWarning, match="is multi-threaded") as caught:
        assert pool.submit(abs, -1).result(LONG) == 1
    assert [warning.filename for warning in caught] == [__file__]
    ends.set()
    thread.join()
    # It is forked once.
    assert pool.submit(abs, -2).result(LONG) == 2
    pool.shutdown()


def test_workers_run_none_of_the_programs_exit_handlers_and_write_none_of_its_buffers(tmp_path):
    done = run(
        """
import atexit, sys, weakref, unisono
class Guard:
    def __del__(self): print("guard", flush=True)
class Cycle: pass
atexit.register(lambda: print("exit handler"))
cycle = Cycle(); cycle.self, cycle.guard = cycle, Guard()
import gc; gc.disable()
del cycle
kept = open(sys.argv[0] + ".out", "w"); kept.write("once ")
print("buffered", end=" ")
def speak():
    gc.enable(); gc.collect()
    print("worker", end=" ")
with unisono.ProcessPool(1, start_method="fork") as pool:
    pool.submit(speak).result()
kept.close()
print(open(sys.argv[0] + ".out").read(), end="")
""",
        tmp_path,
    )
    assert done.stdout == "buffered worker once exit handler\nguard\n"


def test_a_worker_holds_no_end_of_what_joins_the_program_and_other_workers(tmp_path):
    done = run(
        """
import os, warnings, unisono
def ends():
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try: what = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError: continue
        if int(name) > 2 and what.startswith(("socket:", "pipe:")): found.add(what)
    return found
if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)
    with unisono.ProcessPool(2) as other, unisono.ProcessPool(2, start_method="fork", log_forwarding=False) as pool:
        other.submit(abs, 1).result()
        ours = ends()
        theirs = [pool.submit(ends).result() for _ in range(4)]
        print(len(ours) >= 4, [len(each) for each in theirs], ours.intersection(*theirs) or set())
""",
        tmp_path,
    )
    # Each has one end of a socket of its own.
    assert done.stdout == "True [1, 1, 1, 1] set()\n"


def test_a_worker_has_the_systems_signal_handlers_no_loop_and_no_input(tmp_path):
    done = run(
        """
import asyncio, signal, sys, unisono
def look():
    async def inner(): return "inner"
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)]
    return handlers == [signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN], asyncio.run(inner()), sys.stdin.read()
async def main():
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    pool = unisono.ProcessPool(1, start_method="fork")
    print(await loop.run_in_executor(pool, look))
    pool.submit(signal.raise_signal, signal.SIGUSR1).exception()
    print(told.is_set())
    pool.shutdown()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
asyncio.run(main())
""",
        tmp_path,
    )
    assert done.stdout == "(True, 'inner', '')\nFalse\n"


def process_name():
    return multiprocessing.current_process().name


def test_the_initializer_and_its_arguments_need_not_be_picklable(tmp_path):
    done = run(
        """
import threading, unisono
def main():
    kept = []
    with unisono.ProcessPool(1, start_method="fork", initializer=lambda lock: lock.acquire(), initargs=(lock,)) as pool:
        print(pool.submit(lock_is_taken).result(), lock.locked())
    with unisono.ProcessPool(1, start_method="fork", initializer=lambda: 1 / 0) as pool:
        print(pool.submit(abs, 1).exception())
lock = threading.Lock()
def lock_is_taken(): return lock.locked()
main()
""",
        tmp_path,
    )
    assert (
        done.stdout == "True False\nthe initializer of a worker raised builtins.ZeroDivisionError: division by zero\n"
    )


def test_options_of_workers_hold_for_forks_as_well():
    with unisono.ProcessPool(1, start_method="fork", name="crew", nice=2, memory_limit=64 << 30) as pool:
        # What ran before in this program may have left threads to it.
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            pool.submit(abs, 1).result(LONG)
        process = pool.submit(os.getpid).result(LONG)
        with open(f"/proc/{process}/comm") as comm:
            assert comm.read() == "crew-1\n"
        assert pool.submit(os.nice, 0).result(LONG) == min(os.nice(0) + 2, 19)
        assert pool.submit(process_name).result(LONG) == "crew-1"
        with pytest.raises(MemoryError):
            pool.submit(bytearray, 65 << 30).result(LONG)


def test_in_a_worker_the_programs_own_pools_refuse_and_new_ones_work(tmp_path):
    done = run(
        """
import os, time, warnings, unisono
warnings.simplefilter("ignore", RuntimeWarning)
pool = unisono.ProcessPool(1, start_method="fork")
other = unisono.ProcessPool(1)
def use_parents():
    refusals = []
    for each in (pool, other):
        try: each.submit(abs, 1)
        except RuntimeError as error: refusals.append("after a fork" in str(error))
        each.shutdown()
    try: waits.result()
    except RuntimeError as error: refusals.append("after a fork" in str(error) and not waits.cancel())
    with unisono.ProcessPool(1, start_method="fork") as inner:
        return refusals, inner.submit(lambda: os.getppid() != os.getpid()).result()
if __name__ == "__main__":
    other.submit(abs, 1).result()
    waits = other.submit(time.sleep, 600)
    print(pool.submit(use_parents).result())
    waits.cancel(running=True)
    print(other.submit(abs, -1).result())
""",
        tmp_path,
    )
    assert done.stdout == "([True, True, True], True)\n1\n"


def test_a_child_of_the_program_that_ends_does_not_wait_for_its_parents_pools(tmp_path):
    done = run(
        """
import os, sys, unisono
pool = unisono.ProcessPool(1)
if __name__ == "__main__":
    pool.submit(abs, 1).result()
    if os.fork() == 0:
        print("child", flush=True)
        sys.exit(0)
    os.wait()
    print(pool.submit(abs, -1).result())
""",
        tmp_path,
        "-W",
        "ignore",
    )
    assert done.stdout == "child\n1\n"


def test_nothing_outlives_a_program_that_was_killed(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        """
import os, threading, time, unisono
def main():
    pool = unisono.ProcessPool(2, start_method="fork")
    numbers = {pool.submit(os.getpid).result(), pool.submit(os.getppid).result()}
    futures = [pool.submit(time.sleep, 600) for _ in range(2)]
    while not all(f.running() for f in futures): time.sleep(0.001)
    print(*numbers, flush=True)
    time.sleep(600)
main()
"""
    )
    killed = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True)
    processes = [int(word) for word in killed.stdout.readline().split()]
    assert len(processes) == 2
    killed.kill()
    killed.communicate(timeout=LONG)
    until(lambda: not any(is_alive(process) for process in processes))


def test_workers_live_on_when_the_thread_that_forked_the_program_has_ended():
    pool = unisono.ProcessPool(1, start_method="fork")
    processes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        thread = threading.Thread(target=lambda: processes.append(pool.submit(os.getpid).result(LONG)))
        thread.start()
        thread.join()
    assert pool.submit(os.getpid).result(LONG) == processes[0]
    # Nor is the fork gone that makes others.
    assert isinstance(pool.submit(os._exit, 1).exception(LONG), WorkerDied)
    assert pool.submit(os.getpid).result(LONG) != processes[0]
    pool.shutdown()


def test_a_fork_that_dies_breaks_its_pool_and_says_so():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        pool = unisono.ProcessPool(1, start_method="fork")
        fork = pool.submit(os.getppid).result(LONG)
    os.kill(fork, signal.SIGKILL)
    # Its workers die with it, and until they are dead they may serve.
    error = None
    while not isinstance(error, PoolBroken):
        try:
            error = pool.submit(abs, 1).exception(LONG)
        except PoolBroken as refusal:
            error = refusal
    assert "the fork of the program that makes the workers has ended" in str(error)
    pool.terminate()


def test_ctrl_c_prints_one_traceback_and_a_busy_pool_does_not_keep_the_program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        """
import time, unisono
with unisono.ProcessPool(2, start_method="fork") as pool:
    futures = [pool.submit(time.sleep, 600) for _ in range(2)]
    while not all(f.running() for f in futures): time.sleep(0.001)
    print("busy", flush=True)
    futures[0].result()
"""
    )
    interrupted = subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert interrupted.stdout.readline() == "busy\n"
    os.killpg(interrupted.pid, signal.SIGINT)
    _, said = interrupted.communicate(timeout=LONG)
    assert said.count("Traceback") == 1
    done = run(
        """
import time, unisono
pool = unisono.ProcessPool(2, start_method="fork")
futures = [pool.submit(time.sleep, 600) for _ in range(10)]
print("end")
""",
        tmp_path,
    )
    assert (done.stdout, done.stderr.count("10 tasks of a process pool had not ended")) == ("end\n", 1)
