"""The programs of `examples/`: each is run as its first lines say, and what it prints and leaves behind is checked."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LINE = '10.0.0.1 - - [21/Nov/2026:13:00:00 +0000] "GET / HTTP/1.1" {status} 512\n'


def run(name, *words, cwd, status=0):
    command = [sys.executable, EXAMPLES / f"{name}.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, check=False)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["compress_files", "join_with_limit", "one_word", "parse_logs"])
def test_a_program_that_needs_arguments_says_so(name, tmp_path):
    assert run(name, cwd=tmp_path, status=1).stderr.startswith(f"usage: python examples/{name}.py ")


def test_logs_of_a_folder_are_added_up_over_processes(folder):
    for number in range(4):
        text = LINE.format(status=200) * 100 + LINE.format(status=404) * number + "what is this?\n"
        (folder / f"{number}.log").write_text(text)
    assert run("parse_logs", folder, cwd=folder).stdout == "200 400\n404 6\nbad 4\n"


def test_a_log_that_cannot_be_read_does_not_hide_the_others(folder):
    (folder / "good.log").write_text(LINE.format(status=200))
    (folder / "gone.log").symlink_to("nowhere")
    done = run("parse_logs", folder, cwd=folder, status=1)
    assert done.stdout == "200 1\n"
    assert done.stderr.startswith("gone.log: ")


def test_files_are_replaced_by_their_compressed_twins(folder):
    texts = {f"{number}.txt": f"line {number}\n" * 10_000 for number in range(6)}
    for name, text in texts.items():
        (folder / name).write_text(text)
    assert run("compress_files", folder, cwd=folder).stdout.startswith("6 files compressed, ")
    assert {path.name[:-3]: gzip.decompress(path.read_bytes()).decode() for path in folder.iterdir()} == texts


def test_a_file_that_cannot_be_compressed_stays_and_leaves_nothing_half_done(folder):
    (folder / "good.txt").write_text("good")
    (folder / "folder").mkdir()
    done = run("compress_files", folder, cwd=folder, status=1)
    assert sorted(os.listdir(folder)) == ["folder", "good.txt.gz"]
    assert done.stderr.startswith("folder: ")


def test_a_shared_counter_is_exact_with_a_lock_and_with_a_queue(tmp_path):
    counts = dict(re.findall(r"^(.+?) +(\d+)$", run("shared_counter", cwd=tmp_path).stdout, re.MULTILINE))
    expected = int(counts["expected"])
    assert (int(counts["with a lock"]), int(counts["with a queue"])) == (expected, expected)
    assert int(counts["bare"]) <= expected
    # It is lost whenever a thread loses its turn in the call, which is where it does nearly always.
    assert int(counts["with a call"]) < expected


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_one_word_decides_between_threads_and_processes(tmp_path, executor):
    done = run("one_word", executor, "10", "1000", "100000", cwd=tmp_path)
    assert done.stdout == "10 4\n1000 168\n100000 9592\n"


def test_a_pipeline_that_is_closed_ends_and_one_with_sentinels_hangs(tmp_path):
    lines = run("pipeline", cwd=tmp_path).stdout.splitlines()
    assert lines == ["sentinels: 1 of 3 consumers wait for ever", "closing: all consumers have ended, the sum is 9900"]


def test_a_blocking_read_stops_the_loop_and_one_in_a_thread_does_not(tmp_path):
    lines = run("read_from_coroutine", cwd=tmp_path).stdout.splitlines()
    assert lines == ["in_the_coroutine: a b, no heartbeat", "in_threads: a b, the heart beat"]


def test_a_join_with_a_limit_tells_and_a_daemon_thread_is_left_where_it_stands(folder):
    done = run("join_with_limit", folder, cwd=folder)
    assert done.stdout.splitlines() == [
        "the thread that hears: has ended",
        "the thread that is deaf: still runs",
        "the program ends while a daemon thread writes",
    ]
    assert (folder / "report.txt").read_text() == "begun, "
    assert not (folder / "report.cleaned").exists()


def test_coroutines_hand_their_work_to_a_pool_and_the_loop_stays_free(tmp_path):
    lines = run("hand_over_work", cwd=tmp_path).stdout.splitlines()
    assert [len(answer) for answer in lines[0].split()] == [8] * 6
    assert lines[1] == "the loop was free meanwhile"


def test_every_example_is_in_the_cookbook_and_run_by_a_test():
    page = (ROOT / "docs" / "cookbook.md").read_text()
    tests = Path(__file__).read_text()
    names = [path.stem for path in EXAMPLES.glob("*.py")]
    assert names
    for name in names:
        assert f"../examples/{name}.py" in page, name
        assert f'"{name}"' in tests, name
