"""A terminal: who may use it, Ctrl-C, Ctrl-Z and `fg`, and that it is given back.

A small shell with job control runs as the leader of a session with a pseudo-terminal. It starts init as a job in the
foreground, tells how it stops and ends, and continues it in the foreground, as every shell does.
"""

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from init_support import INIT
from processes import PATIENCE

SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    holder = os.tcgetpgrp(0)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        print("the job ended with", os.waitstatus_to_exitcode(status), flush=True)
        print("the terminal was", "the job's" if holder == job else "elsewhere", flush=True)
        break
    print("the job stopped", flush=True)
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
"""

# Says whether the terminal is its own, and answers each line until one says `end`.
READER = """
import os, sys
print("mine" if os.tcgetpgrp(0) == os.getpgrp() else "not mine", flush=True)
for line in sys.stdin:
    print("read", line.strip(), flush=True)
    if line.strip() == "end":
        os._exit(3)
"""


class Screen:
    """The other side of the terminal."""

    def __init__(self, process: subprocess.Popen[bytes], side: int) -> None:
        self.process, self.side, self.shown = process, side, b""

    def shows(self, text: str) -> None:
        """Wait until it has been shown, and forget everything up to there."""
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.side], [], [], left)[0], f"{text!r} is not in {self.shown!r}"
            try:
                self.shown += os.read(self.side, 4096)
            except OSError:
                pytest.fail(f"the terminal is gone, and {text!r} is not in {self.shown!r}")
        self.shown = self.shown.split(text.encode(), 1)[1]

    def types(self, text: str) -> None:
        os.write(self.side, text.encode())


@pytest.fixture
def screen(mark, first, tmp_path):
    """Runs words in the small shell; answers its screen."""
    sides: list[int] = []
    screens: list[Screen] = []

    def run(*words: object, options: tuple[str, ...] = ()) -> Screen:
        ours, theirs = pty.openpty()
        sides.append(ours)
        name, value = mark.split("=")
        unshare = ["unshare", "--pid", "--fork", "--mount-proc"] if first else []
        process = subprocess.Popen(
            [sys.executable, "-c", SHELL, *unshare, str(INIT), *options, "--", *map(str, words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], name: value},
            start_new_session=True,
        )
        os.close(theirs)
        screens.append(Screen(process, ours))
        return screens[-1]

    yield run
    for side in sides:
        # Hanging up ends whoever still uses it.
        os.close(side)
    for one in screens:
        one.process.wait(PATIENCE)


def test_the_command_has_the_terminal_and_it_comes_back(screen, first):
    shown = screen(sys.executable, "-c", READER)
    shown.shows("mine")
    shown.types("hello\n")
    shown.shows("read hello")
    shown.types("end\n")
    shown.shows("the job ended with 3")
    # Under unshare our own group has no number in the namespace, so it cannot be given back, and its holder is gone.
    shown.shows("the terminal was elsewhere" if first else "the terminal was the job's")


def test_ctrl_c_reaches_the_command_and_is_no_request_to_stop(screen):
    shown = screen("sh", "-c", "trap 'echo interrupted; exit 5' INT; echo ready; while :; do read line; done")
    shown.shows("ready")
    shown.types("\x03")
    shown.shows("interrupted")
    shown.shows("the job ended with 5")


@pytest.mark.parametrize("first", ["subreaper"], indirect=True)
def test_ctrl_z_stops_both_and_fg_continues_both(screen):
    shown = screen(sys.executable, "-c", READER)
    shown.shows("mine")
    for _ in range(3):
        shown.types("\x1a")
        shown.shows("the job stopped")
        shown.types("again\n")
        shown.shows("read again")
    shown.types("end\n")
    shown.shows("the job ended with 3")
    shown.shows("the terminal was the job's")


@pytest.mark.parametrize("first", ["first"], indirect=True)
def test_for_the_first_process_ctrl_z_does_not_hang_the_container(screen):
    """There is no shell above that could ever continue it."""
    shown = screen("sh", "-c", "trap 'echo continued' CONT; echo ready; while :; do read line && echo got $line; done")
    shown.shows("ready")
    shown.types("\x1a")
    shown.shows("continued")
    shown.types("x\n")
    shown.shows("got x")
