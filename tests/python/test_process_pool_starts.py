"""Workers that do not start: initializers and preloaded modules that end their process or hang, forks and threads that
fail.

Whatever keeps workers from starting, the pool says so after a few tries, every bound holds meanwhile, and workers that
there are go on.
"""

import contextlib
import faulthandler
import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import unisono
from support.processes import children, is_alive, until
from unisono.errors import PoolBroken, TaskTimeout

# What these tests are about is not what a fork of a program with threads may lead to, as that of pytest may be.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:RuntimeWarning")

LONG = 60
METHODS = ["zygote", "fork", "spawn"]
ENDS = {
    "exit": (lambda: os._exit(3), "exited with code 3"),
    "abort": (os.abort, "was killed by SIGABRT"),
    "kill": (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
    "crash": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "was killed by SIGSEGV"),
}


def born(path, way):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A fork of this program has the handlers of faults that pytest has set, which would tell of what is meant to
    # happen.
    faulthandler.disable()
    with open(path, "a") as file:
        file.write("x")
    # Not to what may stand in the place of the standard error in a fork of this program.
    os.write(2, b"out of luck\n")
    if way == "hang":
        threading.Event().wait()
    elif way == "sys.exit":
        sys.exit(4)
    elif way == "raise":
        raise ValueError("no luck")
    elif way == "later":
        # It is there for its first task, and then it is not.
        threading.Thread(target=os.abort).start()
        threading.Event().wait(0.001)
    elif way:
        ENDS[way][0]()


def births(path):
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", ENDS)
def test_an_initializer_that_ends_its_process_breaks_the_pool_after_three_starts(tmp_path, method, way):
    path = tmp_path / "births"
    with unisono.ProcessPool(1, start_method=method, initializer=born, initargs=(path, way)) as pool:
        futures = [pool.submit(abs, -1), pool.task(timeout=LONG, retries=3, key="one").submit(abs, -1)]
        for future in futures:
            error = future.exception(LONG)
            assert isinstance(error, PoolBroken)
            for part in (ENDS[way][1], "3 starts", "out of luck"):
                assert part in str(error)
        with pytest.raises(PoolBroken, match="out of luck"):
            pool.submit(abs, -1)
    assert births(path) == 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", ["sys.exit", "raise"])
def test_an_initializer_that_raises_breaks_the_pool_at_once(tmp_path, method, way):
    path = tmp_path / "births"
    with unisono.ProcessPool(1, start_method=method, initializer=born, initargs=(path, way)) as pool:
        assert isinstance(pool.submit(abs, -1).exception(LONG), PoolBroken)
    assert births(path) == 1


def test_workers_that_end_before_their_first_task_though_they_were_initialized_break_the_pool_as_well(tmp_path):
    path = tmp_path / "births"
    with unisono.ProcessPool(1, initializer=born, initargs=(path, "later")) as pool:
        # A task that a worker has begun dies with it, and after a few none is begun any more.
        with pytest.raises(PoolBroken):
            for _ in range(100):
                with contextlib.suppress(unisono.errors.WorkerDied):
                    pool.submit(time.sleep, LONG).result(LONG)
        assert births(path) <= 100


@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered", "starmap", "apply", "batch", "Pool.map"])
def test_every_way_to_call_ends_when_no_worker_starts(tmp_path, call):
    path = tmp_path / "births"
    if call == "Pool.map":
        with unisono.Pool(2, born, (path, "exit")) as pool, pytest.raises(PoolBroken):
            pool.map(abs, range(100))
    elif call == "batch":
        with unisono.ProcessPool(2, initializer=born, initargs=(path, "exit")) as pool:
            report = unisono.batch(abs, range(20), executor=pool).run()
            assert report.failed == 20
    else:
        with unisono.ProcessPool(2, initializer=born, initargs=(path, "exit")) as pool, pytest.raises(PoolBroken):
            if call == "starmap":
                pool.starmap(divmod, [(7, 2)] * 100)
            elif call == "apply":
                pool.apply(abs, (-1,))
            else:
                list(getattr(pool, call)(abs, range(100)))
    assert births(path) <= 4


PRELOADS = {
    "os._exit(3)": "exited with code 3",
    "os.abort()": "was killed by SIGABRT",
    "os.kill(os.getpid(), 9)": "was killed by SIGKILL",
    "os.kill(os.getpid(), 11)": "was killed by SIGSEGV",
    "sys.exit(3)": "exited with code 3",
}


