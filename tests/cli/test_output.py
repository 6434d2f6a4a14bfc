"""Standard output and standard error that are closed, full, or without a reader: by every command."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from support.installed import COMMAND

# Each writes to standard output, most of them no more than fits into a buffer.
WRITERS = {
    "fetch": ["fetch", "{url}/items/{{1..3}}"],
    "fetch in order": ["fetch", "-k", "{url}/items/{{1..3}}"],
    "fetch quietly": ["fetch", "-q", "{url}/items/{{1..3}}"],
    "fetch --dry-run": ["fetch", "--dry-run", "{url}/items/{{1..3}}"],
    "sum": ["sum", "a.txt"],
    "sum unordered": ["sum", "--unordered", "-q", "a.txt"],
    "sum as JSON": ["sum", "--format", "jsonl", "a.txt"],
    "sum --check": ["sum", "--check", "SUMS"],
    "each": ["each", "--", "echo", ":::", "a", "b"],
    "each in order": ["each", "-k", "-q", "--", "echo", ":::", "a", "b"],
    "each by lines": ["each", "--line-buffer", "--tag", "--", "echo", ":::", "a", "b"],
    "each --dry-run": ["each", "--dry-run", "--", "echo", ":::", "a", "b"],
    "each with results": ["each", "-o", "r.jsonl", "--", "echo", ":::", "a", "b"],
    "demo": ["demo", "--rows", "100"],
    "completions": ["completions", "bash"],
    "man page": ["completions", "man"],
    "help": ["--help"],
    "help of a command": ["fetch", "--help"],
    "version": ["--version"],
    "explain": ["explain", "builtins:abs", "--items", "numbers.jsonl", "--budget", "0.2", "--repeat", "1"],
}


@pytest.fixture
def words(server, tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "numbers.jsonl").write_text("1\n2\n3\n")
    sums = subprocess.run([COMMAND, "sum", "-q", "a.txt"], cwd=tmp_path, check=True, capture_output=True).stdout
    (tmp_path / "SUMS").write_bytes(sums)
    return lambda name: [str(COMMAND), *(word.format(url=server.url) for word in WRITERS[name])]


def run(words, tmp_path, redirection, **options):
    script = f'exec "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *words],
        cwd=tmp_path,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_output_is_our_own_failure_and_says_so(words, tmp_path, name):
    done = run(words(name), tmp_path, ">/dev/full")
    assert done.returncode == 125, done.stderr
    assert "standard output" in done.stderr
    assert "No space left" in done.stderr


@pytest.mark.parametrize("name", WRITERS)
def test_a_closed_output_is_our_own_failure_and_says_so(words, tmp_path, name):
    done = run(words(name), tmp_path, ">&-")
    assert done.returncode == 125, done.stderr
    assert "cannot write to standard output: it is closed" in done.stderr


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "demo"])
def test_an_output_that_nobody_reads_ends_quietly(words, tmp_path, name):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        words(name),
        cwd=tmp_path,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert done.returncode == 141, done.stderr
    assert "error" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("demo", "explain")])
def test_a_standard_error_that_takes_nothing_changes_nothing(words, tmp_path, name, redirection):
    done = run(words(name), tmp_path, redirection)
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_mistake_keeps_its_status_when_nobody_can_be_told(tmp_path, redirection):
    assert run([COMMAND, "fetch", "--no-such-flag"], tmp_path, redirection).returncode == 2
    assert run([COMMAND, "fetch", "--from", "nowhere"], tmp_path, redirection).returncode == 2


@pytest.mark.parametrize("words", [["sum", "."], ["each", "--", "echo", "{}" * 80, ":::", *"abcdefghijklmnopqrst"]])
def test_a_disk_with_room_for_less_than_a_buffer_is_our_own_failure(tmp_path, words):
    for number in range(20):
        (tmp_path / f"file-{number:02}").write_text("x")
    script = 'trap "" XFSZ; ulimit -f 1; exec "$@" > "$OUT"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", COMMAND, *words],
        cwd=tmp_path,
        check=False,
        env={**os.environ, "OUT": str(tmp_path / "out")},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 125, done.stderr
    assert "File too large" in done.stderr
    assert (tmp_path / "out").stat().st_size == 1024


def test_a_closed_output_does_not_matter_to_what_writes_nothing_there(words, server, lines, tmp_path):
    done = run([COMMAND, "fetch", server.url + "/items/{1..3}", "-o", "r.jsonl"], tmp_path, ">&- 2>&-")
    assert done.returncode == 0
    # Nor has any file taken the number of a standard stream: there is nothing in it but results.
    assert [row["outcome"] for row in lines(tmp_path / "r.jsonl")] == ["ok"] * 3


def test_a_closed_output_is_noticed_before_anything_is_sent(server, tmp_path):
    assert run([COMMAND, "fetch", server.url + "/orders", "--json", "{}"], tmp_path, ">&-").returncode == 125
    assert server.requests == []


def test_an_output_open_for_reading_only_counts_as_closed(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    done = run([COMMAND, "sum", "a.txt"], tmp_path, "1<a.txt")
    assert done.returncode == 125
    assert "it is closed" in done.stderr
    assert (tmp_path / "a.txt").read_text() == "one\n"


def test_explain_by_python_itself_loses_no_output_either(tmp_path):
    (tmp_path / "numbers.jsonl").write_text("1\n2\n")
    words = [sys.executable, "-m", "unisono", "explain", "builtins:abs", "--items", "numbers.jsonl", "--budget", "0.2"]
    for redirection, why in [(">&-", "it is closed"), (">/dev/full", "No space left")]:
        done = run(words, tmp_path, redirection)
        assert done.returncode == 125
        assert why in done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_that_ends_within_the_last_write_is_cut_at_a_line(server, tmp_path):
    """A reader that leaves in the middle of a run ends it, and no half line was counted."""
    process = subprocess.Popen(
        [COMMAND, "fetch", server.url + "/items/{1..100000}", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 128 + signal.SIGPIPE
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("name", ["fetch", "each"])
def test_signals_end_a_run_whose_output_nobody_reads(start, server, tmp_path, name, stream):
    words = {
        "fetch": [f"{server.url}/flaky/1", "-v"],
        "each": ["--", "sh", "-c", "echo out; echo err >&2; : > begun", "sh", "{}", ":::", "a"],
    }[name]
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writes, b"x" * 512):
            pass
    os.set_blocking(writes, True)
    process = start(name, *words, **{stream: writes})
    # Signals are watched for before anything is sent or started.
    server.wait_until(lambda: server.requests or (tmp_path / "begun").exists())

    def has_ended() -> bool:
        process.terminate()
        # What comes again within a moment counts as the same signal.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        return process.poll() is not None

    server.wait_until(has_ended)
    assert process.returncode == 143
    os.close(reads)
    os.close(writes)
