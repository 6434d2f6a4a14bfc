"""`unisono each`, looked at from outside: what it prints, what it writes, and that no process is left behind."""

import base64
import contextlib
import fcntl
import os
import random
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.installed import COMMAND
from support.processes import children, is_alive, longer_and_longer, marked, state, until
from support.terminals import Terminal, job


@pytest.fixture(autouse=True)
def mark(monkeypatch, request):
    """Whatever a test starts carries its mark, and nothing of it may be left when the test ends."""
    name = f"{os.getpid()}-{random.getrandbits(64):x}"
    monkeypatch.setenv("EACH_TEST", name)
    yield f"EACH_TEST={name}"
    left = marked(f"EACH_TEST={name}")
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == {}


def is_free(path: Path) -> bool:
    """Whether nothing holds the lock of a run file. A process that dies is not seen any more before it lets go of it."""
    if not path.exists():
        return True
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


# What is run, and how it is filled in.


def test_items_come_from_arguments_lines_nul_csv_and_jsonl(unisono, tmp_path):
    assert unisono("each", "-kq", "echo", "<{}>", ":::", "a b", "-c").stdout == "<a b>\n<-c>\n"
    assert unisono("each", "-kq", "echo", "{2}{1}", ":::", "a", "b", ":::", "1", "2").stdout == "1a\n2a\n1b\n2b\n"
    assert unisono("each", "-kq", "--", "echo", input="  a \n#b\n\nc").stdout == "  a \n#b\n\nc\n"
    assert unisono("each", "-kq0", "printf", "<%s>", input="a\nb\0c\0").stdout == "<a\nb><c>"
    (tmp_path / "in.csv").write_text('host,note\nweb,"it\'s, {fine}"\n')
    assert unisono("each", "-q", "--from", "in.csv", "echo", "{host}", "{note}").stdout == "web it's, {fine}\n"
    (tmp_path / "in.jsonl").write_text('{"n": 1.50, "s": "x\\ny"}\n')
    assert unisono("each", "-q", "--from", "in.jsonl", "printf", "%s|", "{n}", "{s}").stdout == "1.50|x\ny|"


def test_files_of_items_are_combined_with_each_other_and_with_arguments(unisono, tmp_path):
    (tmp_path / "hosts").write_text("web 1\n\ndb")
    (tmp_path / "empty").write_text("")
    (tmp_path / "nul").write_bytes(b"a\nb\0c\0")
    done = unisono("each", "-kq", "printf", "<%s|%s>", ":::", "a", "b", "::::", "hosts")
    assert done.stdout == "<a|web 1><a|><a|db><b|web 1><b|><b|db>"
    assert unisono("each", "-kq0", "printf", "<%s>", "::::", "nul").stdout == "<a\nb><c>"
    assert unisono("each", "-kq", "echo", "::::", "empty", input="not read").stdout == ""
    assert unisono("each", "-kq", "echo", "::::", input="not read").stdout == ""
    done = unisono("each", "-q", "echo", "::::", "missing")
    assert (done.returncode, "missing" in done.stderr) == (2, True)


def test_a_dry_run_prints_commands_that_a_shell_would_run_the_same(unisono):
    item = 'it\'s $HOME "quoted" `x` \\ *'
    printed = unisono("each", "--dry-run", "printf", "%s\\n", ":::", item).stdout
    assert shlex.split(printed) == ["printf", "%s\\n", item]
    assert subprocess.run(["sh", "-c", printed], capture_output=True, text=True, check=True).stdout == item + "\n"


def test_commands_have_their_folder_environment_numbers_and_input(unisono, tmp_path):
    (tmp_path / "sub").mkdir()
    script = "pwd; echo $UNISONO_ITEM $UNISONO_SEQ $UNISONO_SLOT $UNISONO_ATTEMPT $X; cat; env | grep -c WATCHER"
    words = ["each", "-q", "--cwd", "{}", "--env", "X={}!", "--stdin", "in {}\n", "sh", "-c", script, ":::", "sub"]
    assert unisono(*words).stdout == f"{tmp_path}/sub\nsub 1 1 1 sub!\nin sub\n0\n"
    assert unisono("each", "-q", "cat", ":::", "/dev/stdin", input="not read").stdout == ""


