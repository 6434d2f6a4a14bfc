"""Saved bodies that break off (`fetch --save`): what is gone on with, what begins anew, and what is left."""

import gzip
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.installed import COMMAND
from support.processes import until
from support.ranges import Files

# More than what a later run goes on with at the least.
LONG = bytes(range(256)) * 4096 * 3
FIRST = 2 << 20


@pytest.fixture
def files():
    server = Files()
    server.content = LONG
    yield server
    server.close()


def fetch(files: Files, *more: str) -> list[str]:
    return ["fetch", "-q", files.url, "--save", "out/a", "--retries", "3", *more]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part_of(folder: Path) -> Path:
    (part,) = folder.glob(".unisono-*.part")
    return part


def is_far(part: Path) -> bool:
    # What comes is written by the quarter of a mebibyte.
    return part.stat().st_size > FIRST - (256 << 10)


def break_off(start, files: Files, folder: Path, words: list[str], by: int = signal.SIGKILL) -> int:
    """Ends a run in the middle of the body; returns how much of it is there."""
    files.gate.clear()
    files.cut(FIRST)
    process = start(*words)
    until(lambda: any(map(is_far, (folder / "out").glob(".unisono-*.part"))))
    process.send_signal(by)
    process.communicate()
    files.gate.set()
    files.cut()
    return part_of(folder / "out").stat().st_size


# In one run.


def test_a_body_that_breaks_off_goes_on_where_it_ended(unisono, files, tmp_path, lines):
    files.cut(30_000, 0, FIRST, None)
    done = unisono(*fetch(files))
    assert done.returncode == 0, done.stdout
    (row,) = lines(done.stdout)
    assert (row["outcome"], row["attempts"], row["status"], row["saved_bytes"]) == ("ok", 4, 206, len(LONG))
    assert (tmp_path / "out/a").read_bytes() == LONG
    assert files.ranges() == [None, "bytes=30000-", "bytes=30000-", f"bytes={30_000 + FIRST}-"]
    assert {(asked["if-range"], asked["accept-encoding"]) for asked in files.asked[1:]} == {('"one"', "identity")}
    assert left(tmp_path / "out") == ["a"]


def test_an_attempt_whose_time_is_over_has_not_been_for_nothing(unisono, files, tmp_path):
    files.gate.clear()
    files.cut(FIRST, None)
    assert unisono(*fetch(files, "--timeout", "1s")).returncode == 0
    first, second = files.ranges()
    assert (first, FIRST - (256 << 10) < int(second.removeprefix("bytes=").removesuffix("-")) <= FIRST) == (None, True)
    assert (tmp_path / "out/a").read_bytes() == LONG


@pytest.mark.parametrize(
    ("tag", "extra"),
    [
        (None, []),
        ('W/"one"', []),
        (None, ["Last-Modified: Sat, 01 Jan 2022 00:00:00 GMT", "Date: Sat, 01 Jan 2022 00:00:00 GMT"]),
        ('"one"', ["Content-Encoding: x-unknown"]),
    ],
)
def test_what_may_be_of_another_version_begins_anew_and_leaves_nothing(unisono, files, tmp_path, tag, extra):
    files.tag, files.extra = tag, extra
    files.cut(FIRST, None)
    assert unisono(*fetch(files, "-o", "r.jsonl")).returncode == 0
    assert files.ranges() == [None, None]
    assert (tmp_path / "out/a").read_bytes() == LONG
    files.cut(*[FIRST] * 9)
    assert unisono(*fetch(files, "-o", "s.jsonl", "--overwrite")).returncode == 1
    assert left(tmp_path / "out") == ["a"]


