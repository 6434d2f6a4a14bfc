"""The soft limit of descriptors: raised to the hard one for each command that runs a batch, and not for what that starts."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from support.installed import COMMAND
from support.processes import children, until

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
pytestmark = pytest.mark.skipif(0 <= HARD < 1024, reason="the hard limit is too low to raise anything to")


def soft_limit(pid: int) -> int:
    text = Path(f"/proc/{pid}/limits").read_text()
    line = next(line for line in text.splitlines() if line.startswith("Max open files"))
    return int(line.split()[3].replace("unlimited", "-1"))


@pytest.mark.parametrize("command", ["fetch", "sum", "each"])
def test_whoever_does_the_work_may_have_as_many_as_the_system_allows(start, server, tmp_path, command):
    os.mkfifo(tmp_path / "held")
    words = {
        "fetch": [f"{server.url}/held"],
        "sum": ["held"],
        "each": ["--", "cat", ":::", "held"],
    }[command]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        process = start(command, *words)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if command == "each":
        worker = until(lambda: children(process.pid))[0]
        assert soft_limit(process.pid) == 64
    else:
        worker = process.pid
    until(lambda: soft_limit(worker) == hard)
    server.gate.set()
    # Its reader finds its end.
    if command != "fetch":
        (tmp_path / "held").write_text("")
    assert process.wait(60) == 0


def test_a_fetch_opens_more_connections_than_its_soft_limit(server, tmp_path):
    server.gate.clear()
    script = f"ulimit -Sn 64; exec '{COMMAND}' fetch '{server.url}/held/{{1..100}}' -j 100 -o r.jsonl"
    process = subprocess.Popen(["bash", "-c", script], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    server.wait_until(lambda: server.in_flight == 100)
    server.gate.set()
    assert "descriptors" not in process.communicate(timeout=60)[1]
    assert process.returncode == 0


def test_a_token_command_has_the_limit_as_it_was(server, tmp_path):
    words = f"fetch '{server.url}/echo' --token-command 'ulimit -Sn'"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -Sn 64; exec '{COMMAND}' {words} --select .headers.authorization"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Bearer 64" in done.stdout


def with_few(count: int, words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command where it may have so many descriptors and no more."""
    script = f"ulimit -n {count}; exec '{COMMAND}' {words}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=folder)


@pytest.mark.parametrize("count", [16, 20, 24, 40])
def test_sum_has_no_more_files_open_than_it_may(tmp_path, count):
    (tmp_path / "tree").mkdir()
    for number in range(300):
        (tmp_path / f"tree/{number}").write_text(str(number))
    done = with_few(count, "sum tree -o s", tmp_path)
    assert (done.returncode, "300 ok" in done.stderr) == (0, True), done.stderr
    assert done.stderr.count("there are file descriptors for ") == 1
    assert with_few(count, "sum --check s", tmp_path).returncode == 0
    assert "descriptors" not in with_few(count, "sum tree/1 tree/2", tmp_path).stderr or count < 24
    assert "descriptors" not in with_few(2000, "sum tree", tmp_path).stderr


@pytest.mark.parametrize("count", [20, 24, 40])
def test_each_runs_no_more_commands_at_once_than_there_are_descriptors_for(tmp_path, count):
    done = with_few(count, "each -j 8 -o r.jsonl -- echo {} ::: {1..20}", tmp_path)
    assert (done.returncode, "20 ok" in done.stderr) == (0, True), done.stderr
    assert "there are file descriptors for 1 command at once" in done.stderr


@pytest.mark.parametrize("words", ["", "-o r.jsonl", "--stdin {}", "--stdin {} -o r.jsonl", "--ungroup"])
def test_each_is_refused_where_no_command_can_be_started_and_otherwise_starts_all(tmp_path, words):
    ends = []
    for count in range(11, 27):
        (tmp_path / "r.jsonl").unlink(missing_ok=True)
        done = with_few(count, f"each -j 2 {words} -- echo {{}} ::: 1 2 3", tmp_path)
        assert "spawn" not in done.stderr, (count, done.stderr)
        ends.append(done.returncode == 0)
        assert ("3 ok" if ends[-1] else "raise `ulimit -n`") in done.stderr, (count, done.stderr)
    assert ends == sorted(ends)
    assert ends[-1]


@pytest.mark.parametrize("command", ["sum file", "each -- true ::: 1", "fetch http://127.0.0.1:1/ --retries 0"])
@pytest.mark.parametrize("count", [5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
def test_where_there_are_too_few_descriptors_it_is_said_how_to_have_more(tmp_path, command, count):
    (tmp_path / "file").write_text("text")
    done = with_few(count, command, tmp_path)
    assert "open files" not in done.stderr or "(raise `ulimit -n`)" in done.stderr, done.stderr
    assert done.returncode != 0 or " ok" in done.stderr
