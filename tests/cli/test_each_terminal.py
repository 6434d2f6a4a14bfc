"""`unisono each` at a terminal: commands that ask it, and the terminal lent to them and taken back."""

import contextlib
import os
import pty
import signal
import sys

import pytest

from conftest import COMMAND
from processes import children

ASKS = "stty -F /dev/tty -echo; printf 'ask %s ' $1 >/dev/tty; read x </dev/tty; echo got $x"

# Runs a command in its own group, as a script does, and says whether the terminal is its own again.
SCRIPT = """
import os, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
process = subprocess.Popen(sys.argv[1:], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
print("status:", process.wait(), "back:", os.tcgetpgrp(0) == os.getpgrp(), flush=True)
"""

# Runs a command in a group of its own, as a shell at a terminal does, and continues it once when it has stopped.
SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(child, os.WUNTRACED)
held = os.tcgetpgrp(0)
os.tcsetpgrp(0, os.getpgrp())
print("stopped:", os.WIFSTOPPED(status), "held:", held == child, flush=True)
sys.stdin.readline()
os.tcsetpgrp(0, child)
os.killpg(child, signal.SIGCONT)
_, status = os.waitpid(child, 0)
print("ended:", os.waitstatus_to_exitcode(status), "held:", os.tcgetpgrp(0) == child, flush=True)
"""


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, folder, *words: str) -> None:
        self.text = ""
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execv(words[0], words)

    def until(self, wanted: str) -> None:
        while wanted not in self.text:
            try:
                read = os.read(self.end, 4096)
            except OSError:
                read = b""
            assert read, f"it ended without {wanted!r}: {self.text}"
            self.text += read.decode()

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def wait(self) -> int:
        with contextlib.suppress(OSError):
            while read := os.read(self.end, 4096):
                self.text += read.decode()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        os.close(self.end)


@pytest.fixture
def terminal(tmp_path):
    terminals = []

    def open_terminal(*words: str) -> Terminal:
        terminals.append(Terminal(tmp_path, *words))
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
    one.until("--tty")
    assert "`web-1`" in one.text
    one.type("\x03")
    assert one.wait() == 130


def test_a_lent_terminal_is_asked_by_one_command_after_the_other(terminal, tmp_path, lines):
    one = terminal(
        sys.executable,
        "-c",
        SCRIPT,
        *each("--tty", "-j8", "-o", "r.jsonl", "sh", "-c", ASKS, "sh", "{}", ":::", "a", "b"),
    )
    one.until("ask a ")
    assert "ask b" not in one.text
    one.type("1\n")
    one.until("ask b ")
    assert "got 1" in one.text
    one.type("2\n")
    one.until("status: 0 back: True")
    assert "got 2" in one.text
    assert one.wait() == 0
    assert [row["outcome"] for row in lines(tmp_path / "r.jsonl")] == ["ok", "ok"]


def test_a_lent_terminal_is_standard_input(terminal):
    one = terminal(*each("--tty", "sh", "-c", "test -t 0 && test -t 1 && echo ask; read x; echo got $x", ":::", "a"))
    one.until("ask")
    one.type("1\n")
    one.until("got 1")
    assert one.wait() == 0


def test_ctrl_c_ends_the_command_that_has_the_terminal_and_the_run_and_gives_it_back(terminal, tmp_path, lines):
    one = terminal(
        sys.executable, "-c", SCRIPT, *each("--tty", "-o", "r.jsonl", "sh", "-c", ASKS, "sh", "{}", ":::", "a", "b")
    )
    one.until("ask a ")
    one.type("\x03")
    one.until("status: 130 back: True")
    assert "ask b" not in one.text
    assert one.wait() == 0
    assert lines(tmp_path / "r.jsonl")[0]["signal"] == signal.SIGINT


def test_ctrl_z_stops_the_run_gives_the_terminal_back_and_fg_lends_it_again(terminal):
    one = terminal(sys.executable, "-c", SHELL, *each("--tty", "sh", "-c", ASKS, "sh", "{}", ":::", "a"))
    one.until("ask a ")
    one.type("\x1a")
    one.until("stopped: True held: True")
    one.type("\n")
    # Whoever reads is in the foreground by then, or what was typed waits for it.
    one.type("1\n")
    one.until("got 1")
    one.until("ended: 0 held: True")
    assert one.wait() == 0


def test_a_worker_that_is_killed_leaves_the_terminal_to_who_had_it(terminal, tmp_path):
    one = terminal(sys.executable, "-c", SCRIPT, *each("--tty", "sh", "-c", ASKS, "sh", "{}", ":::", "a"))
    one.until("ask a ")
    [watcher] = children(one.pid)
    [worker] = children(watcher)
    os.kill(worker, signal.SIGKILL)
    one.until("status: 137 back: True")
    assert one.wait() == 0


def test_without_a_terminal_there_is_none_to_lend(unisono, tmp_path):
    done = unisono("each", "--tty", "touch", ":::", "a", start_new_session=True)
    assert (done.returncode, "--tty needs a terminal" in done.stderr) == (2, True)
    assert not (tmp_path / "a").exists()
