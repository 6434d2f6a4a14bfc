"""`unisono ps` and `unisono dump`: a watched program says where it stands, also while Python hangs."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

# Tells on its output when it is where it should be, and ends when its input is closed.
STANDS = """
import asyncio, ctypes, os, sys, threading
import unisono
unisono.watch(stall=0.05, file=os.devnull)
def waits():
    threading.Event().wait()  # OTHER
threading.Thread(target=waits, daemon=True).start()
async def main():
    print("here", flush=True)
    {stands}  # HERE
asyncio.run(main())
"""
HANGS = {
    "asleep": "await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)",
    "blocked": "sys.stdin.read()",
    # Reads standard input and keeps the interpreter's lock meanwhile: nothing of Python runs.
    "blocked_with_the_lock": "ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)",
}


@contextlib.contextmanager
def program(folder: Path, stands: str, environment: dict[str, str]):
    path = folder / "program.py"
    path.write_text(STANDS.format(stands=stands))
    running = subprocess.Popen(
        [sys.executable, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert running.stdout.readline() == "here\n"
        yield running
    finally:
        running.stdin.close()
        running.wait(30)
        running.stdout.close()


@pytest.fixture
def runtime(tmp_path, monkeypatch) -> Path:
    """A folder of this test's own for sockets."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return runtime


def line_of(folder: Path, mark: str) -> int:
    lines = (folder / "program.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if mark in line)


@pytest.mark.parametrize("how", HANGS)
def test_the_threads_of_a_program_are_shown_by_their_lines_whatever_it_does(how, unisono, tmp_path, runtime):
    with program(tmp_path, HANGS[how], dict(os.environ)) as running:
        while True:
            done = unisono("dump", str(running.pid), "--json")
            assert done.returncode == 0, done.stderr
            told = json.loads(done.stdout)
            lines = [
                {frame["line"] for frame in thread["stack"] or [] if frame["is_own"]} for thread in told["threads"]
            ]
            wanted = {line_of(tmp_path, "# OTHER")} | (set() if how == "asleep" else {line_of(tmp_path, "# HERE")})
            # It says that it is there a moment before it is.
            if wanted <= set().union(*lines):
                break
        assert told["process"] == running.pid
        if how == "blocked_with_the_lock":
            holder = next(thread for thread in told["threads"] if thread["has_lock"])
            assert line_of(tmp_path, "# HERE") in {frame["line"] for frame in holder["stack"]}
        text = unisono("dump", str(running.pid)).stdout
        assert f"> {tmp_path / 'program.py'}:{line_of(tmp_path, '# OTHER')} in waits" in text


def test_programs_that_are_watched_are_listed_and_gone_when_they_have_ended(unisono, tmp_path, runtime):
    with program(tmp_path, HANGS["asleep"], dict(os.environ)) as running:
        [told] = json.loads(unisono("ps", "--json").stdout)
        assert (told["process"], told["loops"][0]["thread"]) == (running.pid, "MainThread")
        assert f"{running.pid} " in unisono("ps").stdout
        socket_file = runtime / "unisono" / f"{running.pid}.sock"
        assert stat.S_IMODE(socket_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket_file.parent.stat().st_mode) == 0o700
    assert json.loads(unisono("ps", "--json").stdout) == []
    assert not socket_file.exists()


def test_the_socket_of_a_program_that_was_killed_is_cleaned_up(unisono, tmp_path, runtime):
    with program(tmp_path, HANGS["asleep"], dict(os.environ)) as running:
        running.kill()
        running.wait(30)
        socket_file = runtime / "unisono" / f"{running.pid}.sock"
        assert socket_file.exists()
        assert unisono("ps").stdout.startswith("no process of this user is watched")
        assert not socket_file.exists()


def test_a_process_that_is_not_watched_or_not_there_is_said_with_what_to_do(unisono, runtime):
    done = unisono("dump", str(os.getpid()))
    assert done.returncode == 2
    assert f"process {os.getpid()} is not watched by unisono" in done.stderr
    assert "UNISONO_WATCH=1" in done.stderr
    gone = subprocess.Popen(["true"])
    gone.wait(30)
    done = unisono("dump", str(gone.pid))
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: there is no process {gone.pid}")


def test_a_folder_that_others_may_write_to_is_not_trusted_and_the_program_goes_on(unisono, tmp_path, runtime):
    (runtime / "unisono").mkdir(mode=0o755)
    path = tmp_path / "program.py"
    path.write_text(
        "import asyncio, unisono\nwith unisono.watch():\n    asyncio.run(asyncio.sleep(0))\nprint('done')\n"
    )
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "is not a folder of this user's alone" in done.stderr
    done = unisono("ps")
    assert done.returncode == 125
    assert "is not a folder of this user's alone" in done.stderr


def test_what_is_no_question_is_refused_and_the_next_is_answered(unisono, tmp_path, runtime):
    with program(tmp_path, HANGS["asleep"], dict(os.environ)) as running:
        path = str(runtime / "unisono" / f"{running.pid}.sock")
        for sent in (b"\n", b'{"ask": "run", "code": "1"}\n', b"\xff" * 100_000, b""):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(path)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    peer.sendall(sent)
                    peer.shutdown(socket.SHUT_WR)
                    assert peer.recv(100_000).startswith(b'{"error"') or not sent
        assert len(json.loads(unisono("ps", "--json").stdout)) == 1


def test_the_lines_at_which_a_program_is_are_counted(unisono, tmp_path, runtime):
    with program(tmp_path, HANGS["blocked"], dict(os.environ)) as running:
        done = unisono("top", str(running.pid), "--every", "0.3", "--times", "2")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count(f"process {running.pid}: ") == 2
        other = rf"^ +(\d+)  {tmp_path / 'program.py'}:{line_of(tmp_path, '# OTHER')} in waits \(futex\)$"
        looks = re.findall(r"^sleeps at, in how many of (\d+) looks:$", done.stdout, re.MULTILINE)
        assert re.findall(other, done.stdout, re.MULTILINE) == looks
        assert len(looks) == 2
    assert unisono("top", str(running.pid)).returncode == 2
    assert unisono("top", str(os.getpid()), "--every", "0").returncode == 2


def test_a_process_that_is_stopped_is_listed_as_one_that_does_not_answer(unisono, tmp_path, runtime):
    with program(tmp_path, HANGS["asleep"], dict(os.environ)) as running:
        running.send_signal(signal.SIGSTOP)
        try:
            [told] = json.loads(unisono("ps", "--json").stdout)
            assert told["error"] == "does not answer: is it stopped?"
            done = unisono("dump", str(running.pid))
            assert (done.returncode, f"process {running.pid} does not answer" in done.stderr) == (125, True)
        finally:
            running.send_signal(signal.SIGCONT)