def test_a_pipe_is_cut_into_blocks_of_whole_lines(unisono):
    text = "".join(f"line {n}\n" for n in range(1000)) + "no end"
    done = unisono("each", "-kq", "--pipe", "--lines", "100", "wc", "-l", input=text)
    assert done.stdout.split() == ["100"] * 10 + ["0"]
    assert unisono("each", "-kq", "--pipe", "--block", "1k", "cat", input=text).stdout == text


# Output.


def test_output_is_grouped_by_item_tagged_by_line_or_passed_on(unisono):
    script = "for i in 1 2 3 4 5; do echo $1; done; printf end-$1"
    done = unisono("each", "-qj8", "sh", "-c", script, "sh", "{}", ":::", *"abcdefgh")
    for item in "abcdefgh":
        assert f"{item}\n" * 5 + f"end-{item}" in done.stdout
    lines = unisono("each", "-qj8", "--line-buffer", "--tag", "sh", "-c", script, "sh", "{}", ":::", *"abc").stdout
    assert Counter(lines.splitlines()) == Counter({f"{i}\t{i}": 5 for i in "abc"} | {f"{i}\tend-{i}": 1 for i in "abc"})
    done = unisono("each", "-q", "--ungroup", "sh", "-c", "echo out; echo err >&2", ":::", "a")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_binary_output_survives_on_standard_output_in_files_and_as_outcome(unisono, tmp_path, lines):
    data = bytes(range(256)) * 20
    (tmp_path / "data").write_bytes(data)
    words = ["each", "-q", "--save", "out/{#}", "-o", "r.jsonl", "cat", ":::", "data"]
    assert unisono(*words, text=False).stdout == data
    assert (tmp_path / "out/1").read_bytes() == data
    assert base64.b64decode(lines(tmp_path / "r.jsonl")[0]["stdout_base64"]) == data


def test_a_gibibyte_of_output_costs_no_memory_and_comes_whole(tmp_path):
    script = f"exec '{COMMAND}' each -q head -c {1 << 30} ::: /dev/zero | wc -c"
    process = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, cwd=tmp_path)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert (process.returncode, int(printed)) == (0, 1 << 30)
    # Of the largest of them, in KiB. What is started is counted with the memory of the process that started it, until it has become
    # a program of its own; so ours is the least that can be told.
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert usage.ru_maxrss < ours + 40_000 < 1 << 20


def test_a_command_that_prints_too_much_is_ended(unisono, tmp_path, lines):
    done = unisono("each", "-o", "r.jsonl", "--brief", "--max-output", "100k", "yes", ":::", "x")
    assert done.returncode == 1
    assert len(done.stdout) == 100 << 10
    assert lines(tmp_path / "r.jsonl")[0]["error"]["kind"] == "too_large"


def test_who_stops_reading_ends_the_run(start):
    process = start("each", "-q", "--line-buffer", "yes", ":::", "a", "b")
    assert process.stdout.read(2) in ("a\n", "b\n")
    process.stdout.close()
    assert process.wait(30) == 141
    process.stdout = None


# Outcomes.


def test_an_outcome_says_how_a_command_ended(unisono, tmp_path, lines):
    (tmp_path / "plain").write_text("x")
    script = ["sh", "-c", 'eval "$1"', "sh", "{}", ":::", "exit 3", "kill -9 $$", "true"]
    assert unisono("each", "-q", "-o", "r.jsonl", *script).returncode == 1
    by_item = {row["item"]: row for row in lines(tmp_path / "r.jsonl")}
    assert (by_item["exit 3"]["exit"], by_item["exit 3"]["error"]["kind"]) == (3, "exit")
    assert (by_item["kill -9 $$"]["signal"], by_item["kill -9 $$"]["error"]["kind"]) == (9, "signal")
    assert by_item["true"]["outcome"] == "ok"
    assert by_item["true"]["cpu_seconds"] > 0
    # Of programs whose name is the item, nothing is known before.
    for program, code in ((str(tmp_path / "missing"), 127), (str(tmp_path / "plain"), 126)):
        assert unisono("each", "-q", "-o", "t.jsonl", "--overwrite", "{}", ":::", program).returncode == 1
        row = lines(tmp_path / "t.jsonl")[0]
        assert (row["exit"], row["error"]["kind"]) == (code, "spawn")
        assert unisono("each", "-q", "--exit-with", "worst", "{}", ":::", program).returncode == code