def preloaded(tmp_path, monkeypatch, code):
    (tmp_path / "preloaded_here.py").write_text(
        "import os, resource, sys, time\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        f"open({str(tmp_path / 'births')!r}, 'a').write('x')\n"
        "print('out of luck', file=sys.stderr, flush=True)\n" + code
    )
    monkeypatch.syspath_prepend(tmp_path)
    return ["preloaded_here"]


@pytest.mark.parametrize("code", PRELOADS)
def test_a_preloaded_module_that_ends_its_process_breaks_the_pool_after_three_starts(tmp_path, monkeypatch, code):
    with unisono.ProcessPool(1, preload=preloaded(tmp_path, monkeypatch, code)) as pool:
        error = pool.submit(abs, -1).exception(LONG)
    assert isinstance(error, PoolBroken)
    for part in (PRELOADS[code], "out of luck"):
        assert part in str(error)
    assert births(tmp_path / "births") == 3


@pytest.mark.parametrize("method", ["zygote", "spawn"])
def test_a_preloaded_module_that_raises_breaks_the_pool_at_its_first_start(tmp_path, monkeypatch, method):
    preload = preloaded(tmp_path, monkeypatch, "raise ValueError('not here')")
    with unisono.ProcessPool(2, start_method=method, preload=preload) as pool:
        errors = [task.exception(LONG) for task in [pool.submit(abs, -1) for _ in range(20)]]
        with pytest.raises(PoolBroken, match="preloaded_here"):
            pool.submit(abs, -1)
    assert {type(error) for error in errors} == {PoolBroken}
    assert {
        str(error).startswith("`preloaded_here`, of preload, cannot be imported: ValueError: not here")
        for error in errors
    }
    # Each of its two workers may have asked for a zygote of its own.
    assert births(tmp_path / "births") <= 2


@pytest.mark.parametrize("method", ["zygote", "spawn"])
@pytest.mark.parametrize("name", ["no_such_module_anywhere", "os.no_such_part", "no.such.part", ""])
def test_a_module_to_preload_that_is_missing_is_named_by_the_error_of_every_task(method, name):
    with unisono.ProcessPool(1, start_method=method, preload=["json", name]) as pool:
        for call in (lambda: pool.submit(abs, -1).result(LONG), lambda: list(pool.map(abs, [-1]))):
            with pytest.raises(PoolBroken, match=f"`{name}`, of preload, cannot be imported"):
                call()


def test_a_batch_on_workers_that_cannot_preload_ends_with_that_error_for_each_item():
    with unisono.ProcessPool(2, preload=["no_such_module_anywhere"]) as pool:
        report = unisono.batch(abs, range(20), executor=pool).run()
    assert report.failed == 20
    assert all("no_such_module_anywhere" in str(outcome.error) for outcome in report.outcomes)


def test_a_module_that_could_not_be_preloaded_is_looked_for_again_by_the_next_pool(tmp_path, monkeypatch):
    preload = preloaded(tmp_path, monkeypatch, "raise ValueError('not here')")
    with unisono.ProcessPool(1, preload=preload) as pool:
        assert isinstance(pool.submit(abs, -1).exception(LONG), PoolBroken)
    (tmp_path / "preloaded_here.py").write_text("")
    with unisono.ProcessPool(1, preload=preload) as pool:
        assert pool.submit(abs, -1).result(LONG) == 1


@pytest.mark.parametrize("preload", [[1], [None], [b"json"]])
def test_what_is_no_name_of_a_module_is_refused_at_once(preload):
    with pytest.raises(unisono.UsageError, match="preload must be names of modules"):
        unisono.ProcessPool(1, preload=preload)


@pytest.mark.parametrize("hangs", ["initializer", "preload"])
def test_bounds_hold_while_a_worker_hangs_as_it_starts(tmp_path, monkeypatch, hangs):
    preload, initializer = [], None
    if hangs == "preload":
        preload = preloaded(tmp_path, monkeypatch, "time.sleep(3600)")
    else:
        initializer = born
    path = tmp_path / "births"
    pool = unisono.ProcessPool(2, preload=preload, initializer=initializer, initargs=(path, "hang"))
    try:
        waiting = pool.submit(abs, -1)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        bounded = pool.task(timeout=0.2, retries=1).submit(abs, -1)
        error = bounded.exception(LONG)
        assert isinstance(error, TaskTimeout) and "still starting" in str(error)
        assert waiting.cancel()
        with pytest.raises(TimeoutError):
            list(pool.map(abs, [1], timeout=0.05))
        until(lambda: births(path), "a start")
        assert births(path) <= 2
    finally:
        pool.terminate()
        # The zygote that hangs in what it preloads is not kept.
        unisono._pools.spawning.stop_zygotes()


