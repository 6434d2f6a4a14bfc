"""A disk that fills up while work is under way: what was done has its line, and nothing is done again.

Every outcome that comes after the one at which the disk was full counts too: those are as many as were under way.
"""

import contextlib
import json
import signal
from collections import Counter

import pytest

import unisono
from support.disks import resize, small_disk
from support.processes import until
from unisono import read_results

# More than a mebibyte holds, and of each outcome more than what is set aside has room for when several come at once.
MANY = 200
LARGE = 20_000


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as folder:
        yield folder


def done_rows(lines, path):
    return [line["row"] for line in lines(path) if line["outcome"] == "ok"]


def test_posts_that_were_under_way_have_their_lines_and_are_not_sent_again(server, unisono, lines, disk):
    server.bodies["large"] = b"x" * LARGE
    words = [
        "fetch",
        "-X",
        "POST",
        f"{server.url}/bodies/large?{{1..{MANY}}}",
        "-o",
        disk / "r.jsonl",
        "--resume",
        "-q",
    ]
    full = unisono(*words)
    assert full.returncode == 125, full.stderr
    assert "No space left" in full.stderr
    assert "could not be kept" not in full.stderr
    sent = len(server.requests)
    assert len(done_rows(lines, disk / "r.jsonl")) == sent < MANY
    resize(disk, "40m")
    again = unisono(*words)
    assert again.returncode == 0, again.stderr
    assert sorted(done_rows(lines, disk / "r.jsonl")) == list(range(MANY))
    assert set(server.counts.values()) == {1}


def test_commands_that_were_under_way_have_their_lines_and_those_that_were_not_begin_later(
    unisono, lines, tmp_path, disk
):
    code = f'echo "$1" >> began; head -c {LARGE} /dev/zero | tr "\\0" x'
    words = ["each", "-j", "8", "-o", disk / "r.jsonl", "--resume", "-q", "--", "sh", "-c", code, "sh", "{}", ":::"]
    items = [str(number) for number in range(MANY)]
    full = unisono(*words, *items)
    assert full.returncode == 125, full.stderr
    began = (tmp_path / "began").read_text().split()
    assert len(done_rows(lines, disk / "r.jsonl")) == len(began) < MANY
    resize(disk, "40m")
    again = unisono(*words, *items)
    assert again.returncode == 0, again.stderr
    assert len(done_rows(lines, disk / "r.jsonl")) == MANY
    assert Counter((tmp_path / "began").read_text().split()) == Counter(items)


def test_what_is_lost_decides_the_exit_status_also_of_a_run_that_was_interrupted(start, tmp_path, disk):
    code = f"touch began; until [ -e go ]; do sleep 0.01; done; head -c {LARGE} /dev/zero | tr '\\0' x"
    process = start("each", "-o", disk / "r.jsonl", "--", "sh", "-c", code, ":::", "a")
    until((tmp_path / "began").exists)
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x")
    process.send_signal(signal.SIGINT)
    while "once more" not in process.stderr.readline():
        pass
    (tmp_path / "go").touch()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "No space left" in said) == (125, True), said


@pytest.mark.parametrize("executor", [None, "threads"])
def test_calls_of_functions_that_were_under_way_have_their_lines(lines, disk, executor):
    called = []

    def work(number):
        called.append(number)
        return "x" * LARGE

    async def awaited(number):
        return work(number)

    function = awaited if executor is None else work
    more = {"executor": executor, "limit": 8, "out": disk / "r.jsonl", "resume": True}
    report = unisono.batch(function, range(MANY), **more).run()
    assert (report.exit_code, len(called) < MANY) == (125, True)
    assert len(done_rows(lines, disk / "r.jsonl")) == len(called)
    resize(disk, "40m")
    assert unisono.batch(function, range(MANY), **more).run().exit_code == 0
    assert sorted(called) == list(range(MANY))


@pytest.mark.parametrize("limit", [1, 20, 60])
def test_on_a_disk_with_little_room_no_more_is_sent_than_there_is_room_for_lines_of(unisono, server, tmp_path, limit):
    server.bodies["some"] = b"x" * 300
    words = ["fetch", "-X", "POST", f"{server.url}/bodies/some?{{1..{900}}}", "--limit", limit, "--per-host", limit]
    with small_disk(tmp_path / "disk", "200k") as disk:
        full = unisono(*words, "-o", disk / "r.jsonl", "-q")
        assert (full.returncode, "No space left" in full.stderr) == (125, True), full.stderr
        assert "could not be kept" not in full.stderr
        lines = [line for line in read_results(disk / "r.jsonl") if line["outcome"] == "ok"]
        assert 0 < len(lines) == len(server.requests)


def test_room_for_lines_of_what_is_under_way_is_left_however_much_was_noted_before(tmp_path):
    called = []

    def work(number):
        called.append(number)
        return "x" * LARGE if number >= 8000 else ""

    with small_disk(tmp_path / "disk", "4m") as disk:
        report = unisono.batch(work, range(9000), executor="threads", limit=8, out=disk / "r.jsonl").run()
        assert (report.exit_code, 8000 < len(called) < 9000) == (125, True)
        done = [line["row"] for line in read_results(disk / "r.jsonl") if line["outcome"] == "ok"]
        assert sorted(done) == sorted(called)


@pytest.mark.parametrize(("limit", "lengths"), [(4, [3000]), (20, [3000]), (8, [1, 900, 3000])])
def test_room_is_set_aside_for_lines_with_ids_of_any_length(unisono, server, tmp_path, limit, lengths):
    names = [f"{number}" + "\n" * lengths[number % len(lengths)] for number in range(300)]
    rows = [{"url": f"{server.url}/echo?{number}", "id": name} for number, name in enumerate(names)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["fetch", "-X", "POST", "--from", "in.jsonl", "--limit", limit, "--per-host", limit, "--body", "none"]
    with small_disk(tmp_path / "disk", "64k") as disk:
        full = unisono(*words, "-o", disk / "r.jsonl", "-q")
        assert (full.returncode, "No space left" in full.stderr) == (125, True), full.stderr
        assert "could not be kept" not in full.stderr
        done = [line for line in read_results(disk / "r.jsonl") if line["outcome"] == "ok"]
        assert len(done) == len(server.requests) >= (1 if limit < 20 else 0)