def test_an_argument_list_that_is_too_long_fails_alone(unisono, tmp_path, lines):
    (tmp_path / "in").write_text("x" * 3_000_000 + "\nshort\n")
    assert unisono("each", "-q", "--from", "in", "-o", "r.jsonl", "--brief", "true").returncode == 1
    kinds = {len(row["item"]): row.get("error", {}).get("kind") for row in lines(tmp_path / "r.jsonl")}
    assert kinds == {3_000_000: "spawn", 5: None}


def test_resume_knows_items_by_content_whatever_their_order(unisono, tmp_path, lines):
    words = [
        "each",
        "-q",
        "-o",
        "r.jsonl",
        "--resume",
        "--",
        "sh",
        "-c",
        'echo "$1" >> log; test "$1" != c',
        "sh",
        "{}",
    ]
    assert unisono(*words, ":::", "a", "b", "c", "a").returncode == 1
    assert unisono(*words, ":::", "c", "b", "x", "a").returncode == 1
    assert Counter((tmp_path / "log").read_text().split()) == Counter("aabcx")
    again = [word if word != "--resume" else "--retry-failed" for word in words]
    assert unisono(*again, ":::", "c", "b").returncode == 1
    assert Counter((tmp_path / "log").read_text().split()) == Counter("aabccx")
    assert Counter(row["item"] for row in lines(tmp_path / "r.jsonl")) == Counter("aabcx")


def test_lines_are_in_the_order_of_this_input_whichever_run_wrote_them(unisono, tmp_path, lines):
    script = 'test "$1" != bad -o -e good && echo "$1"'

    def run(*words: str) -> list[tuple[str, str]]:
        unisono("each", "-k", "-q", "-o", "r.jsonl", *words, input=(tmp_path / "in").read_text())
        return [(row["item"], row["outcome"]) for row in lines(tmp_path / "r.jsonl")]

    command = ["--", "sh", "-c", script, "sh", "{}"]
    (tmp_path / "in").write_text("a\nbad\nb\na\n")
    assert run(*command) == [("a", "ok"), ("bad", "failed"), ("b", "ok"), ("a", "ok")]
    # What runs again keeps its place.
    (tmp_path / "good").touch()
    assert run("--retry-failed", *command) == [("a", "ok"), ("bad", "ok"), ("b", "ok"), ("a", "ok")]
    # New items stand where the input has them, and lines go with their items.
    (tmp_path / "in").write_text("new\na\nb\nlast\nbad\na\n")
    assert [item for item, _ in run("--resume", *command)] == ["new", "a", "b", "last", "bad", "a"]
    # What the input does not have any more stays, behind it.
    (tmp_path / "in").write_text("b\na\n")
    assert [item for item, _ in run("--resume", *command)][:2] == ["b", "a"]
    assert len({row["row"] for row in lines(tmp_path / "r.jsonl")}) == 6


def test_retries_happen_only_when_asked_for_and_for_the_exits_that_were_named(unisono, tmp_path):
    script = ["sh", "-c", 'echo $UNISONO_ATTEMPT >> "$1"; exit $1', "sh", "{}", ":::", "75", "1"]
    assert unisono("each", "-q", *script).returncode == 1
    assert (tmp_path / "75").read_text() == "1\n"
    unisono("each", "-q", "--retries", "2", "--retry-exit", "75", *script)
    assert (tmp_path / "75").read_text() == "1\n1\n2\n3\n"
    assert (tmp_path / "1").read_text() == "1\n1\n"


