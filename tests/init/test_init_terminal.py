"""A terminal: which process may use it, Ctrl-C, Ctrl-Z and `fg`, and that it is given back.

A small shell with job control runs as the leader of a session with a pseudo-terminal. It starts init as a job in the
foreground, tells how it stops and ends, and continues it in the foreground, as every shell does.
"""

import os
import sys

import pytest

from support.init import INIT
from support.terminals import Terminal, job

# Says whether the terminal is its own, and answers each line until one says `end`.
READER = """
import os, sys
print("mine" if os.tcgetpgrp(0) == os.getpgrp() else "not mine", flush=True)
for line in sys.stdin:
    print("read", line.strip(), flush=True)
    if line.strip() == "end":
        os._exit(3)
"""


@pytest.fixture
def screen(mark, first, tmp_path):
    """Runs words as the job of a small shell; returns its terminal."""
    screens: list[Terminal] = []

    def run(*words: object, options: tuple[str, ...] = ()) -> Terminal:
        name, value = mark.split("=")
        unshare = ["unshare", "--pid", "--fork", "--mount-proc"] if first else []
        env = {"PATH": os.environ["PATH"], name: value}
        screens.append(Terminal(*job(*unshare, INIT, *options, "--", *words), cwd=tmp_path, env=env))
        return screens[-1]

    yield run
    for one in screens:
        one.close()


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
