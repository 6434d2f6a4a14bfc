"""How it ends: exit codes, the grace, what the command leaves behind, and the hook."""

import os
import signal
import sys

import pytest

from support.init import LISTENER
from support.processes import children, until

# Cleans up when it is asked to end, until `go` is written to; says so if it is asked again.
CLEANER = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked again\\n"))
os.write(1, b"ready\\n")
signal.sigwait({signal.SIGTERM})
os.write(1, b"cleaning\\n")
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
open("go").read()
os.write(1, b"done\\n")
"""
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1000; done"


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)],
)
def test_the_exit_code_is_that_of_the_command(finished, script, code):
    done = finished("--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (code, "")


def test_an_exit_code_is_mapped(finished):
    options = ["--map-exit", "143=0", "--map-exit=3=4"]
    assert finished(*options, "--", "sh", "-c", "kill -TERM $$").returncode == 0
    assert finished(*options, "sh", "-c", "exit 3").returncode == 4
    assert finished(*options, "sh", "-c", "exit 5").returncode == 5


def test_a_command_that_ignores_term_is_killed_after_the_grace(start):
    init = start("--grace", "100ms", "--", "sh", "-c", STUBBORN)
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.end() == 137


@pytest.mark.parametrize("own_session", [True, False])
def test_what_is_left_finishes_its_clean_up_and_is_asked_once(start, tmp_path, own_session):
    os.mkfifo(tmp_path / "go")
    script = f'{"setsid" if own_session else ""} "$@" & wait'
    init = start("--grace", "1h", "--", "sh", "-c", script, "sh", sys.executable, "-c", CLEANER)
    assert init.line() == "ready"
    command = children(init.pid)[0]
    init.send(signal.SIGTERM)
    assert init.line() == "cleaning"
    until(lambda: command not in children(init.pid), "the end of the command")
    assert init.runs()
    # Opening it waits for the cleaner, which is thereby shown to be in the middle of its clean-up.
    (tmp_path / "go").write_text("go\n")
    assert init.line() == "done"
    assert init.end() == 143
    assert init.line() == "", "it was asked once"


def test_what_is_left_is_asked_when_the_command_ends_by_itself(start, tmp_path):
    os.mkfifo(tmp_path / "end")
    os.mkfifo(tmp_path / "go")
    init = start(
        "--grace", "1h", "--", "sh", "-c", '"$@" & read line <end; exit 6', "sh", sys.executable, "-c", CLEANER
    )
    assert init.line() == "ready"
    (tmp_path / "end").write_text("end\n")
    assert init.line() == "cleaning"
    (tmp_path / "go").write_text("go\n")
    assert init.line() == "done"
    assert init.end() == 6


def test_what_is_left_is_killed_after_the_grace(start, tmp_path):
    os.mkfifo(tmp_path / "end")
    init = start(
        "--grace", "100ms", "--", "sh", "-c", 'setsid "$@" & read line <end; exit 6', "sh", "sh", "-c", STUBBORN
    )
    assert init.line() == "ready"
    (tmp_path / "end").write_text("end\n")
    assert init.end() == 6


def test_without_waiting_the_end_of_the_command_is_the_end(start, first, tmp_path):
    os.mkfifo(tmp_path / "end")
    init = start(
        "--no-wait-all",
        "--grace",
        "1h",
        "--",
        "sh",
        "-c",
        '"$@" & read line <end; exit 6',
        "sh",
        sys.executable,
        "-c",
        CLEANER,
    )
    assert init.line() == "ready"
    cleaner = children(children(init.pid)[0])[0]
    (tmp_path / "end").write_text("end\n")
    assert init.end() == 6
    # With the first process the kernel ends all others; without, nothing would have ended them.
    if not first:
        os.kill(cleaner, signal.SIGKILL)


def test_ten_thousand_orphans_leave_no_zombie(start, tmp_path):
    os.mkfifo(tmp_path / "end")
    script = "i=0; while [ $i -lt 10000 ]; do (: &); i=$((i+1)); done; echo made; read line <end"
    init = start("--", "sh", "-c", script)
    assert init.line() == "made"
    # The kernel lists zombies as children too.
    until(lambda: len(children(init.pid)) == 1, "the end of the last orphan")
    (tmp_path / "end").write_text("end\n")
    assert init.end() == 0


@pytest.mark.parametrize("first", ["first"], indirect=True)
def test_without_proc_everybody_is_still_asked(start, tmp_path):
    os.mkfifo(tmp_path / "end")
    os.mkfifo(tmp_path / "go")
    script = 'setsid "$@" & read line <end; exit 6'
    init = start("--grace", "1h", "--", "sh", "-c", script, "sh", sys.executable, "-c", CLEANER, mount=False)
    assert init.line() == "ready"
    (tmp_path / "end").write_text("end\n")
    assert init.line() == "cleaning"
    (tmp_path / "go").write_text("go\n")
    assert init.line() == "done"
    assert init.end() == 6


def test_the_hook_runs_before_term_is_forwarded(start):
    init = start("--pre-stop", "echo hook", "--", sys.executable, "-c", LISTENER, 1)
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.line() == "hook"
    assert init.line() == str(int(signal.SIGTERM))
    assert init.end() == 0


def test_a_hook_that_hangs_is_killed_with_its_children_and_term_comes_after(start):
    init = start("--grace", "200ms", "--pre-stop", "sleep 1000 & wait", "--", sys.executable, "-c", LISTENER, 1)
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.line() == str(int(signal.SIGTERM))
    assert init.end() == 0
    assert "the pre-stop command is killed before its end" in init.errors()


def test_a_second_term_ends_the_hook(start):
    init = start("--grace", "1h", "--pre-stop", "echo hook; sleep 1000", "--", sys.executable, "-c", LISTENER, 1)
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.line() == "hook"
    init.send(signal.SIGTERM)
    assert init.line() == str(int(signal.SIGTERM))
    assert init.end() == 0


def test_a_hook_that_fails_is_told_and_stops_nothing(start):
    init = start("--pre-stop", "exit 9", "--", sys.executable, "-c", LISTENER, 1)
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.line() == str(int(signal.SIGTERM))
    assert init.end() == 0
    assert "the pre-stop command ended with 9" in init.errors()


def test_each_phase_is_told_when_asked(start):
    options = ["-v", "--drain", "10ms", "--pre-stop", "true", "--grace", "100ms"]
    init = start(*options, "--", "sh", "-c", STUBBORN)
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.end() == 137
    told = init.errors().splitlines()
    assert all(line.startswith("unisono-init: ") for line in told)
    order = [
        "started",
        "draining",
        "running the pre-stop command",
        "stopping",
        "forwarding TERM",
        "killing",
        "ended with 137",
        "exit 137",
    ]
    places = [next(n for n, line in enumerate(told) if part in line) for part in order]
    assert places == sorted(places)
