"""Which signals reach the command, when, and as which."""

import os
import signal
import sys

import pytest

from support.init import LISTENER

HELD = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
# Another build may be one with musl, which keeps this one for itself too.
HELD |= {34} if "UNISONO_INIT" in os.environ else set()
ALL = sorted(signal.valid_signals() - HELD)


def test_every_signal_that_can_be_forwarded_is(start):
    init = start("--grace", "none", "--", sys.executable, "-c", LISTENER, len(ALL))
    assert init.line() == "ready"
    for number in ALL:
        init.send(number)
        assert init.line() == str(int(number))
    assert init.end() == 0


def test_the_whole_group_gets_a_signal(start):
    # Two listeners in one group.
    init = start("--", sys.executable, "-c", f"import os; child = os.fork()\n{LISTENER}\nchild and os.wait()", 1)
    assert [init.line(), init.line()] == ["ready", "ready"]
    init.send(signal.SIGUSR1)
    assert [init.line(), init.line()] == [str(int(signal.SIGUSR1))] * 2
    assert init.end() == 0


def test_a_command_that_left_its_group_is_reached_there(start):
    script = """
import os, signal
child = os.fork()
if child == 0:
    signal.pause()
os.setpgid(child, child)
os.setpgid(0, child)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.write(1, b"ready\\n")
signal.sigwait({signal.SIGTERM})
os.write(1, b"got it\\n")
os._exit(5)
"""
    init = start("--", sys.executable, "-c", script)
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.line() == "got it"
    assert init.end() == 5


def test_the_command_starts_with_signals_as_init_was_started(finished):
    prefix = ("env", "--block-signal=USR1", "--ignore-signal=HUP")
    done = finished("--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", prefix=prefix)
    masks = {line.split()[0]: mask(line) for line in done.stdout.splitlines()}
    assert masks == {"SigBlk:": 1 << (signal.SIGUSR1 - 1), "SigIgn:": 1 << (signal.SIGHUP - 1)}


def test_the_command_starts_with_no_signal_held_or_ignored(finished):
    done = finished("--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    assert [mask(line) for line in done.stdout.splitlines()] == [0, 0]


def mask(line: str) -> int:
    """The set of signals in a line of /proc/PID/status, without the two that the C library keeps for itself: no program can
    set these through it, and what GNU make starts has them ignored."""
    return int(line.split()[1], 16) & ~(0b11 << 31)


def test_a_signal_that_came_before_the_command_existed_is_forwarded(finished):
    # A signal that is held stays pending over exec, so it is there before the first instruction of init.
    prefix = ("env", "--block-signal=USR1", "sh", "-c", 'kill -USR1 $$; exec "$@"', "sh")
    script = "import signal; print(int(signal.sigwait({signal.SIGUSR1})), flush=True)"
    done = finished("--", sys.executable, "-c", script, prefix=prefix)
    assert (done.stdout, done.returncode) == (f"{int(signal.SIGUSR1)}\n", 0)


def test_children_are_noticed_when_whoever_started_us_ignores_them(finished):
    assert finished("--", "sh", "-c", "exit 7", prefix=("env", "--ignore-signal=CHLD")).returncode == 7


def test_a_drain_holds_term_back_and_nothing_else_until_a_second_term(start):
    init = start("--drain", "1h", "--", sys.executable, "-c", LISTENER, 3)
    assert init.line() == "ready"
    # Each answer shows that everything sent before it has been looked at.
    init.send(signal.SIGTERM)
    init.send(signal.SIGHUP)
    assert init.line() == str(int(signal.SIGHUP))
    init.send(signal.SIGUSR1)
    assert init.line() == str(int(signal.SIGUSR1))
    init.send(signal.SIGTERM)
    assert init.line() == str(int(signal.SIGTERM))
    assert init.end() == 0


def test_a_drain_ends_by_itself(start):
    init = start("--drain", "50ms", "--", sys.executable, "-c", LISTENER, 1)
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.line() == str(int(signal.SIGTERM))
    assert init.end() == 0


def test_signals_are_rewritten_or_dropped(start):
    options = ["--rewrite", "TERM=QUIT", "--rewrite=HUP=none", "--rewrite", "RTMAX-1=USR2"]
    init = start(*options, "--", sys.executable, "-c", LISTENER, 2)
    assert init.line() == "ready"
    init.send(signal.SIGHUP)
    init.send(signal.SIGRTMAX - 1)
    assert init.line() == str(int(signal.SIGUSR2))
    init.send(signal.SIGTERM)
    assert init.line() == str(int(signal.SIGQUIT))
    assert init.end() == 0


def test_a_third_term_is_forwarded_like_the_first(start):
    init = start("--", sys.executable, "-c", LISTENER, 3)
    assert init.line() == "ready"
    for _ in range(3):
        init.send(signal.SIGTERM)
        assert init.line() == str(int(signal.SIGTERM))
    assert init.end() == 0


def test_a_stopped_command_can_still_be_ended(start):
    init = start("--", "sh", "-c", "echo ready; kill -STOP $$; echo continued; sleep 1000")
    assert init.line() == "ready"
    init.send(signal.SIGTERM)
    assert init.end() == 143


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGTTIN])
def test_init_lives_on_when_the_command_is_stopped(start, number):
    init = start(
        "--grace",
        "100ms",
        "--",
        "sh",
        "-c",
        "trap 'echo on; exit 4' CONT; echo ready; while :; do sleep 1000 & wait; done",
    )
    assert init.line() == "ready"
    init.send(number)
    init.send(signal.SIGCONT)
    assert init.line() == "on"
    assert init.end() == 4