@pytest.mark.parametrize("seed", range(30))
def test_kill_9_and_resume_runs_every_item_once_or_says_that_nobody_knows(tmp_path, lines, seed, mark):
    rng = random.Random(seed)
    count, limit = 60, 4
    words = [COMMAND, "each", "-q", "-j", str(limit), "-o", "r.jsonl", "--resume", "--", "sh", "-c"]
    words += ['echo "$1" >> log; read x < /dev/null; exit 0', "sh", "{}", ":::", *map(str, range(count))]
    log = tmp_path / "log"
    log.touch()
    kills = 0
    for _ in range(rng.choice([1, 2])):
        target = rng.randrange(count)
        process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL)
        until(
            lambda process=process, target=target: process.poll() is not None or len(log.read_bytes().split()) > target
        )
        victim = rng.choice(["watcher", "worker"])
        worker = children(process.pid) if process.poll() is None else []
        if victim == "worker" and worker:
            os.kill(worker[0], signal.SIGKILL)
        else:
            process.kill()
        kills += 1
        process.wait()
        # Both ways of being killed leave nothing, and the lock is free only when nothing is left that holds it.
        until(lambda: marked(mark) == {} and is_free(tmp_path / "r.jsonl.run"))
    subprocess.run(words, cwd=tmp_path, timeout=60, check=False, stdout=subprocess.DEVNULL)
    rows = lines(tmp_path / "r.jsonl")
    assert Counter(row["item"] for row in rows) == Counter(map(str, range(count)))
    runs = Counter(log.read_text().split())
    assert max(runs.values()) == 1
    kinds = Counter(row["outcome"] for row in rows)
    assert set(kinds) <= {"ok", "ambiguous"}
    # What runs, and what was noted before its turn.
    assert kinds["ambiguous"] <= kills * (limit + max(limit, 16))
    assert all(runs[row["item"]] == 1 for row in rows if row["outcome"] == "ok")


# Limits.


def test_the_limit_changes_while_it_runs(start, tmp_path):
    (tmp_path / "go").mkdir()
    script = "touch run-$1; until test -e go/$1; do read -t 0.01 x <> fifo; done 2>/dev/null; rm run-$1"
    os.mkfifo(tmp_path / "fifo")
    process = start("each", "-j1", "--progress", "none", "bash", "-c", script, "sh", "{}", ":::", *"abcd")
    running = lambda: sorted(path.name for path in tmp_path.glob("run-*"))  # noqa: E731
    until(lambda: running() == ["run-a"])
    process.send_signal(signal.SIGUSR1)
    until(lambda: running() == ["run-a", "run-b"])
    process.send_signal(signal.SIGUSR2)
    assert "2 at once" in process.stderr.readline()
    assert "1 at once" in process.stderr.readline()
    (tmp_path / "go/a").touch()
    until(lambda: running() == ["run-b"])
    for name in "bcd":
        (tmp_path / "go" / name).touch()
    assert process.wait(30) == 0


def test_items_with_the_same_key_run_one_at_a_time(unisono, tmp_path):
    (tmp_path / "in.csv").write_text("zone,n\n" + "".join(f"{'ab'[n % 2]},{n}\n" for n in range(20)))
    script = "mkdir $1 && rmdir $1"
    done = unisono("each", "-qj8", "--from", "in.csv", "--key", "zone", "sh", "-c", script, "sh", "{zone}", "{n}")
    assert done.returncode == 0, done.stderr


def test_failures_stop_the_run_soon_or_now(unisono, tmp_path):
    done = unisono("each", "-qj1", "--max-failures", "2", "false", ":::", *map(str, range(10)))
    assert done.returncode == 3
    words = ["each", "-j2", "--halt", "now,fail=1", "-o", "r.jsonl", "sh", "-c", "$1", "sh", "{}", ":::"]
    done = unisono(*words, "sleep 1000", "false", "sleep 1001")
    assert done.returncode == 3
    assert "1 cancelled" in done.stderr or "2 cancelled" in done.stderr