def test_a_time_of_change_tells_versions_apart_when_it_is_past(unisono, files, tmp_path):
    changed = "Sat, 01 Jan 2022 00:00:00 GMT"
    files.tag, files.extra = None, [f"Last-Modified: {changed}", "Date: Sat, 01 Jan 2022 00:00:01 GMT"]
    files.cut(FIRST, None)
    assert unisono(*fetch(files)).returncode == 0
    assert (files.asked[1]["range"], files.asked[1]["if-range"]) == (f"bytes={FIRST}-", changed)
    assert (tmp_path / "out/a").read_bytes() == LONG


def test_a_body_with_a_content_coding_begins_anew(unisono, files, tmp_path):
    plain = os.urandom(1 << 20)
    files.content, files.extra = gzip.compress(plain), ["Content-Encoding: gzip"]
    files.cut(1 << 19, None)
    assert unisono(*fetch(files)).returncode == 0
    assert files.ranges() == [None, None]
    assert (tmp_path / "out/a").read_bytes() == plain


def test_a_server_without_ranges_sends_it_all_again(unisono, files, tmp_path):
    files.takes_ranges = False
    files.cut(FIRST, None)
    assert unisono(*fetch(files)).returncode == 0
    assert (tmp_path / "out/a").read_bytes() == LONG


def test_a_server_that_sends_less_than_is_asked_for_is_asked_for_the_rest(unisono, files, tmp_path):
    files.most = 1 << 20
    files.cut(FIRST - 1000, None, None)
    assert unisono(*fetch(files)).returncode == 0
    assert files.ranges() == [None, f"bytes={FIRST - 1000}-", f"bytes={FIRST - 1000 + (1 << 20)}-"]
    assert (tmp_path / "out/a").read_bytes() == LONG


def test_the_largest_body_is_counted_over_all_attempts(unisono, files, tmp_path, lines):
    files.cut(FIRST, None)
    done = unisono(*fetch(files, "--max-body", str(len(LONG) - 1), "-o", "r.jsonl"))
    assert done.returncode == 1
    (row,) = lines(tmp_path / "r.jsonl")
    assert (row["error"]["kind"], row["attempts"]) == ("too_large", 2)
    assert left(tmp_path / "out") == []
    files.cut(FIRST, None)
    assert unisono(*fetch(files, "--max-body", str(len(LONG)))).returncode == 0


@pytest.mark.parametrize(
    "words", [["--data", "x", "--idempotency-key"], ["-H", "Range: bytes=5-"], ["-H", "If-Match: *"]]
)
def test_only_a_get_that_asks_for_all_of_it_goes_on(unisono, files, tmp_path, words):
    files.heeds_conditions = False
    files.cut(30_000, None)
    assert unisono(*fetch(files, *words)).returncode == 0
    asked_first, asked_again = files.asked
    assert (asked_again.get("range"), "if-range" in asked_again) == (asked_first.get("range"), False)


# Over runs.


def test_a_run_that_is_killed_goes_on_with_what_it_has(start, unisono, files, tmp_path, lines):
    words = fetch(files, "-o", "r.jsonl", "--resume")
    there = break_off(start, files, tmp_path, words)
    assert not (tmp_path / "out/a").exists()
    assert unisono(*words).returncode == 0
    assert files.ranges() == [None, f"bytes={there}-"]
    assert (tmp_path / "out/a").read_bytes() == LONG
    (row,) = lines(tmp_path / "r.jsonl")
    assert (row["outcome"], row["saved_bytes"], row["bytes"]) == ("ok", len(LONG), len(LONG) - there)
    assert (left(tmp_path), left(tmp_path / "out")) == (["out", "r.jsonl"], ["a"])


