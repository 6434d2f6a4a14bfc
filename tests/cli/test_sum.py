"""`unisono sum`: digests that other programs agree with, and trees that try to break it."""

import base64
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.installed import COMMAND
from support.processes import until

NAMES = [
    b"plain",
    b"with space",
    b" leading",
    b"*star",
    b"back\\slash",
    b"new\nline",
    b"carriage\rreturn",
    b"latin1-\xe9\xff",
    b"#comment",
    b"(paren) = x",
    b"n" * 255,
    b"-dash",
]


def needs(program: str, package: str) -> str:
    """The program's path; a skip that says how to get it, where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (apt-get install {package})")
    return found


@pytest.fixture
def tree(tmp_path):
    """A folder with names and sizes of all kinds."""
    folder = tmp_path / "tree"
    (folder / ".hidden" / "deep").mkdir(parents=True)
    rng = random.Random(7)
    for at, name in enumerate(NAMES):
        (folder / os.fsdecode(name)).write_bytes(rng.randbytes([0, 1, 55, 56, 63, 64, 65, 4096][at % 8]))
    for size in (32 << 10, (32 << 10) + 1, 1 << 20, (3 << 20) + 17):
        (folder / ".hidden" / "deep" / f"size{size}").write_bytes(rng.randbytes(size))
    with (folder / "sparse").open("wb") as sparse:
        sparse.truncate(20 << 20)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def as_bytes(**options):
    return {"text": False, **options}


ALGORITHMS = {"sha256": "sha256sum", "sha512": "sha512sum", "sha1": "sha1sum", "md5": "md5sum"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("layout", [[], ["--tag"], ["--zero"]])
def test_coreutils_writes_the_same_lines_and_accepts_ours(unisono, tree, tmp_path, algorithm, layout):
    done = unisono("sum", "-a", algorithm, *layout, "tree", **as_bytes())
    assert done.returncode == 0, done.stderr
    program = ALGORITHMS[algorithm]
    names = [str(path.relative_to(tmp_path)) for path in files(tree)]
    theirs = subprocess.run([program, *layout, *names], cwd=tmp_path, capture_output=True, check=True).stdout
    end = b"\0" if "--zero" in layout else b"\n"
    assert sorted(done.stdout.split(end)) == sorted(theirs.split(end))
    if "--zero" not in layout:
        checked = subprocess.run([program, "-c", "--strict"], cwd=tmp_path, input=done.stdout, capture_output=True)
        assert checked.returncode == 0, checked.stdout
    # And what they write, we check.
    (tmp_path / "theirs").write_bytes(theirs)
    zero = [word for word in layout if word == "--zero"]
    ours = unisono("sum", "--check", "--strict", *zero, "theirs", **as_bytes())
    assert (ours.returncode, ours.stdout.count(b": OK" + end)) == (0, len(names)), ours.stderr


def test_b3sum_writes_the_same_lines_and_accepts_ours(unisono, tree, tmp_path):
    b3sum = needs("b3sum", "b3sum")
    done = unisono("sum", "-a", "blake3", "tree", **as_bytes())
    (tmp_path / "ours").write_bytes(done.stdout)
    # It knows no carriage returns in names, and refuses what is not UTF-8.
    names = [p for p in files(tree) if b"\r" not in os.fsencode(p.name) and b"\xff" not in os.fsencode(p.name)]
    theirs = subprocess.run(
        [b3sum, *[str(p.relative_to(tmp_path)) for p in names]], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    assert set(theirs.splitlines()) <= set(done.stdout.splitlines())
    (tmp_path / "theirs").write_bytes(theirs)
    ours = unisono("sum", "--check", "--strict", "-a", "blake3", "theirs")
    assert (ours.returncode, ours.stdout.count(": OK\n")) == (0, len(names)), ours.stderr
    clean = b"".join(line for line in done.stdout.splitlines(keepends=True) if line in theirs)
    (tmp_path / "clean").write_bytes(clean)
    assert subprocess.run([b3sum, "--check", "clean"], cwd=tmp_path, capture_output=True).returncode == 0


def test_manifests_of_hashdeep_are_checked_and_it_accepts_what_we_list(unisono, tree, tmp_path):
    hashdeep = needs("hashdeep", "hashdeep")
    theirs = subprocess.run([hashdeep, "-c", "md5,sha256", "-r", "-l", "tree"], cwd=tmp_path, capture_output=True)
    # It writes names as they are, so that one with a newline is no line of its.
    lines = [line for line in theirs.stdout.splitlines(keepends=True) if not line.startswith((b"line\n",))]
    (tmp_path / "theirs").write_bytes(b"".join(lines))
    ours = unisono("sum", "--check", "theirs", **as_bytes())
    good = [path for path in files(tree) if b"\n" not in os.fsencode(path.name) and b"\r" not in os.fsencode(path.name)]
    assert ours.stdout.count(b": OK\n") >= len(good) - 1, ours.stderr
    # What we list, in its format, is known to it.
    listed = [
        json.loads(line) for line in unisono("sum", "-a", "md5,sha256", "--format", "jsonl", "tree").stdout.splitlines()
    ]
    manifest = "%%%% HASHDEEP-1.0\n%%%% size,md5,sha256,filename\n" + "".join(
        f"{row['size']},{row['md5']},{row['sha256']},{row['path']}\n"
        for row in listed
        if row["outcome"] == "ok" and "path" in row and "\n" not in row["path"] and "\r" not in row["path"]
    )
    (tmp_path / "ours").write_text(manifest)
    audit = subprocess.run(
        [hashdeep, "-k", "ours", "-m", "-l", "tree/plain", "tree/.hidden/deep/size1048576"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert audit.stdout.split() == ["tree/plain", "tree/.hidden/deep/size1048576"]


def test_every_kernel_of_this_machine_gives_the_same_digests(unisono, tree):
    results = {}
    for kernel in ("portable", "sha-ni", "avx2", "avx512"):
        done = unisono("sum", "--kernel", kernel, "tree", **as_bytes())
        if b"this processor has no" not in done.stderr:
            results[kernel] = (done.returncode, done.stdout)
    assert "portable" in results
    assert len(set(results.values())) == 1, results.keys()


def test_several_algorithms_are_one_pass_and_each_is_right(unisono, tree):
    done = unisono("sum", "-a", "sha256,sha512,sha1,md5,blake3,xxh3-128,crc32c", "--format", "jsonl", "tree")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["outcome"] for row in rows] == ["ok"] * len(files(tree))
    for row in rows:
        path = os.fsdecode(base64.b64decode(row["path_base64"])) if "path_base64" in row else row["path"]
        data = (tree.parent / path).read_bytes()
        assert row["size"] == len(data)
        for name in ("sha256", "sha512", "sha1", "md5"):
            assert row[name] == hashlib.new(name, data).hexdigest()
        assert (len(row["blake3"]), len(row["xxh3-128"]), len(row["crc32c"])) == (64, 32, 8)
    empty = next(row for row in rows if row["size"] == 0)
    # From the test vectors of the three algorithms.
    assert empty["blake3"] == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert empty["xxh3-128"] == "99aa06d3014798d86001c324468d497f"
    assert empty["crc32c"] == "00000000"


def test_lines_are_sorted_by_path_unless_told_otherwise(unisono, tmp_path):
    for name in ("b/2", "b/1", "a/z", "a-b", "c"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    names = [line.split("  ")[1] for line in unisono("sum", "tree").stdout.splitlines()]
    assert names == ["tree/a/z", "tree/a-b", "tree/b/1", "tree/b/2", "tree/c"]
    unordered = [line.split("  ")[1] for line in unisono("sum", "--unordered", "tree").stdout.splitlines()]
    assert sorted(unordered) == sorted(names)


def test_what_is_no_regular_file_in_a_folder_is_skipped_and_counted_and_nothing_hangs(unisono, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tree / "socket"))
    os.symlink("file", tree / "link")
    os.symlink("nowhere", tree / "dangling")
    os.symlink("..", tree / "loop")
    done = unisono("sum", "--format", "jsonl", "tree", timeout=30)
    rows = {row["path"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["tree/file"]["outcome"] == "ok"
    assert {path: row["reason"] for path, row in rows.items() if row["outcome"] == "skipped"} == {
        "tree/fifo": "it is a FIFO",
        "tree/socket": "it is a socket",
        "tree/link": "it is a symbolic link",
        "tree/dangling": "it is a symbolic link",
        "tree/loop": "it is a symbolic link",
    }
    assert done.returncode == 0
    assert "5 skipped" in done.stderr


def test_what_was_named_and_is_no_regular_file_is_digested_or_a_failure_that_says_why(unisono, tmp_path):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
    os.symlink("nowhere", tmp_path / "dangling")
    os.symlink("circle", tmp_path / "circle")
    os.symlink("/dev/zero", tmp_path / "device")
    (tmp_path / "list").write_text("/dev/zero\nsocket\n")
    for words, says in [
        (["/dev/zero"], "it is a character device"),
        (["device"], "it is a character device"),
        (["socket"], "it is a socket"),
        (["dangling"], "No such file"),
        (["circle"], "symbolic links"),
        (["--from", "list"], "it is a character device"),
        (["--from", "list"], "it is a socket"),
    ]:
        done = unisono("sum", *words, timeout=30)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert says in done.stderr, (words, done.stderr)


def test_a_fifo_that_was_named_is_digested(unisono, start, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    os.symlink("fifo", tmp_path / "link")
    data = random.Random(3).randbytes(1_000_000)
    (tmp_path / "list").write_text("fifo\n")
    for words in (["fifo"], ["link"], ["--from", "list"], ["-a", "blake3,sha256", "--format", "jsonl", "fifo"]):
        process = start("sum", *words)
        fifo.write_bytes(data)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 0, stderr
        assert hashlib.sha256(data).hexdigest() in stdout
    script = 'exec "$0" sum <(printf one) <(printf two)'
    done = subprocess.run(["bash", "-c", script, COMMAND], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    # In the order of their names, which the shell makes.
    assert {line.split()[0] for line in done.stdout.splitlines()} == {
        hashlib.sha256(text).hexdigest() for text in (b"one", b"two")
    }


def test_a_fifo_is_read_again_by_a_resume_since_it_has_other_content_each_time(start, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for text, words in ((b"one", []), (b"two", ["--resume"]), (b"", ["--resume"]), (b"", ["--resume"])):
        process = start("sum", "fifo", "-o", "sums", *words)
        (tmp_path / "fifo").write_bytes(text)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 0, stderr
        assert (tmp_path / "sums").read_text() == f"{hashlib.sha256(text).hexdigest()}  fifo\n"


def test_a_fifo_that_nobody_writes_to_holds_up_nothing_but_itself(start, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "small").write_text("x")
    process = start("sum", "fifo", "small", "--format", "jsonl", "--unordered", "--grace", "0s")
    row = json.loads(process.stdout.readline())
    assert (row["path"], row["outcome"]) == ("small", "ok")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    row = json.loads(stdout)
    assert (process.returncode, row["path"], row["outcome"]) == (130, "fifo", "cancelled"), stderr


def test_a_fifo_that_nobody_writes_to_ends_with_its_deadline_and_with_the_run(unisono, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    done = unisono("sum", "fifo", "--format", "jsonl", "--deadline", "50ms", timeout=30)
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (1, "timed_out"), done.stderr
    done = unisono("sum", "fifo", "--format", "jsonl", "--stop-after", "10ms", "--grace", "0s", timeout=30)
    # On a busy machine it had not begun by then.
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, {row["outcome"] for row in rows} <= {"cancelled"}) == (124, True), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a device is made: run as root")
def test_a_block_device_that_was_named_is_digested_as_sha256sum_does_and_skipped_in_a_folder(unisono, tmp_path):
    (tmp_path / "tree").mkdir()
    device = tmp_path / "tree" / "device"
    # The first loop device, which is empty or not there.
    os.mknod(device, 0o400 | stat.S_IFBLK, os.makedev(7, 0))
    theirs = subprocess.run(["sha256sum", "tree/device"], cwd=tmp_path, capture_output=True, text=True, check=False)
    ours = unisono("sum", "tree/device")
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), ours.stderr
    walked = unisono("sum", "tree", "-v")
    assert (walked.returncode, walked.stdout) == (0, "")
    assert "it is a block device" in walked.stderr


def test_files_of_the_kernel_are_read_whatever_size_they_say_they_have(unisono, tmp_path):
    names = ["/sys/kernel/mm/transparent_hugepage/enabled", "/proc/version", "/proc/self/limits"]
    names = [name for name in names if os.path.exists(name)]
    assert names
    theirs = subprocess.run(["sha256sum", *names], capture_output=True, text=True, check=True).stdout
    ours = unisono("sum", *names)
    assert (ours.returncode, sorted(ours.stdout.splitlines())) == (0, sorted(theirs.splitlines())), ours.stderr


def test_a_loop_of_links_is_told_and_not_followed_for_ever(unisono, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    os.symlink(".", tree / "loop")
    os.symlink("file", tree / "link")
    done = unisono("sum", "--follow", "tree", timeout=30)
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["tree/file", "tree/link"]
    assert done.returncode == 1
    assert "loop" in done.stderr


def test_a_file_that_cannot_be_read_hides_no_other(unisono, tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "z").write_text("z")
    done = unisono("sum", "a", "gone", "z")
    assert done.returncode == 1
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["a", "z"]
    assert "gone: No such file" in done.stderr


def test_what_is_not_there_is_said_in_the_words_of_the_system(unisono):
    done = unisono("sum", "nothere")
    assert done.returncode == 1
    assert "nothere: No such file or directory (os error 2)\n" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed: run as root")
def test_an_unreadable_file_and_folder_are_failures_by_name(tmp_path):
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "open").write_text("x")
    (tree / "secret").write_text("x")
    for path in [tmp_path, *tmp_path.parents][:-2]:
        path.chmod(path.stat().st_mode | 0o055)
    (tree / "secret").chmod(0)
    (tree / "closed").chmod(0)
    command = shutil.copy(COMMAND, tmp_path / "unisono")
    done = subprocess.run(
        [command, "sum", "tree"],
        cwd=tmp_path,
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["tree/open"]
    assert "tree/closed: Permission denied" in done.stderr
    assert "tree/secret: cannot be opened: Permission denied" in done.stderr


def test_paths_beyond_path_max_are_told_and_hide_no_other(unisono, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    here = os.open(tree, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    done = unisono("sum", "tree", timeout=30)
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["tree/file"]
    assert done.returncode == 1
    assert "File name too long" in done.stderr
    subprocess.run(["rm", "-rf", tree], check=True)


def test_filters_leave_out_what_they_say_and_nothing_else(unisono, tmp_path):
    tree = tmp_path / "tree"
    for name in ("a.py", "b.txt", ".hidden.py", "sub/c.py", "sub/deep/d.py", "build/e.py"):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    (tree / ".gitignore").write_text("build/\n")

    def names(*words):
        done = unisono("sum", *words, "tree")
        assert done.returncode == 0, done.stderr
        return [line.split("  ")[1].removeprefix("tree/") for line in done.stdout.splitlines()]

    everything = [".gitignore", ".hidden.py", "a.py", "b.txt", "build/e.py", "sub/c.py", "sub/deep/d.py"]
    assert names() == everything
    assert names("--glob", "*.py") == [name for name in everything if name.endswith(".py")]
    assert names("--exclude", "sub", "--exclude", "*.txt") == [".gitignore", ".hidden.py", "a.py", "build/e.py"]
    assert names("--hidden", "no") == ["a.py", "b.txt", "build/e.py", "sub/c.py", "sub/deep/d.py"]
    assert names("--ignore-files", "--hidden", "no") == ["a.py", "b.txt", "sub/c.py", "sub/deep/d.py"]
    assert names("--max-depth", "1") == [".gitignore", ".hidden.py", "a.py", "b.txt"]
    assert names("--min-size", "8", "--max-size", "10") == [".hidden.py", "build/e.py", "sub/c.py"]


def test_names_come_from_a_list_with_any_bytes_in_them(unisono, tree, tmp_path):
    names = [os.fsencode(path.relative_to(tmp_path)) for path in files(tree)]
    done = unisono("sum", "--from", "-", "-0", "--zero", **as_bytes(input=b"\0".join(names)))
    assert done.returncode == 0, done.stderr
    assert [line.split(b"  ", 1)[1] for line in done.stdout.split(b"\0")[:-1]] == names


def test_a_manifest_with_crlf_comments_blank_lines_absolute_and_escaped_names_is_read(unisono, tmp_path):
    digest = hashlib.sha256(b"x").hexdigest()
    for name in ("a", "new\nline", "abs"):
        (tmp_path / name).write_bytes(b"x")
    manifest = f"# a comment\r\n\r\n{digest}  a\r\n\\{digest}  new\\nline\r\n{digest} *{tmp_path}/abs\r\nnonsense\r\n"
    (tmp_path / "m").write_text(manifest, newline="")
    done = unisono("sum", "--check", "m")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"a: OK\n\\new\\nline: OK\n{tmp_path}/abs: OK\n"
    assert "1 line is malformed (the first: m:6: it is no digest with a name behind it)" in done.stderr
    assert unisono("sum", "--check", "--strict", "m").returncode == 1


def test_a_file_is_in_a_manifest_however_it_and_its_folder_are_spelt(unisono, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        (tree / name).write_text(name)
    (tmp_path / "link").symlink_to("tree/sub/..")
    spellings = [
        "tree",
        "tree/",
        "./tree",
        "tree//",
        "tree/../tree",
        "tree/sub/..",
        "link",
        "link/",
        str(tree),
        f"{tree}/sub/../.",
    ]
    for listed in spellings:
        (tmp_path / "m").write_text(unisono("sum", listed).stdout)
        for extra in spellings:
            done = unisono("sum", "-c", "m", "--extra", extra)
            assert (done.returncode, "EXTRA" in done.stdout) == (0, False), (listed, extra, done.stdout)
    # One that has been added is found by each of them, and once by all of them.
    (tree / "sub/new").write_text("")
    for extra in spellings:
        done = unisono("sum", "-c", "m", "--extra", extra, "--extra", "tree/sub", "--extra", str(tmp_path / "link"))
        assert (done.returncode, done.stdout.count("EXTRA")) == (1, 1), (extra, done.stdout)


def test_a_link_of_another_name_to_a_listed_file_is_not_that_file(unisono, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/real").write_text("x")
    (tmp_path / "tree/alias").symlink_to("real")
    (tmp_path / "m").write_text(unisono("sum", "tree/alias").stdout)
    done = unisono("sum", "-c", "m", "--extra", "tree")
    assert done.stdout.splitlines() == ["tree/alias: OK", "tree/real: EXTRA"]


def test_what_is_no_file_in_an_extra_folder_is_skipped_and_said(unisono, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_text("a")
    (tmp_path / "m").write_text(unisono("sum", "tree").stdout)
    os.mkfifo(tmp_path / "tree/fifo")
    (tmp_path / "tree/link").symlink_to("a")
    done = unisono("sum", "-c", "m", "--extra", "tree", "--format", "jsonl")
    outcomes = {Path(row["path"]).name: row["outcome"] for row in map(json.loads, done.stdout.splitlines())}
    assert (done.returncode, outcomes) == (0, {"a": "ok", "fifo": "skipped", "link": "skipped"})
    # What is named is meant: there are no files in it.
    for name, why in (("tree/fifo", "FIFO"), ("tree/gone", "No such file")):
        done = unisono("sum", "-c", "m", "--extra", name)
        assert (done.returncode, why in done.stderr) == (1, True), done.stderr


def test_a_fifo_that_a_manifest_names_fails_its_line_once_and_hangs_nothing(unisono, tmp_path):
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree/fifo")
    (tmp_path / "m").write_text(f"{hashlib.sha256(b'x').hexdigest()}  tree/fifo\n")
    done = unisono("sum", "-c", "m", "--extra", "tree/../tree", "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["path"], row["outcome"]) for row in rows] == [("tree/fifo", "failed")]


def test_a_check_tells_changed_missing_and_extra_files_apart(unisono, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("same", "changed", "missing"):
        (tree / name).write_text(name)
    (tmp_path / "m").write_text(unisono("sum", "tree").stdout)
    (tree / "changed").write_text("CHANGED")
    (tree / "missing").unlink()
    (tree / "added").write_text("new")
    done = unisono("sum", "--check", "m", "--extra", "./tree")
    assert done.stdout.splitlines() == [
        "tree/changed: FAILED",
        "tree/missing: FAILED open or read",
        "tree/same: OK",
        "./tree/added: EXTRA",
    ]
    assert done.returncode == 1
    assert "3 failed" in done.stderr
    quiet = unisono("sum", "--check", "m", "--quiet")
    assert "OK" not in quiet.stdout and "tree/changed: FAILED" in quiet.stdout
    status = unisono("sum", "--check", "m", "--status", "-qq")
    assert (status.returncode, status.stdout, status.stderr) == (1, "", "")
    (tree / "changed").write_text("changed")
    assert unisono("sum", "--check", "m", "--ignore-missing").returncode == 0
    kinds = [
        row.get("error", {}).get("kind")
        for row in map(json.loads, unisono("sum", "-c", "m", "--format", "jsonl").stdout.splitlines())
    ]
    assert kinds == [None, "missing", None]


def test_a_manifest_without_entries_is_no_success(unisono, tmp_path):
    (tmp_path / "m").write_text("hello\n")
    done = unisono("sum", "--check", "m")
    assert done.returncode == 1
    assert "there is no entry to check" in done.stderr


def test_resume_reads_only_what_has_changed_and_forgets_what_is_gone(unisono, tree, tmp_path, lines):
    first = unisono("sum", "tree", "-o", "sums")
    assert first.returncode == 0, first.stderr
    whole = (tmp_path / "sums").read_bytes()
    assert subprocess.run(["sha256sum", "-c", "--quiet", "sums"], cwd=tmp_path).returncode == 0
    refused = unisono("sum", "tree", "-o", "sums")
    assert refused.returncode == 2 and "--resume" in refused.stderr
    (tree / "plain").write_text("something else")
    (tree / "added").write_text("new")
    (tree / "with space").unlink()
    again = unisono("sum", "tree", "-o", "sums", "--resume")
    assert again.returncode == 0, again.stderr
    count = len(files(tree))
    assert f"{count} ok ({count - 2} of an earlier run)" in again.stderr
    assert subprocess.run(["sha256sum", "-c", "--quiet", "sums"], cwd=tmp_path).returncode == 0
    after = (tmp_path / "sums").read_bytes()
    assert after != whole and after.count(b"\n") == count
    rows = lines(tmp_path / "sums.jsonl")
    assert len(rows) == count and len({row["row"] for row in rows}) == count


@pytest.mark.parametrize("seed", range(30))
def test_kill_9_and_resume_gives_the_manifest_of_an_undisturbed_run(tmp_path, unisono, seed):
    rng = random.Random(seed)
    tree = tmp_path / "tree"
    tree.mkdir()
    data = rng.randbytes(1 << 20)
    for number in range(400):
        (tree / f"{number:03}").write_bytes(data[: rng.choice([10, 4096, 300_000])])
    expected = unisono("sum", "tree").stdout
    words = [COMMAND, "sum", "tree", "-o", "sums", "--resume", "-q"]
    results = tmp_path / "sums.jsonl"
    for _ in range(rng.choice([1, 2, 3])):
        process = subprocess.Popen(words, cwd=tmp_path)
        enough = rng.randrange(0, 400 * 300)
        while process.poll() is None and (not results.exists() or results.stat().st_size < enough):
            pass
        process.kill()
        process.wait()
    done = subprocess.run(words, cwd=tmp_path, timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sums").read_text() == expected
    assert {path.name for path in tmp_path.iterdir()} == {"tree", "sums", "sums.jsonl"}


def test_an_interrupt_ends_with_130_and_a_resume_goes_on(start, unisono, tmp_path):
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 43)
    (tmp_path / "small").write_text("x")
    process = start("sum", "huge", "small", "-o", "sums", "--grace", "0s")
    results = tmp_path / "sums.jsonl"
    until(lambda: results.exists() and b'"small"' in results.read_bytes())
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert not (tmp_path / "sums").exists()
    (tmp_path / "huge").unlink()
    (tmp_path / "huge").write_text("small now")
    done = unisono("sum", "huge", "small", "-o", "sums", "--resume")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sums").read_text().count("\n") == 2


def test_a_deadline_ends_a_file_that_takes_too_long(unisono, tmp_path):
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 43)
    done = unisono("sum", "huge", "--deadline", "50ms", "--format", "jsonl", timeout=30)
    row = json.loads(done.stdout)
    assert (row["outcome"], row["error"]["kind"], done.returncode) == ("timed_out", "deadline", 1)


def test_mistakes_are_answered_with_what_to_do(unisono, tmp_path):
    for words, says in [
        ([], "name files or folders"),
        (["--check"], "name the manifests"),
        (["-a", "sha257", "x"], "sha256"),
        (["--algoritm", "md5", "x"], "--algorithm"),
        (["-"], "--from -"),
        (["-a", "md5,sha1", "x"], "--tag"),
        (["--check", "gone"], "gone"),
        (["--glob", "a[", "x"], "no glob"),
    ]:
        done = unisono("sum", *words)
        assert done.returncode == 2, (words, done.stderr)
        assert says in done.stderr, (words, done.stderr)


def test_an_empty_folder_is_a_success_that_says_so(unisono, tmp_path):
    (tmp_path / "empty").mkdir()
    done = unisono("sum", "empty")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing to do" in done.stderr


def test_a_reader_that_leaves_ends_the_run(tmp_path):
    for number in range(3000):
        (tmp_path / f"{number}").write_text("x")
    process = subprocess.Popen([COMMAND, "sum", "."], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=30) == 141


def test_a_tree_of_200_000_files_is_listed_whole(tmp_path, unisono):
    for folder in range(200):
        (tmp_path / "tree" / f"{folder:03}").mkdir(parents=True)
        for number in range(1000):
            os.close(os.open(tmp_path / "tree" / f"{folder:03}" / f"{number:03}", os.O_CREAT | os.O_WRONLY))
    done = unisono("sum", "tree")
    assert done.returncode == 0
    listed = done.stdout.splitlines()
    assert len(listed) == 200_000 and listed == sorted(listed)
    assert len({line.split("  ")[0] for line in listed}) == 1
    shutil.rmtree(tmp_path / "tree")


def test_a_file_that_never_stops_changing_fails_after_a_fresh_try(unisono, tmp_path):
    busy = tmp_path / "busy"
    busy.write_bytes(b"x" * (64 << 20))
    script = "import sys\nwith open('busy', 'ab', 0) as file:\n    print(flush=True)\n    while True: file.write(b'y')"
    writer = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE)
    try:
        writer.stdout.readline()
        done = unisono("sum", "busy", "--format", "jsonl", timeout=60)
    finally:
        writer.kill()
        writer.communicate()
    row = json.loads(done.stdout)
    assert (row["outcome"], row["error"]["kind"], row["attempts"]) == ("failed", "changed", 2)


def test_progress_tells_how_much_is_left_once_it_is_known(start, tmp_path):
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 43)
    (tmp_path / "small").write_text("x")
    process = start("sum", ".", "--progress", "json", "--grace", "0s")
    for line in process.stderr:
        numbers = json.loads(line)
        if numbers["expected_bytes"] is not None:
            break
    assert (numbers["expected"], numbers["expected_bytes"]) == (2, (1 << 43) + 1)
    assert numbers["bytes"] > 0 and numbers["done"] == 1
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
