"""Results go to a named pipe: once it has a reader, and a stop does not wait for that."""

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest


def wait_until_caught(process, number: signal.Signals) -> None:
    """Before that the signal would end the command as it ends any program, and prove nothing. `each` works in a child."""
    until = time.monotonic() + 60
    while not any(catches(pid, number) for pid in (process.pid, *children(process.pid))):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def catches(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    [caught] = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("command", ["fetch", "each"])
def test_a_pipe_that_nobody_reads_does_not_outlast_the_first_signal(start, server, tmp_path, command, number, status):
    os.mkfifo(tmp_path / "pipe")
    words = {"fetch": [server.url + "/items/1"], "each": ["touch", "{}", ":::", "begun"]}[command]
    process = start(command, "-o", "pipe", *words)
    wait_until_caught(process, number)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "1 pending" in said
    assert server.requests == [] and not (tmp_path / "begun").exists()


def test_a_pipe_that_nobody_reads_does_not_outlast_the_time_of_the_run(unisono, server, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = unisono("fetch", server.url + "/items/1", "-o", "pipe", "--stop-after", "300ms")
    assert (done.returncode, server.requests) == (124, [])


def test_a_reader_that_comes_late_gets_every_line_and_then_the_end(start, server, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = start("fetch", server.url + "/big/{1..20}", "-o", "pipe")
    wait_until_caught(process, signal.SIGTERM)
    with (tmp_path / "pipe").open() as pipe:
        lines = [json.loads(line) for line in pipe]
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert sorted(line["row"] for line in lines) == list(range(20))
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
