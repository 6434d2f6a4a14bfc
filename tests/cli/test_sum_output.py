"""What `unisono sum` writes: nothing is lost without a word, and nothing is replaced that should not be."""

import json
import os
import resource
import stat
import subprocess

import pytest

from support.disks import small_disk
from support.installed import COMMAND


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    return folder


def run(*words, **options):
    options = {"stderr": subprocess.PIPE, "text": True, "check": False, "timeout": 60, **options}
    return subprocess.run([COMMAND, "sum", *words], **options)


WAYS = {
    "a manifest": ["tree"],
    "a manifest, quietly": ["-q", "tree"],
    "jsonl": ["--format", "jsonl", "tree"],
    "a check": ["--check", "manifest"],
    "a check, quietly": ["--check", "-q", "failing"],
    "zero-terminated": ["--zero", "tree"],
}


@pytest.fixture
def manifests(tree, tmp_path, unisono):
    manifest = unisono("sum", "tree").stdout
    (tmp_path / "manifest").write_text(manifest)
    # With -q only what fails has a line.
    (tmp_path / "failing").write_text(manifest.translate(str.maketrans("0123456789", "1234567890")))


@pytest.mark.parametrize("way", WAYS)
def test_lines_that_a_full_device_does_not_take_are_a_failure_that_says_so(manifests, tmp_path, way):
    with open("/dev/full", "w") as full:
        done = run(*WAYS[way], cwd=tmp_path, stdout=full)
    assert done.returncode == 125, done.stderr
    assert "cannot write" in done.stderr and "No space left on device" in done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_lines_beyond_the_size_that_a_file_may_have_are_a_failure_that_says_so(manifests, tmp_path, way):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

    with (tmp_path / "out").open("w") as out:
        done = run(*WAYS[way], cwd=tmp_path, stdout=out, preexec_fn=limit)
    assert done.returncode == 125, (done.returncode, done.stderr)
    assert "File too large" in done.stderr


def test_a_disk_that_fills_up_is_a_failure_and_leaves_no_half_manifest(tree, tmp_path, unisono):
    with small_disk(tmp_path / "disk", "16k") as disk:
        (disk / "ballast").write_bytes(b"x" * (16 << 10))
        with (disk / "out").open("w") as out:
            done = run("-q", "tree", cwd=tmp_path, stdout=out)
        assert (done.returncode, "No space left" in done.stderr) == (125, True), done.stderr
        done = unisono("sum", "tree", "-o", disk / "kept", "-q")
        assert (done.returncode, "No space left" in done.stderr) == (125, True), done.stderr
        assert not (disk / "kept").exists() and not list(disk.glob(".*part"))
        (disk / "ballast").unlink()
        done = unisono("sum", "tree", "-o", disk / "kept", "--resume")
        assert done.returncode == 0, done.stderr
        assert (disk / "kept").read_text() == unisono("sum", "tree").stdout


@pytest.mark.parametrize("words", [["tree"], ["--format", "jsonl", "tree"], ["--check", "failing"]])
def test_a_reader_that_has_gone_is_no_failure_to_tell_of(manifests, tmp_path, words):
    reader, writer = os.pipe()
    os.close(reader)
    done = run("-q", *words, cwd=tmp_path, stdout=writer)
    os.close(writer)
    assert (done.returncode, "cannot write" in done.stderr) == (141, False), done.stderr


def test_a_fifo_and_what_a_descriptor_leads_to_are_written_to_and_stay_what_they_are(tree, tmp_path, unisono):
    expected = unisono("sum", "tree").stdout
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for words in ([], ["--overwrite"]):
        reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE, text=True)
        done = unisono("sum", "tree", "-o", fifo, *words)
        read, _ = reader.communicate(timeout=30)
        assert (done.returncode, read) == (0, expected), done.stderr
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    # A pipe by the name of a descriptor, as `-o >(command)` has it.
    done = unisono("sum", "tree", "-o", "/dev/stdout")
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"tree", "fifo"}


def test_nothing_is_kept_beside_what_is_no_file_and_that_is_said(tree, tmp_path, unisono):
    os.mkfifo(tmp_path / "fifo")
    done = unisono("sum", "tree", "-o", "fifo", "--resume")
    assert done.returncode == 2 and "no regular file" in done.stderr and "--resume" in done.stderr
    (tmp_path / "folder").mkdir()
    done = unisono("sum", "tree", "-o", "folder", "--overwrite")
    assert done.returncode == 2 and "`folder`" in done.stderr and (tmp_path / "folder").is_dir()


