"""The process that makes the workers: it may be killed at any moment, takes signals as it should, and is there while it
is used."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import unisono
from support.processes import children, is_alive, state, until
from unisono._pools import spawning as _spawning
from unisono.errors import TaskTimeout, WorkerDied

LONG = 60


def zygotes():
    """The processes of this program that make workers."""
    found = []
    for child in children(os.getpid()):
        try:
            with open(f"/proc/{child}/cmdline", "rb") as file:
                if b"unisono._pools.zygote" in file.read() and is_alive(child):
                    found.append(child)
        except FileNotFoundError:
            pass
    return found


def note(path):
    with open(path, "a") as file:
        file.write("x")
    time.sleep(0.001)
    return os.getpid()


def test_a_zygote_that_is_killed_at_any_moment_is_replaced_and_no_task_is_run_twice_or_lost(tmp_path):
    _spawning.stop_zygotes()
    choice = random.Random(4)
    with unisono.ProcessPool(2, max_tasks_per_child=7) as pool:
        for turn in range(200):
            paths = [tmp_path / f"{turn}-{number}" for number in range(choice.randrange(1, 9))]
            tasks = [pool.submit(note, path) for path in paths]
            # Anywhere between before it is there and after all is done.
            until_then = time.monotonic() + choice.random() ** 3 * 0.05
            while time.monotonic() < until_then:
                tasks[choice.randrange(len(tasks))].done()
            for zygote in zygotes():
                os.kill(zygote, signal.SIGKILL)
            for path, task in zip(paths, tasks, strict=True):
                error = task.exception(LONG)
                runs = path.stat().st_size if path.exists() else 0
                if error is None:
                    assert runs == 1
                else:
                    assert isinstance(error, WorkerDied) and runs <= 1, error
        assert pool.submit(abs, -1).result(LONG) == 1


def test_a_zygote_that_is_killed_while_messages_wait_in_its_socket_is_replaced():
    _spawning.stop_zygotes()
    for _ in range(5):
        with unisono.ProcessPool(3) as pool:
            pool.submit(abs, -1).result(LONG)
            [zygote] = zygotes()
            os.kill(zygote, signal.SIGSTOP)
            tasks = [pool.submit(time.sleep, 0.01) for _ in range(8)]
            # They are asked for, and it takes none of them.
            os.kill(zygote, signal.SIGKILL)
            ends = [task.exception(LONG) for task in tasks]
            assert sum(isinstance(end, WorkerDied) for end in ends) <= 3
            assert all(end is None or isinstance(end, WorkerDied) for end in ends)


@pytest.fixture
def stopped():
    """Stops a process; what was stopped goes on at the end, if it is there yet."""
    _spawning.stop_zygotes()
    processes = []

    def stop(process):
        processes.append(os.pidfd_open(process))
        os.kill(process, signal.SIGSTOP)
        until(lambda: state(process) == "T", "the stop")

    yield stop
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGCONT)
        os.close(process)
    _spawning.stop_zygotes()


def test_a_pool_whose_zygote_was_stopped_keeps_its_bounds_and_ends(stopped):
    pool = unisono.ProcessPool(1)
    worker = pool.submit(os.getpid).result(LONG)
    [zygote] = zygotes()
    stopped(zygote)
    os.kill(worker, signal.SIGKILL)
    until(lambda: not is_alive(worker), "its end")
    # The zygote alone would know, and makes no other.
    with pytest.raises(TaskTimeout):
        pool.task(timeout=0.5).submit(abs, -1).result(LONG)
    left = pool.submit(abs, -1)
    pool.terminate()
    assert left.cancelled()


def test_a_worker_that_is_let_go_or_killed_has_ended_though_its_zygote_was_stopped(stopped):
    [idle, busy] = [unisono.ProcessPool(1) for _ in range(2)]
    workers = [pool.submit(os.getpid).result(LONG) for pool in (idle, busy)]
    [zygote] = zygotes()
    stopped(zygote)
    asleep = busy.submit(time.sleep, 10 * LONG)
    until(asleep.running, "its task")
    idle.shutdown()
    busy.terminate()
    assert asleep.cancelled()
    assert not any(is_alive(worker) for worker in workers)


def test_a_program_whose_zygote_was_stopped_ends_with_all_of_its_processes(tmp_path):
    program = """
        import os, signal, time, unisono

        if __name__ == "__main__":
            pool = unisono.ProcessPool(1)
            worker = pool.submit(os.getpid).result()
            [zygote] = map(int, open(f"/proc/self/task/{os.getpid()}/children").read().split())
            pool.submit(time.sleep, 600)
            print(worker, zygote, flush=True)
            os.kill(zygote, signal.SIGSTOP)
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0
    assert not any(is_alive(int(process)) for process in done.stdout.split())