def test_a_limit_of_1000_with_256_descriptors_works_with_fewer_and_says_so(tmp_path):
    script = f"ulimit -n 256; seq 1500 | exec '{COMMAND}' each -j 1000 -o r.jsonl true"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "file descriptors" in done.stderr


def test_a_hundred_thousand_items_each_have_an_outcome(tmp_path):
    count = 100_000 if os.environ.get("CI") else 10_000
    script = f"seq {count} | exec '{COMMAND}' each -q -o r.jsonl --brief true"
    subprocess.run(["bash", "-c", script], timeout=600, check=True, cwd=tmp_path)
    with (tmp_path / "r.jsonl").open("rb") as file:
        assert sum(b'"outcome":"ok"' in line for line in file) == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.jsonl"]


# Nothing outlives us.

TREES = {
    "ignores TERM": "trap '' TERM; echo up >> up; while :; do sleep NAP; done",
    "has children of its own": "sleep NAP & sleep NAP & echo up >> up; wait",
    "daemonizes": "(setsid sh -c 'sleep NAP & sleep NAP' > /dev/null 2>&1 &) ; echo up >> up; sleep NAP",
    "hides its environment": "(env -i setsid sleep NAP > /dev/null 2>&1 &) ; echo up >> up; sleep NAP",
    "is stopped": "echo up >> up; kill -STOP $$",
    "closes its pipes": "echo up >> up; exec > /dev/null 2>&1; sleep NAP",
}


@pytest.fixture
def nap() -> str:
    """Seconds that only this test's processes sleep, so that those without its mark are found as well."""
    return f"1000.{random.getrandbits(64)}"


def sleepers(nap: str) -> list[int]:
    words = ["pgrep", "-f", f"^sleep {re.escape(nap)}$"]
    return [int(pid) for pid in subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()]


@pytest.mark.parametrize("how", ["timeout", "SIGINT", "SIGTERM", "SIGHUP", "kill watcher", "kill worker"])
@pytest.mark.parametrize("tree", TREES)
def test_nothing_is_left_of_a_tree(start, tmp_path, lines, mark, nap, tree, how):
    words = ["each", "--kill-after", "200ms", "--grace", "100ms", "-o", "r.jsonl", "--progress", "none"]
    for timeout in longer_and_longer(1):
        bound = ["--timeout", f"{timeout}s", "--overwrite"] if how == "timeout" else []
        process = start(*words, *bound, "sh", "-c", TREES[tree].replace("NAP", nap), ":::", "x")
        # On a busy machine its time may be over before.
        until(lambda process=process: (tmp_path / "up").exists() or process.poll() is not None)
        if (tmp_path / "up").exists():
            break
    match how:
        case "timeout":
            assert process.wait(30) == 1
            assert lines(tmp_path / "r.jsonl")[0]["outcome"] == "timed_out"
        case "kill watcher":
            process.kill()
        case "kill worker":
            [worker] = children(process.pid)
            os.kill(worker, signal.SIGKILL)
            assert process.wait(30) == 137
        case _:
            number = getattr(signal, how)
            process.send_signal(number)
            assert process.wait(30) == 128 + number
            assert lines(tmp_path / "r.jsonl")[0]["outcome"] == "cancelled"
    until(lambda: marked(mark) == {} and sleepers(nap) == [])


@pytest.mark.parametrize(
    ("script", "left"),
    [
        ("(setsid sleep NAP > /dev/null 2>&1 &)", 1),
        ("(env -i setsid sleep NAP > /dev/null 2>&1 &)", 1),
        ("sleep NAP & echo out", 1),
        ("(sleep 0.02; echo late) & echo out", 0),
    ],
)
def test_what_outlives_its_command_is_ended_with_it(unisono, tmp_path, lines, mark, nap, script, left):
    done = unisono("each", "-q", "-o", "r.jsonl", "sh", "-c", script.replace("NAP", nap), ":::", "x")
    assert done.returncode == 0
    row = lines(tmp_path / "r.jsonl")[0]
    assert row.get("left_over", 0) == left
    if "late" in script:
        assert row["stdout"] == "out\nlate\n"
    assert marked(mark) == {}
    assert sleepers(nap) == []