def test_a_link_stays_and_what_it_leads_to_is_replaced(tree, tmp_path, unisono):
    expected = unisono("sum", "tree").stdout
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real").write_text("old")
    os.symlink("there/real", tmp_path / "link")
    os.symlink("there/new", tmp_path / "dangling")
    assert unisono("sum", "tree", "-o", "link").returncode == 2
    for link, real in (("link", "real"), ("dangling", "new")):
        done = unisono("sum", "tree", "-o", link, "--overwrite")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / link).is_symlink() and not (tmp_path / "there" / real).is_symlink()
        assert (tmp_path / "there" / real).read_text() == expected
        # One list of what is done, by whatever name it is gone on with.
        done = unisono("sum", "tree", "-o", f"there/{real}", "--resume")
        assert (done.returncode, "(2 of an earlier run)" in done.stderr) == (0, True), done.stderr
    os.symlink("circle", tmp_path / "circle")
    assert unisono("sum", "tree", "-o", "circle").returncode == 2


def test_a_manifest_has_the_mode_that_the_umask_leaves_and_keeps_the_one_it_has(tree, tmp_path, unisono):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        name = f"new{mask:o}"
        done = run("tree", "-o", name, cwd=tmp_path, umask=mask)
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
        assert stat.S_IMODE((tmp_path / f"{name}.jsonl").stat().st_mode) == 0o600
    kept = tmp_path / "new22"
    kept.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(kept, 1234, 4321)
    before = kept.stat()
    for words in (["--overwrite"], ["--resume"]):
        assert unisono("sum", "tree", "-o", kept, *words).returncode == 0
        after = kept.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_what_a_link_of_the_name_of_a_half_manifest_leads_to_is_not_touched(tree, tmp_path, unisono):
    (tmp_path / "victim").write_text("mine")
    os.symlink("victim", tmp_path / ".sums.unisono.part")
    assert unisono("sum", "tree", "-o", "sums").returncode == 0
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "sums").read_text() == unisono("sum", "tree").stdout


def test_a_run_inside_of_its_own_tree_does_not_digest_what_it_writes(tree, unisono):
    files = {"./a", "./b"}
    for words in ([], ["--resume"], ["--resume"], ["--overwrite"]):
        done = unisono("sum", ".", "-o", "MAN", *words, cwd=tree)
        assert done.returncode == 0, done.stderr
        assert {line.split("  ")[1] for line in (tree / "MAN").read_text().splitlines()} == files
    # It checks, and what it consists of is no extra file.
    done = unisono("sum", "--check", "MAN", "--extra", ".", cwd=tree)
    assert done.returncode == 0, (done.stdout, done.stderr)
    # Named, by a glob of the shell, it would be read and written at once: nothing is touched.
    before = (tree / "MAN").read_bytes()
    done = unisono("sum", "a", "b", "MAN", "MAN.jsonl", "-o", "MAN", "--resume", cwd=tree)
    assert (done.returncode, "is the same file as" in done.stderr) == (2, True), done.stderr
    assert (tree / "MAN").read_bytes() == before


def test_a_run_does_not_digest_the_file_that_its_output_goes_to(tree):
    with (tree / "SUMS").open("w") as out, (tree / "log").open("w") as log:
        assert run(".", cwd=tree, stdout=out, stderr=log).returncode == 0
    assert {line.split("  ")[1] for line in (tree / "SUMS").read_text().splitlines()} == {"./a", "./b"}
    with (tree / "rows").open("w") as out:
        assert run(".", "--format", "jsonl", cwd=tree, stdout=out).returncode == 0
    rows = {row["path"]: row for row in map(json.loads, (tree / "rows").read_text().splitlines())}
    assert rows["./rows"]["reason"] == "this run writes it" and rows["./SUMS"]["outcome"] == "ok"


def test_what_is_read_is_not_written_over(tree, tmp_path, unisono):
    (tmp_path / "list").write_text("tree\n")
    (tmp_path / "m").write_text(unisono("sum", "tree").stdout)
    os.symlink("m", tmp_path / "alias")
    for words in (["--from", "list", "-o", "./list"], ["--check", "m", "-o", "m"], ["--check", "alias", "-o", "m"]):
        before = {name: (tmp_path / name).read_bytes() for name in ("list", "m")}
        done = unisono("sum", *words, "--overwrite")
        assert done.returncode == 2 and "is the same file as" in done.stderr
        assert before == {name: (tmp_path / name).read_bytes() for name in ("list", "m")}