def test_leaving_a_pool_whose_worker_hangs_as_it_starts_ends(tmp_path):
    path = tmp_path / "births"
    with unisono.ProcessPool(1, initializer=born, initargs=(path, "hang")) as pool:
        error = pool.task(timeout=0.1).submit(abs, -1).exception(LONG)
        assert isinstance(error, TaskTimeout)
    assert births(path) == 1 and not pool._engine.workers


def test_a_zygote_that_hangs_in_what_it_preloads_does_not_outlive_a_program_that_was_killed(tmp_path):
    (tmp_path / "hangs_here.py").write_text("import time\ntime.sleep(3600)\n")
    (tmp_path / "program.py").write_text(
        "import os, unisono\n"
        "if __name__ == '__main__':\n"
        "    pool = unisono.ProcessPool(1, preload=['hangs_here'])\n"
        "    pool.submit(abs, -1)\n"
        "    print('ready', flush=True)\n"
        "    pool.submit(abs, -1).result()\n"
    )
    program = subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "ready\n"
    [zygote] = until(lambda: children(program.pid), "the zygote")
    program.kill()
    program.wait()
    program.stdout.close()
    until(lambda: not is_alive(zygote), "its end")


# Forks that fail ------------------------------------------------------------------------------------------------------


def failing_forks(tmp_path, monkeypatch, succeed):
    """Of the zygote's forks only so many succeed."""
    return preloaded(
        tmp_path,
        monkeypatch,
        textwrap.dedent(f"""
            import errno
            real, left = os.fork, {succeed}
            def fork():
                global left
                if left == 0:
                    open({str(tmp_path / "refused")!r}, "a").write("x")
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                left -= 1
                return real()
            os.fork = fork
        """),
    )


def test_a_pool_goes_on_with_the_workers_that_it_has_when_no_more_can_be_forked_and_says_so_once(
    tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.WARNING, "unisono")
    with unisono.ProcessPool(4, preload=failing_forks(tmp_path, monkeypatch, 2)) as pool:
        tasks = [pool.submit(pause_and_tell, 0.01) for _ in range(60)]
        assert len({task.result(LONG) for task in tasks}) == 2
        until(lambda: births(tmp_path / "refused"), "a fork that fails")
        assert pool.submit(abs, -1).result(LONG) == 1
    said = [record for record in caplog.records if record.name == "unisono.pool"]
    assert len(said) == 1 and "Resource temporarily unavailable" in said[0].getMessage()
    assert "goes on with" in said[0].getMessage()
    # Each pause is longer than the one before.
    assert births(tmp_path / "refused") < 20


def pause_and_tell(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_a_pool_is_broken_with_the_reason_when_no_worker_can_be_forked(tmp_path, monkeypatch):
    with unisono.ProcessPool(2, preload=failing_forks(tmp_path, monkeypatch, 0)) as pool:
        error = pool.submit(abs, -1).exception(LONG)
        assert isinstance(error, PoolBroken) and "Resource temporarily unavailable" in str(error)
    assert births(tmp_path / "refused") <= 4


LIMITED = """
import os, resource, sys, time
import unisono

def main(limit):
    with unisono.ProcessPool(8) as pool:
        pool.submit(os.getpid).result(60)
        [zygote] = [int(word) for word in open(f"/proc/self/task/{os.getpid()}/children").read().split()]
        limit(zygote)
        slow = [pool.submit(time.sleep, 0.1) for _ in range(16)]
        workers = {pool.submit(os.getpid).result(60) for _ in range(20)}
        for task in slow:
            task.result(60)
        print(len(workers), flush=True)
"""


def limited(limit, **options):
    code = f"{LIMITED}\n{limit}\nmain(limit)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd="/", **options
    )
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) < 8
    assert done.stderr.count("goes on with") == 1
    return done.stderr


