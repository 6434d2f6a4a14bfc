"""Single jobs, each in a process of its own: what they return, how they end, and that nothing of them is left."""

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import unisono
from support.processes import is_alive, until
from unisono.errors import PoolBroken, UnpicklableError, WorkerDied

LONG = 60


def add(first, second=0):
    return first + second


def fail(text):
    raise ValueError(text)


def leave(status):
    sys.exit(status)


def end(status):
    print("these are my last words", file=sys.stderr, flush=True)
    os._exit(status)


def die(number):
    os.kill(os.getpid(), number)
    threading.Event().wait()


def hang(path):
    """Says that it has begun, and does not end."""
    with open(path, "w"):
        pass
    threading.Event().wait()


def shut_down_politely(path):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    hang(path)


def ignore_everything(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(path)


def double_all(inbox, outbox):
    while (item := inbox.get()) is not None:
        outbox.put(2 * item)


def names():
    with open("/proc/self/comm") as comm:
        return multiprocessing.current_process().name, comm.read().strip(), os.nice(0)


def begun(function, path):
    """A job that is in the middle of its function."""
    job = unisono.spawn(function, os.fspath(path))
    until(path.exists, "the begin of a job")
    return job


def run(tmp_path, text, *words, **options):
    path = tmp_path / "program.py"
    path.write_text(text)
    command = [sys.executable, path, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False, **options)


@pytest.mark.parametrize("method", ["zygote", "spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process")
def test_a_job_runs_in_another_process_and_returns_what_its_function_does(method):
    job = unisono.spawn(add, 1, kwargs={"second": 2}, start_method=method)
    assert job.result(LONG) == 3
    assert job.pid not in (None, os.getpid())
    assert (job.exception(LONG), job.exit_code, job.signal) == (None, 0, None)
    assert job.join() and not job.is_alive() and not is_alive(job.pid)


def test_a_job_has_its_name_in_its_process_and_is_as_nice_as_asked():
    before = os.nice(0)
    assert unisono.spawn(names, name="reindex", nice=3).result(LONG) == ("reindex", "reindex", before + 3)
    assert unisono.spawn(names).name == "names"


def test_what_the_function_raises_comes_with_its_remote_frames():
    job = unisono.spawn(fail, "too bad")
    with pytest.raises(ValueError, match="too bad") as caught:
        job.result(LONG)
    assert "in fail" in str(caught.value.__cause__)
    assert job.exception(LONG) is caught.value
    assert (job.exit_code, job.signal) == (1, None)


@pytest.mark.parametrize(("status", "code"), [(None, 0), (0, 0), (3, 3), (259, 3), ("no more", 1)])
def test_sys_exit_is_the_end_of_the_job_with_that_status_and_not_ours(status, code, capfd):
    job = unisono.spawn(leave, status)
    if code:
        with pytest.raises(WorkerDied, match=f"exited with code {code}") as caught:
            job.result(LONG)
        assert caught.value.exit_code == code
    else:
        assert job.result(LONG) is None
    assert job.exit_code == code
    job.join()
    assert ("no more" in capfd.readouterr().err) == (status == "no more")


def test_a_process_that_ends_by_itself_says_how_and_with_its_last_words():
    job = unisono.spawn(end, 7)
    with pytest.raises(WorkerDied, match=r"(?s)code 7.*these are my last words") as caught:
        job.result(LONG)
    assert (job.exit_code, job.signal, caught.value.stderr) == (7, None, "these are my last words\n")


def test_a_job_that_is_killed_by_somebody_names_the_signal():
    job = unisono.spawn(die, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        job.result(LONG)
    assert (job.exit_code, job.signal) == (None, signal.SIGKILL)


def test_a_job_that_is_killed_before_it_begins_names_the_signal_too():
    unbegun = 0
    for _ in range(20):
        job = unisono.spawn(time.sleep, LONG)
        os.kill(job.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="killed by SIGKILL") as caught:
            job.result(LONG)
        unbegun += "before the job had begun" in str(caught.value)
        assert (caught.value.exit_code, caught.value.signal, job.signal) == (None, signal.SIGKILL, signal.SIGKILL)
    assert unbegun, "some are killed that early"


def test_waiting_is_bounded_and_leaves_the_job_alone(tmp_path):
    job = begun(hang, tmp_path / "begun")
    for wait in (job.result, job.exception):
        with pytest.raises(TimeoutError, match="the job hang has not ended"):
            wait(0.01)
    assert not job.join(0.01)
    assert job.is_alive() and is_alive(job.pid) and job.exit_code is None and job.signal is None
    job.kill()


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_job_that_is_stopped_is_gone_when_that_returns(how, tmp_path):
    job = begun(hang, tmp_path / "begun")
    pid = job.pid
    getattr(job, how)()
    assert not is_alive(pid) and not job.is_alive()
    number = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL}[how]
    assert (job.exit_code, job.signal) == (None, number)
    with pytest.raises(WorkerDied, match=number.name):
        job.result(LONG)


def test_a_job_may_end_politely_when_it_is_terminated(tmp_path):
    job = begun(shut_down_politely, tmp_path / "begun")
    job.terminate(grace=LONG)
    assert (job.exit_code, job.signal, job.result(0)) == (0, None, None)


def test_a_job_that_takes_no_notice_of_being_terminated_is_killed(tmp_path):
    job = begun(ignore_everything, tmp_path / "begun")
    job.terminate(grace=0.05)
    assert not is_alive(job.pid) and job.signal == signal.SIGKILL


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_job_that_has_ended_stays_as_it_is(how):
    job = unisono.spawn(add, 1)
    job.result(LONG)
    for _ in range(2):
        getattr(job, how)()
    assert (job.result(), job.exit_code) == (1, 0)


def test_a_job_that_is_stopped_at_once_has_not_run_or_runs_no_more(tmp_path):
    jobs = [unisono.spawn(hang, os.fspath(tmp_path / str(n))) for n in range(20)]
    for n, job in enumerate(jobs):
        (job.kill if n % 2 else job.terminate)()
        assert not job.is_alive()
        assert job.signal in (signal.SIGTERM, signal.SIGKILL)


@pytest.mark.parametrize("method", ["zygote", "spawn", "fork"])
def test_queues_of_multiprocessing_may_be_its_arguments(method, tmp_path):
    # A program of its own: multiprocessing keeps a process for them until the end of the program.
    text = """
import multiprocessing, sys, unisono
def work(queue, lock, chunk):
    with lock:
        queue.put(sum(chunk))
if __name__ == "__main__":
    method = sys.argv[1]
    context = multiprocessing.get_context({"zygote": "forkserver"}.get(method, method))
    queue, lock = context.Queue(), context.Lock()
    jobs = []
    for chunk in ([1, 2], [3, 4], [5, 6]):
        jobs.append(unisono.spawn(work, queue, lock, chunk, start_method=method))
    print(sorted(queue.get(timeout=60) for _ in jobs))
    print([job.join(60) for job in jobs], [job.exit_code for job in jobs])
"""
    done = run(tmp_path, text, method, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    assert (done.stdout, done.stderr) == ("[3, 7, 11]\n[True, True, True] [0, 0, 0]\n", "")


def test_what_cannot_be_handed_over_is_said_before_anything_starts():
    with pytest.raises(UnpicklableError, match="lock"):
        unisono.spawn(add, threading.Lock())
    with pytest.raises(TypeError, match="a job is a function"):
        unisono.spawn(3)
    with pytest.raises(unisono.UsageError, match="memory_limit"):
        unisono.spawn(add, 1, memory_limit=0)


class Mine:
    """Cannot be read in another process."""

    def __reduce__(self):
        return fail, ("unreadable",)


def test_arguments_that_cannot_be_read_are_the_end_of_the_job():
    job = unisono.spawn(add, Mine())
    with pytest.raises(ValueError, match="unreadable"):
        job.result(LONG)


def test_a_process_that_cannot_be_started_is_the_end_of_its_job(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    # No zygote has this path, so another one is needed.
    monkeypatch.setattr(sys, "path", [*sys.path, "/another/zygote"])
    job = unisono.spawn(add, 1)
    with pytest.raises(PoolBroken, match="no worker can be started"):
        job.result(LONG)


def test_a_block_waits_for_its_job_and_terminates_it_when_it_raises(tmp_path):
    with unisono.spawn(add, 1) as job:
        pass
    assert not job.is_alive() and job.exit_code == 0
    with pytest.raises(ZeroDivisionError), begun(hang, tmp_path / "begun") as job:
        1 / 0
    assert not job.is_alive() and job.signal == signal.SIGTERM


def test_a_loop_awaits_jobs_and_a_waiter_that_is_cancelled_leaves_its_job_alone(tmp_path):
    async def main():
        assert await asyncio.gather(*(unisono.spawn(add, n, 1) for n in range(3))) == [1, 2, 3]
        with pytest.raises(ValueError, match="oh"):
            await unisono.spawn(fail, "oh")
        job = begun(hang, tmp_path / "begun")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 0.01)
        assert job.is_alive()
        waiting = asyncio.ensure_future(job)
        await asyncio.to_thread(job.terminate)
        with pytest.raises(WorkerDied, match="SIGTERM"):
            await waiting

    asyncio.run(main())


def test_many_threads_spawn_and_nothing_is_left():
    unisono.spawn(add, 1).result(LONG)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    results, jobs = [], []

    def work(number):
        for step in range(5):
            job = unisono.spawn(add, number, step)
            jobs.append(job)
            results.append(job.result(LONG) - step)
            job.join()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted([*range(4)] * 5)
    pids = [job.pid for job in jobs]
    del jobs[:]
    gc.collect()
    until(lambda: threading.active_count() == 1 or not any("pool" in t.name for t in threading.enumerate()))
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_job_runs_on_when_nobody_holds_it(tmp_path):
    path = tmp_path / "done"
    unisono.spawn(write_slowly, os.fspath(path))
    gc.collect()
    assert until(lambda: path.exists() and path.read_text()) == "done"


def write_slowly(path):
    time.sleep(0.05)
    with open(path + ".new", "w") as file:
        file.write("done")
    os.rename(path + ".new", path)


PROGRAM = """
import os, sys, time, unisono
def work(path, go):
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
    with open(go) as file:
        file.read()
    print("done")
if __name__ == "__main__":
    path, go, daemon = sys.argv[1:]
    job = unisono.spawn(work, path, go, daemon=daemon == "daemon")
    while not os.path.exists(path):
        time.sleep(0.002)
    print("end", flush=True)
"""


def _started(tmp_path, daemon):
    (tmp_path / "program.py").write_text(PROGRAM)
    os.mkfifo(tmp_path / "go")
    words = [sys.executable, "program.py", "pid", "go", daemon]
    program = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "end\n"
    return program, int((tmp_path / "pid").read_text())


def test_a_program_that_ends_waits_for_its_jobs(tmp_path):
    program, pid = _started(tmp_path, "no")
    with open(tmp_path / "go", "w"):
        pass
    assert program.communicate(timeout=LONG) == ("done\n", "")
    assert program.returncode == 0 and not is_alive(pid)


def test_a_program_that_ends_kills_its_daemons(tmp_path):
    program, pid = _started(tmp_path, "daemon")
    assert program.communicate(timeout=LONG) == ("", "")
    assert program.returncode == 0 and not is_alive(pid)


def test_no_job_outlives_a_program_that_is_killed(tmp_path):
    program, pid = _started(tmp_path, "no")
    program.kill()
    program.communicate(timeout=LONG)
    until(lambda: not is_alive(pid), "the end of the job")


def test_ctrl_c_ends_a_program_that_waits_for_its_jobs_and_the_jobs_with_it(tmp_path):
    program, pid = _started(tmp_path, "no")

    # Python calls no handler while it begins to end, so it is pressed until it is heard.
    def press():
        program.send_signal(signal.SIGINT)
        return program.poll() is not None

    until(press, "the end of the program")
    program.communicate(timeout=LONG)
    until(lambda: not is_alive(pid), "the end of the job")


def test_a_failure_at_which_nobody_looks_is_told(tmp_path):
    text = """
import signal, unisono
def fail(): raise ValueError("unseen")
if __name__ == "__main__":
    unisono.spawn(fail, name="forgotten").join()
    job = unisono.spawn(fail, name="kept")
    seen = unisono.spawn(fail, name="seen")
    seen.exception()
    stopped = unisono.spawn(signal.pause, name="stopped")
    stopped.kill()
"""
    done = run(tmp_path, text)
    told = [line for line in done.stderr.splitlines() if line.startswith("unisono:")]
    assert sorted(told) == [
        f"unisono: the job {name} failed, and nobody asked what became of it:" for name in ("forgotten", "kept")
    ]
    assert done.stderr.count("ValueError: unseen") >= 2 and done.returncode == 0


def test_jobs_work_in_a_program_that_is_run_as_a_module(tmp_path):
    text = "import unisono\ndef work(n): return n + 1\nif __name__ == '__main__':\n    print(unisono.spawn(work, 1).result())\n"
    (tmp_path / "program.py").write_text(text)
    words = [sys.executable, "-m", "program"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")


def nest(n):
    return unisono.spawn(add, n, 1).result(LONG)


def test_a_job_may_have_jobs_of_its_own():
    assert unisono.spawn(nest, 1).result(LONG) == 2


def raise_local():
    class Local(Exception):
        pass

    raise Local("cannot be read elsewhere")


def lose_a_worker():
    with unisono.ProcessPool(1) as pool:
        pool.submit(os._exit, 3).result(LONG)


@pytest.mark.parametrize("function", [raise_local, threading.Lock, lose_a_worker])
def test_a_job_whose_function_raised_or_returned_what_cannot_come_back_has_exit_code_1(function):
    job = unisono.spawn(function)
    assert job.exception(LONG) is not None
    assert job.join(LONG)
    assert (job.exit_code, job.signal) == (1, None)


def test_a_job_whose_process_is_killed_before_it_has_begun_runs_in_no_other(tmp_path):
    for number in range(10):
        job = unisono.spawn(hang, tmp_path / str(number))
        os.kill(job.pid, signal.SIGKILL)
        # Killed before the job began or just behind it: its end either way.
        with pytest.raises(WorkerDied):
            job.result(LONG)
        assert job.join(LONG)


BY_CTRL_C = """
import pathlib, signal, sys, time, unisono

def work(begun, how):
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path(begun).touch()
    while True:
        signal.pause()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job = unisono.spawn(work, sys.argv[1], sys.argv[2])
    print(job.pid, flush=True)
    if sys.argv[2] != "waits at its end":
        job.result()
"""


@pytest.mark.parametrize("how", ["polite", "stubborn"])
def test_ctrl_c_ends_a_program_that_waits_for_a_job_and_the_job(tmp_path, how):
    path = tmp_path / "program.py"
    path.write_text(BY_CTRL_C)
    command = [sys.executable, path, tmp_path / "begun", how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            number = int(program.stdout.readline())
            until((tmp_path / "begun").exists)
            program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=LONG)
        finally:
            program.kill()
    assert not is_alive(number)
    assert said.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_ends_a_program_that_has_come_to_its_end_and_waits_for_a_job(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(BY_CTRL_C)
    command = [sys.executable, path, tmp_path / "begun", "waits at its end"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        try:
            number = int(program.stdout.readline())
            until((tmp_path / "begun").exists)

            def has_ended():
                # Pressed again, should the first have met the interpreter on its way to its end.
                program.send_signal(signal.SIGINT)
                return program.poll() is not None

            until(has_ended)
        finally:
            program.kill()
    assert not is_alive(number)


def test_a_job_has_a_name_that_is_text():
    with pytest.raises(unisono.UsageError, match="name must be text"):
        unisono.spawn(abs, 1, name=5)


def test_a_fork_of_the_program_has_no_jobs(tmp_path):
    text = """
import os, signal, warnings, unisono
if __name__ == "__main__":
    warnings.simplefilter("ignore")
    job = unisono.spawn(signal.pause)
    job.pid
    if os.fork() == 0:
        try: job.result(1)
        except RuntimeError as error: print("after a fork" in str(error), flush=True)
        raise SystemExit
    os.wait()
    print(job.is_alive())
    job.kill()
"""
    done = run(tmp_path, text)
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


# Programs and modules that make one while they are run or imported, which their jobs do as well -----------------------

MAKERS = {
    "job": "made = unisono.spawn(work, 1, start_method=METHOD)\n",
    "pool": "pool = unisono.ProcessPool(1, start_method=METHOD)\nmade = pool.submit(work, 1)\n",
    "initializer": "pool = unisono.ProcessPool(1, initializer=work, initargs=(1,), start_method=METHOD)\nmade = pool.submit(abs, 1)\n",
}
DEFINES = """
import os, unisono
with open(os.environ["RUNS"], "a") as runs:
    print(os.getpid(), file=runs)
def work(number):
    return number
"""
TELLS = """
try:
    print(made.result(60))
except (RuntimeError, unisono.PoolError) as error:
    print(error)
    raise SystemExit(3)
"""


@pytest.mark.parametrize("method", ["zygote", "spawn"])
@pytest.mark.parametrize("made", MAKERS)
@pytest.mark.parametrize("where", ["program", "module"])
def test_what_is_made_as_a_program_or_module_is_run_is_made_once_and_refused_in_its_processes(
    made, method, where, tmp_path
):
    makes = DEFINES + MAKERS[made].replace("METHOD", repr(method))
    if where == "module":
        (tmp_path / "makes_one.py").write_text(makes)
        makes = "import unisono\nfrom makes_one import made\n"
    runs = tmp_path / "runs"
    done = run(tmp_path, makes + TELLS, env=os.environ | {"RUNS": os.fspath(runs)})
    assert (done.returncode, "would" in done.stdout) == (3, True), done.stdout + done.stderr
    way_out = 'below `if __name__ == "__main__":`' if where == "program" else "make it in a function of the module"
    assert way_out in done.stdout
    # The program, its process, and those that were tried again: a chain of them would have no end.
    assert 2 <= len(runs.read_text().split()) <= 4


def test_a_fork_imports_nothing_so_a_program_without_a_guard_may_make_one(tmp_path):
    makes = DEFINES + MAKERS["job"].replace("METHOD", "'fork'")
    done = run(tmp_path, makes + TELLS, env=os.environ | {"RUNS": os.fspath(tmp_path / "runs")})
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
