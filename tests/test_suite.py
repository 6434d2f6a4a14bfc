"""The suite itself: it can be started from anywhere, in any order, and by any shell."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def collected(*folders):
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
    return sorted(line for line in done.stdout.splitlines() if "::" in line)


@pytest.mark.parametrize("folders", [("tests/cli", "tests/init"), ("tests/init", "tests/cli")])
def test_folders_of_tests_can_be_named_together_in_any_order(folders):
    assert collected(*folders) == sorted([*collected(folders[0]), *collected(folders[1])])


def test_ctrl_c_is_heard_here_and_by_what_is_started():
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    program = "import signal; print(signal.getsignal(signal.SIGINT) == signal.default_int_handler)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "True\n"


def test_that_holds_where_the_suite_was_started_in_the_background_of_a_shell():
    program = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    name = f"{Path(__file__).relative_to(ROOT)}::{test_ctrl_c_is_heard_here_and_by_what_is_started.__name__}"
    command = [sys.executable, "-c", program, sys.executable, "-m", "pytest", "-q", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
