"""`unisono.files`: digests, verification and walks from Python."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import uvloop

import unisono
from support.processes import PATIENCE
from unisono import files

RUNS = {"asyncio": asyncio.run, "uvloop": uvloop.run}
ODD_NAME = os.fsdecode(b"latin1-\xe9\xff")


@pytest.fixture(params=RUNS)
def run(request):
    return RUNS[request.param]


@pytest.fixture
def tree(tmp_path):
    """Files of all sizes around the block sizes, two folders deep, one with a name that is not UTF-8."""
    root = tmp_path / "tree"
    for number, size in enumerate([0, 1, 55, 56, 63, 64, 65, 1023, 1024, 1025, 32768, 32769, 200_000]):
        folder = root / f"d{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number:02}").write_bytes(os.urandom(size))
    (root / ODD_NAME).write_bytes(b"odd")
    return root


def names(tree):
    return sorted(path for path in tree.rglob("*") if path.is_file())


def expected(tree, algorithm="sha256"):
    return {path: hashlib.new(algorithm, path.read_bytes()).hexdigest() for path in names(tree)}


def wait_until_no_engine_is_left():
    """What is left ends on its own, and soon; a thread that waits for ever is a failure."""
    until = time.monotonic() + PATIENCE
    while left := [name for name in thread_names() if name.startswith(("unisono-run", "unisono-input", "unisono-fil"))]:
        assert time.monotonic() < until, left
        time.sleep(0.005)


def thread_names():
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield (task / "comm").read_text().strip()


# Digests.


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1", "md5"])
def test_digests_are_those_of_hashlib(tree, algorithm):
    found = {outcome.path: outcome.result.hex for outcome in files.digest([tree], algorithms=algorithm)}
    assert found == expected(tree, algorithm)


def test_several_algorithms_are_made_in_one_pass(tree):
    report = files.digest(tree, algorithms=["sha256", "md5"]).run()
    assert report.bytes == sum(path.stat().st_size for path in names(tree))
    md5, sha256 = expected(tree, "md5"), expected(tree)
    for outcome in report.outcomes:
        assert outcome.result.digests == {"sha256": sha256[outcome.path], "md5": md5[outcome.path]}
        with pytest.raises(AttributeError, match="2 digests"):
            outcome.result.hex


def test_an_outcome_tells_what_was_read_and_what_it_was_given_for(tree):
    target = tree / "d0" / "f12"
    for given in [target, str(target), bytes(target)]:
        (outcome,) = files.digest([given])
        stat = target.stat()
        assert (outcome.ok, outcome.kind, outcome.item, outcome.row, outcome.id) == (True, "ok", given, 0, "r0")
        assert (outcome.path, outcome.result.size, outcome.result.mtime_ns) == (target, stat.st_size, stat.st_mtime_ns)
        assert (outcome.special, outcome.error, outcome.attempts) == (None, None, 1)
        assert outcome.elapsed > 0
        assert outcome.check() is outcome.result and outcome.result.path == target
        assert outcome.result.digests == {"sha256": outcome.result.hex}
        assert isinstance(outcome, unisono.Outcome)


def test_the_item_of_a_file_in_a_folder_is_the_folder(tree):
    given = [tree / "d0", str(tree / "d1" / "f01"), tree / "d2"]
    for outcome in files.digest(given):
        assert outcome.item in given
        assert str(outcome.path).startswith(str(outcome.item))


def test_a_path_alone_is_not_iterated_over(tree):
    assert {outcome.path for outcome in files.digest(str(tree))} == set(names(tree))


def test_one_bad_file_hides_none(tree):
    (tree / "loop").symlink_to("loop")
    os.mkfifo(tree / "fifo")
    given = [tree, tree / "missing", "nul\0byte", 17, tree / "loop"]
    outcomes = list(files.digest(given))
    good = {outcome.path: outcome.result.hex for outcome in outcomes if outcome.ok}
    assert good == expected(tree)
    bad = {
        outcome.item if outcome.item != tree else outcome.path.name: outcome for outcome in outcomes if not outcome.ok
    }
    assert (bad["fifo"].kind, bad["fifo"].special) == ("skipped", "fifo")
    assert (bad["loop"].kind, bad["loop"].special) == ("skipped", "symbolic_link")
    assert isinstance(bad[17].error, unisono.FileInputError)
    assert "int" in str(bad[17].error)
    missing = bad[tree / "missing"].error
    assert isinstance(missing, FileNotFoundError)
    assert (missing.kind, missing.outcome, missing.path) == ("missing", "failed", tree / "missing")
    assert str(missing).startswith(f"{tree}/missing: ")
    assert isinstance(bad["nul\0byte"].error, OSError)
    assert isinstance(bad[tree / "loop"].error, unisono.FileUnreadable)
    with pytest.raises(unisono.FileError):
        bad[tree / "missing"].check()
    assert len(outcomes) == len(good) + 6


def test_a_name_that_is_not_utf8_comes_back_as_it_is(tree):
    target = tree / ODD_NAME
    for given in [target, os.fsencode(target), str(target)]:
        (outcome,) = files.digest([given])
        assert (outcome.path, outcome.result.hex) == (target, hashlib.sha256(b"odd").hexdigest())


def test_a_file_that_cannot_be_read_is_unreadable():
    # Its first page is not mapped, for root as for any user.
    (outcome,) = files.digest("/proc/self/mem")
    assert isinstance(outcome.error, unisono.FileUnreadable)


@pytest.fixture
def huge(tmp_path):
    """A file that takes seconds to read, and no room."""
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 1 << 34)
    return path


def test_a_file_that_takes_too_long_times_out(huge, tree):
    outcomes = {outcome.path: outcome for outcome in files.digest([huge, tree], deadline=0.2)}
    error = outcomes[huge].error
    assert (outcomes[huge].kind, type(error), error.outcome) == ("timed_out", unisono.FileTimeout, "timed_out")
    assert isinstance(error, TimeoutError)
    wait_until_no_engine_is_left()


def test_a_batch_that_is_aborted_accounts_for_what_it_had_begun(huge, tree):
    batch = files.digest([huge, *names(tree)])
    next(batch)
    batch.cancel(abort=True)
    outcomes = {outcome.path: outcome for outcome in batch}
    assert isinstance(outcomes[huge].error, unisono.FileCancelled)
    assert batch.report.cancelled >= 1


def test_order_is_kept_when_asked_for(tree):
    given = sorted([tree / "d2", tree / "d0", tree / "d1"], reverse=True)
    found = [outcome.path for outcome in files.digest(given, keep_order=True)]
    assert found == [path for folder in given for path in sorted(folder.iterdir())]


def test_filters_are_those_of_the_command(tree, unisono):
    (tree / ".hidden").write_bytes(b"h")
    (tree / ".gitignore").write_text("d1\n")
    cases = [
        ({"glob": "*1*"}, ["--glob", "*1*"]),
        ({"exclude": ["d0", "*1"]}, ["--exclude", "d0", "--exclude", "*1"]),
        ({"hidden": False}, ["--hidden", "no"]),
        ({"ignore_files": True}, ["--ignore-files"]),
        ({"max_depth": 1}, ["--max-depth", "1"]),
        ({"min_size": "1KiB", "max_size": 32768}, ["--min-size", "1KiB", "--max-size", "32KiB"]),
    ]
    for options, words in cases:
        listed = unisono("sum", tree, "--zero", *words, text=False).stdout.split(b"\0")[:-1]
        by_command = dict(reversed(line.split(b"  ", 1)) for line in listed)
        by_package = {bytes(o.path): o.result.hex.encode() for o in files.digest(tree, **options) if o.ok}
        assert by_package == by_command, options
        walked = {bytes(found.path) for found in files.walk(tree, **options) if found.kind == "file"}
        assert walked == set(by_command), options


def test_paths_are_pulled_lazily(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"a")
    pulled = []

    def paths():
        for number in range(1_000_000):
            pulled.append(number)
            yield target

    with files.digest(paths(), limit=1) as batch:
        next(batch)
    assert len(pulled) < 50_000
    assert batch.report.total <= len(pulled)


def test_what_was_given_is_forgotten_with_its_outcome(tree):
    batch = files.digest([*names(tree), tree])
    assert len(list(batch)) == 2 * len(names(tree))
    # Of a folder it is not known which outcome is its last.
    assert list(batch._items.values()) == [tree]


def test_paths_that_raise_are_accounted_for_and_the_exception_is_shown(tree):
    def paths():
        yield from names(tree)
        raise LookupError("the list is gone")

    outcomes = []
    batch = files.digest(paths())
    with pytest.raises(LookupError, match="the list is gone"):
        outcomes.extend(batch)
    assert len(outcomes) == len(names(tree))
    assert batch.report.ok == len(names(tree))
    assert "the paths raised" in batch.report.failures[0]


class Raising:
    def __init__(self, error):
        self.error = error

    def __fspath__(self):
        raise self.error


def test_a_path_that_raises_is_an_outcome_and_ctrl_c_is_none(tree):
    (outcome,) = files.digest([Raising(LookupError("no name"))])
    assert isinstance(outcome.error, unisono.FileInputError)
    assert "no name" in str(outcome.error)
    with pytest.raises(KeyboardInterrupt), files.digest([Raising(KeyboardInterrupt())]) as batch:
        next(batch)
    wait_until_no_engine_is_left()


def test_mistakes_are_told_before_anything_is_read(tree):
    with pytest.raises(unisono.UsageError, match="`sha3` is no algorithm"):
        files.digest(tree, algorithms="sha3").run()
    with pytest.raises(unisono.UsageError, match="algorithms: there is none"):
        files.digest(tree, algorithms=[]).run()
    with pytest.raises(unisono.UsageError, match="is no glob"):
        files.digest(tree, glob="a[").run()
    with pytest.raises(unisono.UsageError, match="need out="):
        files.digest(tree, resume=True).run()
    with pytest.raises(TypeError, match="per_host"):
        files.digest(tree, per_host=3).run()


def test_the_limit_is_the_number_of_threads(tree):
    with files.digest(tree) as batch:
        assert 1 <= batch.limit <= len(os.sched_getaffinity(0))
    batch = files.digest(tree, limit=3)
    next(batch)
    assert batch.limit == 3
    with pytest.raises(unisono.UsageError, match="fixed"):
        batch.limit = 4
    batch.set_limits(rate="none")
    assert len(list(batch)) == len(names(tree)) - 1


def test_a_report_of_files_prints_as_a_table_without_hosts(tree):
    report = files.digest(tree).run()
    assert [line.split() for line in str(report).splitlines()[:2]] == [["ok"], ["all", str(report.ok)]]
    assert report.pending == 0
    assert report


def test_max_failures_stops_the_batch_and_no_thread_stays(tmp_path):
    report = files.digest((tmp_path / str(number) for number in range(1_000_000)), max_failures=10).run()
    assert (report.stopped, report.exit_code, report.ok) == ("MaxFailures", 3, 0)
    assert report.total < 100_000
    wait_until_no_engine_is_left()


# On event loops.


def test_async_for_takes_every_outcome(run, tree):
    async def main():
        return {outcome.path: outcome.result.hex async for outcome in files.digest(tree)}

    assert run(main()) == expected(tree)


def test_awaiting_answers_the_report(run, tree):
    async def main():
        return await files.digest([tree, tree / "missing"])

    report = run(main())
    assert (report.ok, report.failed, len(report.outcomes)) == (len(names(tree)), 1, len(names(tree)) + 1)


def test_an_async_generator_of_paths_is_taken(run, tree):
    async def paths():
        for name in names(tree):
            yield name
            await asyncio.sleep(0)

    async def main():
        return {outcome.item: outcome.result.hex async for outcome in files.digest(paths())}

    assert run(main()) == expected(tree)
    with pytest.raises(unisono.UsageError, match="an async iterable of paths"):
        files.digest(paths()).run()


def test_leaving_an_async_for_early_is_well_defined(run, tree):
    async def main():
        async with files.digest((tree for _ in range(100_000)), limit=1) as batch:
            async for _ in batch:
                break
        return batch.report

    report = run(main())
    assert report.stopped == "Requested"
    assert report.total == report.ok + report.cancelled < 100_000


# Results files.


def test_a_resume_reads_only_what_has_changed(tree, tmp_path):
    out = tmp_path / "out.jsonl"
    first = files.digest(tree, out=out).run()
    assert (first.ok, sum(first.kept.values())) == (len(names(tree)), 0)
    (tree / "d1" / "f01").write_bytes(b"another")
    (tree / "new").write_bytes(b"new")
    again = files.digest(tree, out=out, resume=True)
    read = {outcome.path.name: outcome.item for outcome in again}
    assert read == {"f01": tree, "new": tree}
    assert again.report.kept["ok"] == len(names(tree)) - 2
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert sorted(line["sha256"] for line in lines) == sorted(expected(tree).values())


def test_a_results_file_is_shared_with_the_command(tree, tmp_path, unisono):
    out = tmp_path / "out.jsonl"
    files.digest(tree, out=out, limit=2).run()
    done = unisono("sum", tree, "--format", "jsonl", "-o", out, "--resume")
    assert done.returncode == 0
    assert f"({len(names(tree))} of an earlier run)" in done.stderr
    assert len(out.read_bytes().splitlines()) == len(names(tree))


def test_a_results_file_that_is_there_is_not_replaced(tree, tmp_path):
    out = tmp_path / "out.jsonl"
    files.digest(tree, out=out).run()
    with pytest.raises(unisono.UsageError):
        files.digest(tree, out=out).run()
    assert files.digest(tree, out=out, overwrite=True).run().ok == len(names(tree))


# Verification.


@pytest.fixture
def manifest(tree, tmp_path, unisono):
    path = tmp_path / "SHA256SUMS"
    path.write_bytes(unisono("sum", tree, text=False).stdout)
    return path


def test_a_tree_that_is_what_it_was_is_ok(tree, manifest):
    report = files.verify(manifest, extra=tree).run()
    assert (report.ok, report.total, report.malformed, report.exit_code) == (len(names(tree)), report.ok, 0, 0)


def test_changed_missing_and_extra_files_are_told_apart(tree, manifest):
    (tree / "d0" / "f00").write_bytes(b"changed")
    (tree / "d1" / "f01").unlink()
    (tree / "extra").write_bytes(b"")
    outcomes = list(files.verify([manifest], extra=[tree]))
    errors = {outcome.path.name: outcome.error for outcome in outcomes if not outcome.ok}
    assert {name: type(error) for name, error in errors.items()} == {
        "f00": unisono.FileMismatch,
        "f01": unisono.FileMissing,
        "extra": unisono.FileUnlisted,
    }
    assert isinstance(errors["f00"], ValueError)
    assert sum(outcome.ok for outcome in outcomes) == len(names(tree)) - 2


def test_a_missing_file_may_be_no_failure(tree, manifest):
    (tree / "d1" / "f01").unlink()
    report = files.verify(manifest, ignore_missing=True).run()
    assert (report.skipped, report.exit_code) == (1, 0)


def test_malformed_lines_are_counted_and_fail_when_strict(tree, manifest):
    manifest.write_bytes(manifest.read_bytes() + b"what is this\nand this\n")
    report = files.verify(manifest).run()
    assert (report.malformed, report.exit_code) == (2, 0)
    assert "2 lines are malformed" in report.warnings[0]
    assert not files.verify(manifest, strict=True).run()


def test_nothing_to_check_is_a_failure(tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("")
    report = files.verify(empty).run()
    assert (report.exit_code, report.failures) == (1, [f"there is no entry to check in `{empty}`"])


def test_a_manifest_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(unisono.UsageError, match="cannot read"):
        files.verify(tmp_path / "none").run()


def test_a_check_runs_on_a_loop(run, tree, manifest):
    async def main():
        return [outcome.kind async for outcome in files.verify(manifest)]

    assert run(main()) == ["ok"] * len(names(tree))


# Walks.


def test_a_walk_comes_in_the_order_of_names_and_tells_kinds(tmp_path):
    for name in ["b/2", "b/1", "a", "c/x"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "b" / "pipe")
    (tmp_path / "link").symlink_to("a")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        found = list(files.walk([tmp_path, tmp_path / "none"]))
    assert [(str(one.path.relative_to(tmp_path)), one.kind) for one in found] == [
        ("a", "file"),
        ("b/1", "file"),
        ("b/2", "file"),
        ("b/pipe", "fifo"),
        ("c/x", "file"),
        ("link", "symbolic_link"),
        ("socket", "socket"),
        ("none", "unreadable"),
    ]
    assert "No such file" in found[-1].why
    assert found[0].why is None


def test_what_a_walk_found_is_a_path(tree):
    chosen = (found for found in files.walk(tree) if found.path.name.startswith("f1"))
    outcomes = list(files.digest(chosen))
    assert {outcome.path.name for outcome in outcomes} == {"f10", "f11", "f12"}
    assert all(os.fspath(outcome.item) == str(outcome.path) for outcome in outcomes)


def test_a_walk_pulls_its_paths_lazily_and_raises_what_they_raise(tree):
    def paths():
        yield tree / "d0"
        raise LookupError

    found = files.walk(paths())
    assert next(found).path.parent == tree / "d0"
    with pytest.raises(LookupError):
        list(found)


def test_a_walk_refuses_what_is_no_glob_and_what_is_no_path(tree):
    with pytest.raises(unisono.UsageError, match="is no glob"):
        files.walk(tree, glob="a[")
    with pytest.raises(TypeError):
        list(files.walk([3]))


# The end of a process.

CASES = {
    "a_keyboard_interrupt_in_async_for": """
        async def main():
            async for outcome in files.digest(tree for _ in range(100000)):
                os.kill(os.getpid(), signal.SIGINT)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            pass
    """,
    "a_keyboard_interrupt_in_for": """
        try:
            for outcome in files.digest(tree for _ in range(100000)):
                os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            pass
    """,
    "a_keyboard_interrupt_in_a_walk_that_finds_nothing": """
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            next(files.walk(itertools.repeat(tree), glob="none"))
        except KeyboardInterrupt:
            pass
    """,
    "an_abandoned_batch": """
        batch = files.digest(tree for _ in range(100000))
        next(batch)
    """,
    "a_batch_whose_input_never_ends": """
        async def paths():
            yield tree
            await asyncio.get_running_loop().create_future()
        async def main():
            async with files.digest(paths()) as batch:
                async for outcome in batch:
                    break
        asyncio.run(main())
    """,
    "an_abandoned_walk": """
        walk = files.walk(tree for _ in range(100000))
        next(walk)
    """,
    "a_daemon_thread": """
        def forever():
            for outcome in files.digest(tree for _ in range(10000000)):
                started.set()
        started = threading.Event()
        threading.Thread(target=forever, daemon=True).start()
        started.wait(10)
    """,
}


@pytest.mark.parametrize("name", CASES)
def test_a_clean_exit_after(tree, name):
    head = "import asyncio, itertools, os, signal, sys, threading\nfrom unisono import files\ntree = sys.argv[1]\n"
    code = head + textwrap.dedent(CASES[name])
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code, tree], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_is_left_running(tree):
    batch = files.digest(tree for _ in range(1000))
    next(batch)
    batch.close()
    list(files.digest(tree))
    wait_until_no_engine_is_left()


def test_a_function_of_ones_own_is_called_for_each_file_of_a_tree(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, text in {"a.log": "1\n", "sub/b.log": "1\n2\n", "c.txt": ""}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("a.log")

    def count(path):
        return path.read_text().count("\n")

    outcomes = files.each(count, tmp_path, glob="*.log", limit=2)
    assert {outcome.item.name: outcome.result for outcome in outcomes} == {"a.log": 1, "b.log": 2}
    out = tmp_path / "counts.jsonl"
    paths = [tmp_path / "sub", tmp_path / "a.log"]
    assert files.each(count, paths, out=out).run().ok == 2
    report = files.each(count, paths, out=out, resume=True).run()
    assert (report.ok, report.kept["ok"]) == (2, 2)
    assert {json.loads(line)["item"] for line in out.read_text().splitlines()} == {
        str(tmp_path / "a.log"),
        str(tmp_path / "sub" / "b.log"),
    }


def test_a_check_of_nothing_raises(tmp_path):
    for name, text in (("empty", ""), ("comment", "# nothing\n"), ("malformed", "what is this\n")):
        manifest = tmp_path / name
        manifest.write_text(text)
        report = files.verify(manifest).run()
        assert (report.exit_code, bool(report)) == (1, False)
        with pytest.raises(ExceptionGroup, match=f"no entry to check in `.*{name}`") as caught:
            report.raise_for_failures()
        assert isinstance(caught.value.exceptions[0], unisono.Error)


def test_a_check_that_found_none_of_the_files_raises(tree, manifest):
    shutil.rmtree(tree)
    report = files.verify(manifest, ignore_missing=True).run()
    assert (report.failed, report.exit_code) == (0, 1)
    with pytest.raises(ExceptionGroup, match="was verified: none of them is there"):
        report.raise_for_failures()


def test_malformed_lines_raise_when_strict(tree, manifest):
    manifest.write_bytes(manifest.read_bytes() + b"what is this\n")
    files.verify(manifest).run().raise_for_failures()
    with pytest.raises(ExceptionGroup, match="1 line is malformed"):
        files.verify(manifest, strict=True).run().raise_for_failures()


def test_a_fifo_that_is_named_is_digested_and_one_that_a_walk_found_is_skipped(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(b"one",))
    writer.start()
    (outcome,) = files.digest([fifo]).run().outcomes
    writer.join()
    assert (outcome.result.hex, outcome.result.size) == (hashlib.sha256(b"one").hexdigest(), 3)
    for given in ([tmp_path], files.walk(tmp_path)):
        (outcome,) = files.digest(given).run().outcomes
        assert (outcome.kind, outcome.special) == ("skipped", "fifo")


def test_a_fifo_that_nobody_writes_to_ends_with_the_batch(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (outcome,) = files.digest([fifo], deadline=0.05).run().outcomes
    assert outcome.kind == "timed_out"
    report = files.digest([fifo], stop_after=0.01, grace=0).run()
    assert (report.cancelled, report.exit_code) == (report.total, 124)


def test_a_device_or_socket_that_is_named_fails_and_says_why(tmp_path):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
    for path, why in ((Path("/dev/zero"), "character device"), (tmp_path / "socket", "socket")):
        (outcome,) = files.digest(path).run().outcomes
        assert outcome.kind == "failed" and why in str(outcome.error)


def test_results_inside_of_the_tree_are_not_digested(tree):
    for resume in (False, True):
        report = files.digest(tree, out=tree / "results", resume=resume).run()
        assert (report.failed, report.ok) == (0, len(names(tree)) - 1)
    rows = [json.loads(line) for line in (tree / "results").read_text().splitlines()]
    (own,) = [row for row in rows if row.get("path", "").endswith("/results")]
    assert (own["outcome"], own["reason"]) == ("skipped", "this run writes it")


def test_each_is_given_what_was_named_whatever_it_is(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (outcome,) = files.each(lambda path: path.is_fifo(), [fifo]).run().outcomes
    assert outcome.result is True
    assert files.each(lambda path: path, [tmp_path]).run().total == 0