def test_who_computes_behind_a_command_is_not_taken_for_silent(unisono):
    # As one without a core would be. It has a second for twice the silence that ends others, which a busy machine may not give it.
    program = 'import time\nwhile time.process_time() < 0.2: pass\nprint("late")'
    words = ["each", "-q", "sh", "-c", f"{sys.executable} -c '{program}' & echo out", ":::", "x"]
    until(lambda: unisono(*words).stdout == "out\nlate\n")


def test_processes_are_left_alone_when_asked(unisono, tmp_path, mark, lines):
    done = unisono("each", "-q", "-o", "r.jsonl", "--leave-running", "sh", "-c", "sleep 1000 & echo $!", ":::", "x")
    pid = int(done.stdout)
    assert is_alive(pid)
    assert lines(tmp_path / "r.jsonl")[0]["pipes_held"] is True
    os.kill(pid, signal.SIGKILL)
    until(lambda: marked(mark) == {})


def test_an_interrupt_of_the_terminal_reaches_the_run_once(tmp_path, lines):
    script = 'trap "" INT; touch up; until test -e go; do read -t 0.01 x <> fifo; done; echo done'
    os.mkfifo(tmp_path / "fifo")
    words = ["each", "-o", "r.jsonl", "--", "bash", "-c", script, ":::", "x"]
    terminal = Terminal(COMMAND, *words, cwd=tmp_path)
    until((tmp_path / "up").exists)
    terminal.types("\x03")
    terminal.shows("stopping")
    # Drained and not aborted: what runs may finish.
    (tmp_path / "go").touch()
    assert terminal.ends() == 130
    assert lines(tmp_path / "r.jsonl")[0]["outcome"] == "ok"
    terminal.close()


def test_an_interrupt_of_the_group_ends_no_command_that_is_just_being_started(tmp_path, lines):
    # Each is in the group of the run for a few microseconds: of 25 runs, about five had hit one.
    for number in range(25):
        results = tmp_path / f"{number}.jsonl"
        words = [COMMAND, "each", "-q", "-j4", "--brief", "-o", results.name, "true", ":::", *map(str, range(1000))]
        process = subprocess.Popen(words, cwd=tmp_path, process_group=0)
        until(lambda results=results, number=number: results.exists() and results.read_bytes().count(b"\n") > number)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert {row["outcome"] for row in lines(results)} == {"ok", "cancelled"}


def ends_are_found(fifo: Path, pids: list[int]) -> None:
    """A reader that waits for a writer of this FIFO finds the end of what it writes, until all of them have ended."""

    def have_ended() -> bool:
        with contextlib.suppress(OSError):
            # There may be no reader yet.
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return not any(map(is_alive, pids))

    until(have_ended)


def test_ctrl_z_stops_the_run_with_its_commands_and_fg_lets_them_go_on(tmp_path, lines):
    script = """echo $$ > pids; setsid sh -c 'echo $$ >> pids; until test -e go; do read x < tick; done' &
        touch up; until test -e go; do read x < tick; done; wait; echo done"""
    os.mkfifo(tmp_path / "tick")
    each = [COMMAND, "each", "-q", "-o", "r.jsonl", "--", "bash", "-c", script, ":::", "x"]
    terminal = Terminal(*job(*each, asked=True), cwd=tmp_path)
    until(lambda: (tmp_path / "up").exists() and len((tmp_path / "pids").read_text().split()) == 2)
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    # Nothing writes into the FIFO, so they sleep until they are ended: what is seen of them is what the signals did.
    terminal.types("\x1a")
    terminal.shows("the job stopped")
    # A process that has been told to stop still has to be given a core to do so.
    until(lambda: [state(one) for one in pids] == ["T", "T"])
    terminal.types("\n")
    until(lambda: [state(one) for one in pids] == ["S", "S"])
    (tmp_path / "go").touch()
    ends_are_found(tmp_path / "tick", pids)
    terminal.shows("the job ended with 0")
    assert terminal.ends() == 0
    terminal.close()
    assert [(row["outcome"], row["stdout"]) for row in lines(tmp_path / "r.jsonl")] == [("ok", "done\n")]


