"""`unisono each` at a terminal: commands that ask it, and the terminal lent to them and taken back."""

import os
import signal
import sys

import pytest

from support.installed import COMMAND
from support.processes import children
from support.terminals import Terminal, job

ASKS = "stty -F /dev/tty -echo; printf 'ask %s ' $1 >/dev/tty; read x </dev/tty; echo got $x"

# Runs a command in its own group, as a script does, and says whether the terminal is its own again.
SCRIPT = """
import os, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
process = subprocess.Popen(sys.argv[1:], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
print("status:", process.wait(), "back:", os.tcgetpgrp(0) == os.getpgrp(), flush=True)
"""


@pytest.fixture
def terminal(tmp_path):
    terminals = []

    def open_terminal(*words: object) -> Terminal:
        terminals.append(Terminal(*words, cwd=tmp_path))
        return terminals[-1]

    yield open_terminal
    for one in terminals:
        one.close()


def each(*words: str) -> list[str]:
    return [str(COMMAND), "each", *words]


@pytest.mark.parametrize("script", ["read x </dev/tty", "stty -echo </dev/tty; echo done"])
def test_a_command_that_asks_the_terminal_is_named_with_the_way_out(terminal, script):
    one = terminal(
        *each("-q", "--grace", "0s", "--kill-after", "0s", "--", "sh", "-c", script, "sh", "{}", ":::", "web-1")
    )
    one.shows("--tty")
    assert "`web-1`" in one.text
    one.types("\x03")
    assert one.ends() == 130


def test_a_lent_terminal_is_asked_by_one_command_after_the_other(terminal, tmp_path, lines):
    one = terminal(
        sys.executable,
        "-c",
        SCRIPT,
        *each("--tty", "-j8", "-o", "r.jsonl", "sh", "-c", ASKS, "sh", "{}", ":::", "a", "b"),
    )
    one.shows("ask a ")
    assert "ask b" not in one.text
    one.types("1\n")
    one.shows("ask b ")
    assert "got 1" in one.text
    one.types("2\n")
    one.shows("status: 0 back: True")
    assert "got 2" in one.text
    assert one.ends() == 0
    assert [row["outcome"] for row in lines(tmp_path / "r.jsonl")] == ["ok", "ok"]


def test_a_lent_terminal_is_standard_input(terminal):
    one = terminal(*each("--tty", "sh", "-c", "test -t 0 && test -t 1 && echo ask; read x; echo got $x", ":::", "a"))
    one.shows("ask")
    one.types("1\n")
    one.shows("got 1")
    assert one.ends() == 0


def test_ctrl_c_ends_the_command_that_has_the_terminal_and_the_run_and_gives_it_back(terminal, tmp_path, lines):
    one = terminal(
        sys.executable, "-c", SCRIPT, *each("--tty", "-o", "r.jsonl", "sh", "-c", ASKS, "sh", "{}", ":::", "a", "b")
    )
    one.shows("ask a ")
    one.types("\x03")
    one.shows("status: 130 back: True")
    assert "ask b" not in one.text
    assert one.ends() == 0
    assert lines(tmp_path / "r.jsonl")[0]["signal"] == signal.SIGINT


def test_ctrl_z_stops_the_run_gives_the_terminal_back_and_fg_lends_it_again(terminal):
    one = terminal(*job(*each("--tty", "sh", "-c", ASKS, "sh", "{}", ":::", "a"), asked=True))
    one.shows("ask a ")
    one.types("\x1a")
    one.shows("the job stopped, the terminal was the job's")
    one.types("\n")
    # The reader is in the foreground by then, or what was typed waits for it.
    one.types("1\n")
    one.shows("got 1")
    one.shows("the job ended with 0")
    one.shows("the terminal was the job's")
    assert one.ends() == 0


def test_a_worker_that_is_killed_leaves_the_terminal_to_who_had_it(terminal, tmp_path):
    one = terminal(sys.executable, "-c", SCRIPT, *each("--tty", "sh", "-c", ASKS, "sh", "{}", ":::", "a"))
    one.shows("ask a ")
    [watcher] = children(one.pid)
    [worker] = children(watcher)
    os.kill(worker, signal.SIGKILL)
    one.shows("status: 137 back: True")
    assert one.ends() == 0


def test_without_a_terminal_there_is_none_to_lend(unisono, tmp_path):
    done = unisono("each", "--tty", "touch", ":::", "a", start_new_session=True)
    assert (done.returncode, "--tty needs a terminal" in done.stderr) == (2, True)
    assert not (tmp_path / "a").exists()
