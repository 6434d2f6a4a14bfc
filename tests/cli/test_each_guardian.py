"""`unisono each` is two processes that watch each other: one of them stopped, continued and killed, in every order.

What a test starts sleeps in a FIFO that nothing writes to, so its state is what signals made of it.
"""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.installed import COMMAND
from support.processes import children, is_alive, state, until
from support.terminals import Terminal, job

# A shell with a child in a session of its own: neither is in the group of the other.
TREE = "echo $$ >pids; setsid sh -c 'echo $$ >>pids; read x <hold' & until test -s pids; do :; done; touch up; read x <hold; wait"
CHLD = 1 << signal.SIGCHLD - 1


class Run:
    """A watcher, its worker, and the processes of the one command that it runs."""

    def __init__(self, folder: Path, watcher: int) -> None:
        self.folder, self.watcher = folder, watcher
        self.worker = until(lambda: children(watcher), "the start of the worker")[0]
        pids = folder / "pids"
        until(lambda: (folder / "up").exists() and len(pids.read_text().split()) == 2, "the start of the command")
        self.tree = [int(word) for word in pids.read_text().split()]
        until(lambda: self.states() == ["S", "S"], "the command to wait")

    def states(self) -> list[str]:
        return [state(pid) for pid in self.tree]

    def stop_worker(self, number: int = signal.SIGSTOP) -> None:
        """Stop the worker alone, and wait until the watcher knows."""
        os.kill(self.worker, number)
        until(lambda: state(self.worker) == "T", "the worker to stop")
        until(lambda: not pending(self.watcher) & CHLD and state(self.watcher) in "ST", "the watcher to notice")

    def is_gone(self) -> None:
        """Nothing of it is left."""
        until(lambda: not any(map(is_alive, [*self.tree, self.worker])), "the end of all of it")

    def release(self) -> None:
        """Let the command end."""

        def have_ended() -> bool:
            with contextlib.suppress(OSError):
                os.close(os.open(self.folder / "hold", os.O_WRONLY | os.O_NONBLOCK))
            return not any(map(is_alive, self.tree))

        until(have_ended, "the end of the command")


