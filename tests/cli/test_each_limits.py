"""`unisono each`: what holds commands back, and that nothing starts once it was stopped."""

import os
import resource
import signal
import subprocess

import pytest

from support.installed import COMMAND
from support.processes import longer_and_longer, until

TOTAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
# So much memory is never available, and no bound that is refused.
NEARLY_ALL = str(TOTAL * 98 // 100)


def kept_back(*words):
    return ["each", "--progress", "none", "-o", "r.jsonl", "--min-memory", NEARLY_ALL, *words]


def test_a_stop_after_a_time_ends_at_once_what_waits_for_memory(unisono, tmp_path, lines):
    words = kept_back("--stop-after", "100ms", "--grace", "1h", "touch", ":::", "a", "b")
    done = unisono(*words)
    assert done.returncode == 124, done.stderr
    assert not (tmp_path / "a").exists()
    assert {row["outcome"] for row in lines(tmp_path / "r.jsonl")} <= {"cancelled"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_at_once_what_waits_for_memory(start, tmp_path, number):
    process = start(*kept_back("--grace", "1h", "-j2", "touch", ":::", "a", "b", "c"))
    until((tmp_path / "r.jsonl").exists)
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert not (tmp_path / "a").exists()


def test_a_deadline_holds_for_what_waits_for_memory(unisono, tmp_path, lines):
    assert unisono(*kept_back("--deadline", "100ms", "touch", ":::", "a")).returncode == 1
    assert [row["outcome"] for row in lines(tmp_path / "r.jsonl")] == ["timed_out"]
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("words", [["--min-memory", "900000GiB"], ["--load", "0"], ["--load=-1"], ["--load", "nan"]])
def test_a_bound_that_can_never_hold_is_said_before_the_first_item(unisono, tmp_path, words):
    done = unisono("each", *words, "touch", ":::", "a")
    assert done.returncode == 2
    assert "nothing would ever start" in done.stderr
    assert not (tmp_path / "a").exists()


def test_a_soft_limit_of_descriptors_is_raised_for_us_and_not_for_commands(tmp_path):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1024:
        pytest.skip("the hard limit is too low to raise anything to")
    os.mkfifo(tmp_path / "all")
    # Each ends once all of them run.
    script = "ulimit -Sn; echo >> up; until test $(wc -l < up) -ge 12; do read -t 0.01 x <> all; done; true"
    outer = f"ulimit -Sn 64; exec '{COMMAND}' each -j 12 -- bash -c '{script}' x {{}} ::: $(seq 12)"
    done = subprocess.run(["bash", "-c", outer], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "64\n" * 12), done.stderr
    assert "descriptors" not in done.stderr


def test_a_limit_of_file_sizes_is_a_write_error_and_kills_nobody(tmp_path):
    def run(words: str):
        script = f"ulimit -f 1; exec '{COMMAND}' each --progress none {words}"
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)

    done = run("-o r.jsonl head -c 4000 ::: /dev/zero /dev/zero")
    assert (done.returncode, "too large" in done.stderr.lower()) == (125, True), done.stderr
    done = run("--save 'out/{#}' head -c 4000 ::: /dev/zero")
    assert (done.returncode, "1 failed" in done.stderr) == (1, True), done.stderr
    # What is started has the signal as ever.
    done = run("""-- sh -c 'head -c 4000 /dev/zero > own; echo $?' ::: a""")
    assert done.stdout == f"{128 + signal.SIGXFSZ}\n"


def test_nothing_is_tried_after_its_deadline_and_no_pause_outlasts_it(unisono, tmp_path, lines):
    words = ["--retries", "60000", "--deadline", "100ms", "-j", "30"]
    done = unisono("each", "-q", "-o", "r.jsonl", *words, "--", "false", ":::", *range(30))
    assert done.returncode == 1, done.stderr
    rows = lines(tmp_path / "r.jsonl")
    assert {(row["outcome"], row["error"]["kind"]) for row in rows} == {("timed_out", "deadline")}
    assert len(rows) == 30


def test_a_command_that_is_stopped_at_its_deadline_is_not_tried_again(unisono, tmp_path, lines):
    # It ends only when it is told to, and takes notes of each start.
    script = 'echo >>starts; trap "exit 1" TERM; while :; do sleep 0.01; done'
    for deadline in longer_and_longer(1):
        words = ["--retries", "60000", "--deadline", f"{deadline}s", "--overwrite"]
        done = unisono("each", "-q", "-o", "r.jsonl", *words, "--", "sh", "-c", script, "sh", ":::", "a")
        assert done.returncode == 1
        # On a busy machine it may not have begun by then.
        if (tmp_path / "starts").exists():
            break
    [row] = lines(tmp_path / "r.jsonl")
    assert (row["outcome"], row["attempts"]) == ("timed_out", 1)
    assert (tmp_path / "starts").read_text() == "\n"