@pytest.mark.parametrize("again", ["--resume", "--retry-failed"])
def test_what_a_stop_or_a_failure_leaves_goes_on_in_the_next_run(start, unisono, files, tmp_path, again):
    if again == "--resume":
        there = break_off(start, files, tmp_path, fetch(files, "-o", "r.jsonl", "--grace", "10ms"), signal.SIGINT)
    else:
        there = FIRST
        files.cut(there)
        assert unisono(*fetch(files, "-o", "r.jsonl", "--retries", "0")).returncode == 1
    assert len(left(tmp_path / "out")) == 2
    files.cut(200_000)
    words = fetch(files, "-o", "r.jsonl", again, "--retries", "0")
    assert unisono(*words).returncode == 1
    assert unisono(*[*words, "--retry-failed"]).returncode == 0
    assert files.ranges() == [None, f"bytes={there}-", f"bytes={there + 200_000}-"]
    assert (tmp_path / "out/a").read_bytes() == LONG
    assert left(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("heeds", [True, False])
def test_a_body_that_has_changed_begins_anew(start, unisono, files, tmp_path, heeds):
    words = fetch(files, "-o", "r.jsonl", "--resume", "--retries", "0")
    there = break_off(start, files, tmp_path, words)
    files.tag, files.content, files.heeds_conditions = '"two"', LONG[::-1], heeds
    assert unisono(*words).returncode == 0
    # One that sends a part of whatever it has is asked once more.
    assert files.ranges() == [None, f"bytes={there}-"] + ([] if heeds else [None])
    assert (tmp_path / "out/a").read_bytes() == LONG[::-1]
    assert left(tmp_path / "out") == ["a"]


def test_a_part_that_has_it_all_already_is_whole_by_the_servers_word(start, unisono, files, tmp_path, lines):
    words = fetch(files, "-o", "r.jsonl", "--resume", "--retries", "0")
    there = break_off(start, files, tmp_path, words)
    with part_of(tmp_path / "out").open("ab") as part:
        part.write(LONG[there:])
    assert unisono(*words).returncode == 0
    assert files.ranges() == [None, f"bytes={len(LONG)}-"]
    assert (tmp_path / "out/a").read_bytes() == LONG
    (row,) = lines(tmp_path / "r.jsonl")
    assert (row["outcome"], row["saved_bytes"]) == ("ok", len(LONG))


def test_a_part_that_is_longer_than_the_body_begins_anew(start, unisono, files, tmp_path):
    words = fetch(files, "-o", "r.jsonl", "--resume", "--retries", "0")
    there = break_off(start, files, tmp_path, words)
    files.content = LONG[: there - 5]
    assert unisono(*words).returncode == 0
    assert files.ranges() == [None, f"bytes={there}-", None]
    assert (tmp_path / "out/a").read_bytes() == LONG[: there - 5]


def test_a_file_that_is_replaced_is_the_old_one_until_the_new_one_is_whole(start, unisono, files, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("mine")
    (tmp_path / "out/a").chmod(0o640)
    words = fetch(files, "-o", "r.jsonl", "--resume", "--overwrite")
    there = break_off(start, files, tmp_path, words)
    assert (tmp_path / "out/a").read_text() == "mine"
    assert unisono(*words).returncode == 0
    assert (tmp_path / "out/a").read_bytes() == LONG
    assert (tmp_path / "out/a").stat().st_mode & 0o777 == 0o640
    assert (files.ranges()[1], left(tmp_path / "out")) == (f"bytes={there}-", ["a"])


def test_rows_that_ask_for_the_same_go_on_each_with_its_own(start, unisono, files, tmp_path, lines):
    (tmp_path / "in.csv").write_text("name\na\nb\na\n")
    words = ["fetch", "-q", "--from", "in.csv", files.url, "--save", "out/{name}", "-o", "r.jsonl", "--resume"]
    files.gate.clear()
    files.cut(FIRST, FIRST)
    process = start(*words)
    until(lambda: [is_far(part) for part in (tmp_path / "out").glob(".unisono-*.part")] == [True] * 2)
    process.kill()
    process.communicate()
    there = [part.stat().st_size for part in (tmp_path / "out").glob(".unisono-*.part")]
    files.gate.set()
    assert unisono(*words).returncode == 1
    assert files.ranges()[:2] == [None, None]
    assert sorted(files.ranges()[2:]) == sorted(f"bytes={size}-" for size in there)
    outcomes = {row["row"]: row["outcome"] for row in lines(tmp_path / "r.jsonl")}
    assert outcomes == {0: "ok", 1: "ok", 2: "failed"}
    assert [(tmp_path / "out" / name).read_bytes() == LONG for name in "ab"] == [True, True]
    assert left(tmp_path / "out") == ["a", "b"]


# What is left, and what is not believed.


def test_without_a_results_file_nothing_is_left(start, unisono, files, tmp_path):
    files.cut(*[FIRST] * 4)
    assert unisono(*fetch(files, "--retries", "0")).returncode == 1
    files.gate.clear()
    process = start(*fetch(files))
    until(lambda: len(files.asked) == 2)
    process.kill()
    process.communicate()
    assert left(tmp_path / "out") == []


def test_a_full_disk_leaves_nothing(files, tmp_path):
    # A limit of the process stands in for a full disk; its signal is ignored, so that writing fails as it does there.
    script = f"trap '' XFSZ; ulimit -f 2560; exec '{COMMAND}' \"$@\""
    words = fetch(files, "-o", "r.jsonl")
    done = subprocess.run(["bash", "-c", script, "unisono", *words], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 1
    (row,) = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert (row["error"]["kind"], row["attempts"]) == ("save", 1)
    assert left(tmp_path / "out") == []


@pytest.mark.parametrize("kind", ["symbolic", "hard", "note"])
def test_a_link_at_a_made_up_name_is_not_followed(start, unisono, files, tmp_path, kind):
    words = fetch(files, "-o", "r.jsonl", "--resume")
    break_off(start, files, tmp_path, words)
    part = part_of(tmp_path / "out")
    mine = tmp_path / "mine"
    at = part.with_name(part.name + ".json") if kind == "note" else part
    mine.write_bytes(at.read_bytes())
    before = mine.read_bytes()
    at.unlink()
    if kind == "hard":
        at.hardlink_to(mine)
    else:
        at.symlink_to(mine)
    assert unisono(*words).returncode == 0
    assert files.ranges() == [None, None]
    assert mine.read_bytes() == before
    assert (tmp_path / "out/a").read_bytes() == LONG
    assert left(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("change", ["torn", "boot", "empty", "gone"])
def test_a_note_that_cannot_be_relied_on_is_as_none(start, unisono, files, tmp_path, change):
    words = fetch(files, "-o", "r.jsonl", "--resume")
    break_off(start, files, tmp_path, words)
    part = part_of(tmp_path / "out")
    note = part.with_name(part.name + ".json")
    assert note.stat().st_mode & 0o777 == 0o600
    if change == "torn":
        note.write_text(note.read_text()[:-5])
    elif change == "boot":
        # What was in memory alone when the machine ended is not in the file.
        note.write_text(json.dumps(json.loads(note.read_text()) | {"boot": "another"}))
    elif change == "empty":
        part.write_bytes(b"")
    else:
        note.unlink()
    assert unisono(*words).returncode == 0
    assert files.ranges() == [None, None]
    assert (tmp_path / "out/a").read_bytes() == LONG
    assert left(tmp_path / "out") == ["a"]


def test_what_a_run_leaves_for_the_next_one_stays_for_a_week(start, unisono, files, server, tmp_path):
    words = fetch(files, "-o", "r.jsonl", "--resume")
    break_off(start, files, tmp_path, words)
    part = part_of(tmp_path / "out")
    assert unisono("fetch", "-q", server.url + "/items/1", "--save", "out/b").returncode == 0
    assert part.exists()
    then = part.stat().st_mtime - 8 * 24 * 60 * 60
    os.utime(part, (then, then))
    (tmp_path / "out/.unisono-0123456789abcdef.part.json").write_text("of a part that is gone")
    assert unisono("fetch", "-q", server.url + "/items/1", "--save", "out/c").returncode == 0
    assert left(tmp_path / "out") == ["b", "c"]