def test_tasks_before_a_worker_that_was_stopped_are_run_by_another(stopped):
    with unisono.ProcessPool(1) as pool:
        worker = pool.submit(os.getpid).result(LONG)
        stopped(worker)
        # Its time does not run while it waits, but no worker that runs is so long about it.
        tasks = [pool.task(timeout=0.5).submit(os.getpid) for _ in range(3)]
        others = {task.result(LONG) for task in tasks}
        assert len(others) == 1 and worker not in others
        until(lambda: not is_alive(worker), "the end of the one that was stopped")


SIGNALS = """
import os, signal, subprocess, sys
import unisono

def state(_):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    parent = dict(line.split(":", 1) for line in open(f"/proc/{os.getppid()}/status"))
    ran = subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode
    reads, writes = os.pipe()
    os.close(reads)
    try:
        os.write(writes, b"x")
    except BrokenPipeError:
        ran += 10
    os.close(writes)
    return [int(each["SigIgn"], 16) for each in (lines, parent)], [int(lines["SigBlk"], 16)], ran

if __name__ == "__main__":
    with unisono.ProcessPool(2, start_method=sys.argv[1], max_tasks_per_child=3) as pool:
        found = list(pool.map(state, range(12)))
    ignored, blocked, ran = found[0]
    assert all(each == found[0] for each in found), found
    print(*ignored, *blocked, ran)
"""


@pytest.mark.parametrize("method", ["zygote", "fork", "spawn"])
@pytest.mark.parametrize("program", ["ignores", "blocks", "kills itself by SIGPIPE"])
def test_workers_and_their_zygote_take_signals_as_if_just_started_whatever_the_program_does_with_them(
    tmp_path, method, program
):
    (tmp_path / "program.py").write_text(SIGNALS)
    ours = [signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM]

    def before():
        if program == "ignores":
            for number in ours:
                signal.signal(number, signal.SIG_IGN)
        elif program == "blocks":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        else:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    done = subprocess.run(
        [sys.executable, "program.py", method],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=before,
    )
    assert done.returncode == 0, done.stderr
    *ignored, blocked, ran = map(int, done.stdout.split())
    assert (blocked, ran) == (0, 13)
    for each in ignored:
        assert not each & bits(signal.SIGCHLD, signal.SIGTERM)
        assert each & bits(signal.SIGPIPE)


def bits(*signals):
    return sum(1 << (number - 1) for number in signals)


def test_a_program_that_survives_its_terminal_has_workers_that_do(tmp_path):
    (tmp_path / "program.py").write_text(SIGNALS)
    done = subprocess.run(
        [sys.executable, "program.py", "zygote"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert done.returncode == 0, done.stderr
    worker, zygote, *_ = map(int, done.stdout.split())
    assert worker & zygote & bits(signal.SIGHUP)


def test_zygotes_end_when_no_pool_uses_them_and_the_last_is_kept_for_the_next(tmp_path, monkeypatch):
    _spawning.stop_zygotes()
    pools = []
    for number in range(15):
        monkeypatch.syspath_prepend(tmp_path / str(number))
        pool = unisono.ProcessPool(1)
        assert pool.submit(abs, -1).result(LONG) == 1
        pools.append(pool)
    assert len(zygotes()) == 15
    for pool in pools[:10]:
        pool.shutdown()
    until(lambda: len(zygotes()) <= 6, "the end of those that are not used")
    assert all(pool.submit(abs, -1).result(LONG) == 1 for pool in pools[10:])
    for pool in pools[10:]:
        pool.shutdown()
    [kept] = until(lambda: len(zygotes()) == 1 and zygotes(), "the end of all but one")
    with unisono.ProcessPool(1) as pool:
        assert pool.submit(abs, -1).result(LONG) == 1
        assert zygotes() == [kept]


def test_a_zygote_without_workers_ends_after_a_while_and_the_next_worker_has_another(tmp_path):
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
            import os, unisono
            from unisono._pools import spawning as _spawning
            from unisono._pools import zygote as _zygote

            if __name__ == "__main__":
                with unisono.ProcessPool(1, max_tasks_per_child=1, preload=["impatient"]) as pool:
                    first = pool.submit(os.getppid).result(60)
                    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
                    assert pool.submit(os.getppid).result(60) != first
                    print("two")
        """)
    )
    (tmp_path / "impatient.py").write_text(
        "from unisono._pools import zygote as _zygote\n_zygote._LONGEST_IDLE = 0.05\n"
    )
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "two\n", done.stderr