STEPS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int calls;
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    if (clock == CLOCK_REALTIME && __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % 2) now->tv_sec += YEAR;
    return answer;
}
"""


def test_a_clock_that_steps_ends_and_delays_nothing(unisono, tmp_path, lines, monkeypatch):
    year = 365 * 86400
    (tmp_path / "steps.c").write_text(STEPS)
    words = ["cc", "-shared", "-fPIC", f"-DYEAR={year}", "-o", "steps.so", "steps.c", "-ldl"]
    subprocess.run(words, cwd=tmp_path, check=True)
    # Each time that the time of day is asked for, it is a year later, and a year earlier again.
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "steps.so"))
    bounds = ["--timeout", "1h", "--deadline", "2h", "--stop-after", "3h", "--grace", "1h", "--delay", "1ms"]
    retried = ["--retries", "1", "--retry-exit", "3", "sh", "-c", "(sleep 0.02 &); exit $((4 - $UNISONO_ATTEMPT))"]
    done = unisono("each", "-qj2", *bounds, "--expect", "2", "-o", "r.jsonl", *retried, ":::", *"abcdefgh")
    rows = lines(tmp_path / "r.jsonl")
    assert (done.returncode, Counter(row["outcome"] for row in rows)) == (0, {"ok": 8})
    started = [row["started"] for row in rows]
    assert max(started) - min(started) > year / 2, "the clock did not step"
    assert all(0 <= row["seconds"] < year / 2 for row in rows)


def test_closed_standard_streams_do_no_harm(tmp_path):
    for closed in ("<&-", "2>&-", "<&- 2>&-"):
        script = f"'{COMMAND}' each -q -o r.jsonl --overwrite true ::: a b {closed}"
        assert subprocess.run(["bash", "-c", script], timeout=60, check=False, cwd=tmp_path).returncode == 0, closed


@pytest.mark.parametrize("words", ["", "-o r.jsonl", "-q", "-k", "--line-buffer", "--tag", "--save '{}.out'"])
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "1<here"])
def test_nothing_is_started_whose_output_has_nowhere_to_go(tmp_path, words, closed):
    (tmp_path / "here").touch()
    script = f"'{COMMAND}' each {words} -- touch ::: a b {closed}"
    done = subprocess.run(
        ["bash", "-c", script], timeout=60, check=False, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 125
    assert "2>&-" in closed or ("it is closed" in done.stderr and "nothing was started" in done.stderr)
    assert sorted(os.listdir(tmp_path)) == ["here"]


def test_commands_that_print_by_themselves_are_told_by_the_system_that_it_is_closed(tmp_path):
    script = f"'{COMMAND}' each -q --ungroup -o r.jsonl -- echo ::: a >&-"
    assert subprocess.run(["bash", "-c", script], timeout=60, check=False, cwd=tmp_path).returncode == 2
    script = f"'{COMMAND}' each -q --ungroup -- echo ::: a >&-"
    assert subprocess.run(["bash", "-c", script], timeout=60, check=False, cwd=tmp_path).returncode == 1


def test_mistakes_are_said_before_anything_is_started(unisono):
    for words, what in [
        (["each"], "there is no command"),
        (["each", "-j", "0", "true", ":::", "x"], "not a number of commands"),
        (["each", "echo", "{3}", ":::", "x"], "{3}"),
        (["each", "--from", "missing", "true"], "missing"),
        (["each", "--halt", "never", "true", ":::", "x"], "fail="),
        (["each", "--env", "X", "true", ":::", "x"], "NAME=VALUE"),
    ]:
        done = unisono(*words)
        assert done.returncode == 2, words
        assert what in done.stderr, words


def test_it_is_in_the_help_the_completions_and_the_man_page(unisono):
    assert "Examples:" in unisono("each", "--help").stdout
    assert "each" in unisono("completions", "bash").stdout
    assert "UNISONO EACH" in unisono("completions", "man").stdout