def test_a_limit_of_processes_leaves_a_pool_the_workers_that_it_has(tmp_path, monkeypatch, caplog):
    if os.getuid() != 0:
        pytest.skip("a user of whom there is nothing else is for root alone to become")
    # Root has no such limit. A process that becomes another user's may not look at itself until it says so (PR_SET_DUMPABLE, prctl(2)).
    code = (
        "import ctypes\n"
        "os.setresuid(62000, 62000, 62000)\n"
        "ctypes.CDLL(None).prctl(4, 1)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))\n"
    )
    with unisono.ProcessPool(8, preload=preloaded(tmp_path, monkeypatch, code)) as pool:
        slow = [pool.submit(time.sleep, 0.05) for _ in range(16)]
        assert [task.result(LONG) for task in slow] == [None] * 16
        assert len({pool.submit(os.getpid).result(LONG) for _ in range(20)}) <= 2
    [said] = [record.getMessage() for record in caplog.records if record.name == "unisono.pool"]
    assert "goes on with" in said and "Resource temporarily unavailable" in said


def test_few_descriptors_leave_a_pool_the_workers_that_it_has():
    limit = (
        "def limit(zygote):\n"
        "    used = len(os.listdir('/proc/self/fd'))\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, 1000))\n"
    )
    assert "Too many open files" in limited(limit)


def test_a_zygote_with_few_descriptors_goes_on_with_the_workers_that_it_has(tmp_path, monkeypatch, caplog):
    code = "used = len(os.listdir('/proc/self/fd')); resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, 200))"
    with unisono.ProcessPool(8, preload=preloaded(tmp_path, monkeypatch, code)) as pool:
        tasks = [pool.submit(pause_and_tell, 0.01) for _ in range(60)]
        assert 1 <= len({task.result(LONG) for task in tasks}) < 8
    assert any("Too many open files" in record.getMessage() for record in caplog.records)


def test_workers_start_in_a_working_folder_that_was_removed_or_renamed(tmp_path):
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
            import os, sys
            import unisono

            if __name__ == "__main__":
                os.mkdir("here")
                os.chdir("here")
                with unisono.ProcessPool(1) as pool:
                    os.rename("../here", "../there")
                    print(pool.submit(os.getcwd).result(60))
                with unisono.ProcessPool(1) as pool:
                    os.rmdir("../there")
                    print(pool.submit(abs, -1).result(60))
                with unisono.ProcessPool(1) as pool:
                    print(pool.submit(abs, -2).result(60))
        """)
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout.split(), done.returncode) == ([str(tmp_path / "there"), "1", "2"], 0), done.stderr


# Threads that cannot be started ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", ["-logs", "-pool"])
@pytest.mark.parametrize("method", ["zygote", "fork"])
def test_a_thread_that_cannot_be_started_stops_what_had_been_started(monkeypatch, fails, method):
    with unisono.ProcessPool(1) as pool:
        pool.submit(abs, -1).result(LONG)
    before = len(os.listdir("/proc/self/fd"))
    # Another test may have left one that cannot be ended: a call that hangs.
    there = set(threading.enumerate())
    start = threading.Thread.start

    def start_or_not(thread):
        if thread.name.endswith(fails):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    with pytest.raises(PoolBroken, match="can't start new thread"):
        made = unisono.ProcessPool(1, start_method=method)
        try:
            made.submit(abs, -1)
        finally:
            # Whatever is done with it ends.
            with pytest.raises(PoolBroken):
                made.submit(abs, -1)
            made.shutdown()
            del made
    monkeypatch.undo()
    assert not [thread for thread in set(threading.enumerate()) - there if thread.name.startswith("unisono-")]
    until(lambda: len(os.listdir("/proc/self/fd")) <= before, "the end of its descriptors")


def test_a_reader_of_records_ends_with_the_last_that_could_write_some():
    logs = unisono._pools.log_records.Collector("a-pool")
    logs.start()
    logs._theirs.close()
    logs._thread.join(LONG)
    assert not logs._thread.is_alive()


def test_a_watch_that_cannot_be_started_does_no_harm_to_the_tasks(monkeypatch):
    start = threading.Thread.start

    def start_or_not(thread):
        if thread.name == "unisono-watch":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    with unisono.ThreadPool(1) as pool:
        assert [future.result(LONG) for future in [pool.submit(abs, -1) for _ in range(50)]] == [1] * 50