def pending(pid: int) -> int:
    """The signals that wait for a process, one bit each."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("ShdPnd:")).split()[1], 16)


@pytest.fixture
def words(tmp_path):
    os.mkfifo(tmp_path / "hold")
    return ["each", "--progress", "none", "--kill-after", "0s", "--grace", "0s", "--", "sh", "-c", TREE, ":::", "x"]


@pytest.fixture
def run(start, words, tmp_path):
    # In a group of its own, whose parent is in another of the session: in an orphaned group, as that of a test run without
    # a terminal may be, SIGTSTP and its like stop nothing (POSIX, 2.4.3).
    process = start(*words, process_group=0)
    return Run(tmp_path, process.pid), process


@pytest.fixture
def at_terminal(words, tmp_path):
    """The run as the job of a shell that continues it when a line is typed."""
    terminal = Terminal(*job(COMMAND, *words, asked=True), cwd=tmp_path)
    watcher = until(lambda: children(terminal.pid), "the job")[0]
    yield Run(tmp_path, watcher), terminal
    terminal.close()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU])
def test_a_worker_that_is_stopped_and_continued_alone_goes_on_with_its_watcher(run, number):
    each, process = run
    each.stop_worker(number)
    os.kill(each.worker, signal.SIGCONT)
    each.release()
    assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP])
@pytest.mark.parametrize("tree_is_stopped", [False, True])
def test_the_tree_dies_with_the_watcher_when_the_worker_is_stopped(run, number, tree_is_stopped):
    each, process = run
    if tree_is_stopped:
        for pid in each.tree:
            os.kill(pid, signal.SIGSTOP)
    each.stop_worker(number)
    os.kill(each.watcher, signal.SIGKILL)
    each.is_gone()
    assert process.wait(60) == -signal.SIGKILL


def test_the_tree_dies_with_a_worker_that_was_stopped(run):
    each, process = run
    each.stop_worker()
    os.kill(each.worker, signal.SIGKILL)
    assert process.wait(60) == 128 + signal.SIGKILL
    each.is_gone()


def test_the_tree_dies_with_a_watcher_that_was_stopped(run):
    each, process = run
    os.kill(each.watcher, signal.SIGSTOP)
    until(lambda: state(each.watcher) == "T")
    os.kill(each.watcher, signal.SIGKILL)
    each.is_gone()
    assert process.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_that_is_stopped_ends_when_it_is_told_to(run, number):
    each, process = run
    each.stop_worker()
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    each.is_gone()


def test_a_watcher_that_is_held_changes_nothing_and_ends_as_its_worker_has(run):
    each, process = run
    os.kill(each.watcher, signal.SIGSTOP)
    until(lambda: state(each.watcher) == "T")
    each.release()
    until(lambda: state(each.worker) == "Z", "the end of the worker")
    assert state(each.watcher) == "T"
    os.kill(each.watcher, signal.SIGCONT)
    assert process.wait(60) == 0


@pytest.mark.parametrize("who", ["watcher", "worker"])
def test_a_stop_that_is_sent_to_the_watcher_stops_all_and_either_of_the_two_continues_all(at_terminal, who):
    each, terminal = at_terminal
    os.kill(each.watcher, signal.SIGTSTP)
    terminal.shows("the job stopped")
    until(lambda: (state(each.worker), each.states()) == ("T", ["T", "T"]), "all to stop")
    os.kill(getattr(each, who), signal.SIGCONT)
    until(lambda: (state(each.watcher), each.states()) == ("S", ["S", "S"]), "all to go on")
    # The shell does not know, and continues what is not stopped.
    terminal.types("\n")
    each.release()
    terminal.shows("the job ended with 0")


def test_ctrl_z_stops_a_job_whose_worker_is_held_already(at_terminal):
    each, terminal = at_terminal
    each.stop_worker()
    terminal.types("\x1a")
    terminal.shows("the job stopped")
    until(lambda: each.states() == ["T", "T"])
    terminal.types("\n")
    each.release()
    terminal.shows("the job ended with 0")


@pytest.mark.parametrize("killed", ["watcher", "worker"])
def test_what_ctrl_z_has_stopped_dies_when_one_of_the_two_is_killed(at_terminal, killed):
    each, terminal = at_terminal
    terminal.types("\x1a")
    terminal.shows("the job stopped")
    until(lambda: each.states() == ["T", "T"])
    os.kill(getattr(each, killed), signal.SIGKILL)
    # A watcher that is stopped sees it when it goes on.
    terminal.types("\n")
    terminal.shows(f"the job ended with {-signal.SIGKILL if killed == 'watcher' else 128 + signal.SIGKILL}")
    each.is_gone()


def test_a_signal_that_comes_before_the_run_has_begun_stops_one_that_tells_what_an_earlier_one_had_started(
    start, unisono, lines, tmp_path
):
    script = 'echo "$0" >> began; if [ "$0" = 2 ] && [ -e hold ]; then read x < hold; fi; exit 3'
    words = [
        "each",
        "-q",
        "-j",
        "1",
        "-o",
        "r.jsonl",
        "--retry-failed",
        "--",
        "sh",
        "-c",
        script,
        "{}",
        ":::",
        "1",
        "2",
        "3",
    ]
    assert unisono(*words).returncode == 1
    os.mkfifo(tmp_path / "hold")
    killed = start(*words)
    # The line of the first is there again, and the second has started.
    until(lambda: len(lines(tmp_path / "r.jsonl")) == 4 and len((tmp_path / "began").read_text().split()) == 5)
    os.kill(children(killed.pid)[0], signal.SIGKILL)
    killed.wait(60)
    (tmp_path / "hold").unlink()

    def interrupted() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        os.kill(os.getpid(), signal.SIGINT)

    stopped = subprocess.Popen([COMMAND, *words], cwd=tmp_path, stderr=subprocess.DEVNULL, preexec_fn=interrupted)
    assert stopped.wait(60) == 130
    told = {line["item"]: (line["outcome"], line["effect"]) for line in lines(tmp_path / "r.jsonl")}
    assert told["2"] == ("ambiguous", "maybe")
    assert len(lines(tmp_path / "r.jsonl")) == len(told) == 3
