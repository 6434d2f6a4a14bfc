"""Manifests of `unisono sum` and of other programs, checked without a word more than their name."""

import hashlib
import os
import shutil
import subprocess

import pytest

NAMES = [
    b"plain",
    b" leading",
    b"*star",
    b"back\\slash",
    b"new\nline",
    b"\r",
    b"\xe9\xff",
    b"#comment",
    b"(a) = b",
    b"{",
]


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    for at, name in enumerate(NAMES):
        (folder / os.fsdecode(name)).write_bytes(b"x" * at)
    return folder


def check(unisono, manifest, *words):
    done = unisono("sum", "--check", *words, manifest, text=False)
    return done.returncode, done.stdout.count(b": OK"), done.stderr.decode()


ALGORITHMS = ["sha256", "sha512", "sha1", "md5", "blake3", "blake2b", "xxh3-128", "crc32c"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("layout", [[], ["--tag"], ["--zero"], ["--tag", "--zero"], ["--format", "jsonl"]])
def test_an_own_manifest_checks_without_options(unisono, tree, tmp_path, algorithm, layout):
    (tmp_path / "m").write_bytes(unisono("sum", "-a", algorithm, *layout, "tree", text=False).stdout)
    assert check(unisono, "m", "--strict")[:2] == (0, len(NAMES))
    # Also one that was kept, and what it was made of.
    if layout[:1] != ["--format"]:
        assert unisono("sum", "-a", algorithm, *layout, "tree", "-o", "kept").returncode == 0
        assert check(unisono, "kept", "--strict")[:2] == (0, len(NAMES))
        assert check(unisono, "kept.jsonl", "--strict")[:2] == (0, len(NAMES))
    # A check that always says OK would be none.
    (tree / "plain").write_bytes(b"changed")
    code, good, _ = check(unisono, "m")
    assert (code, good) == (1, len(NAMES) - 1)


@pytest.mark.parametrize("layout", [["--tag"], ["--tag", "--zero"]])
def test_several_algorithms_in_one_manifest_check_without_options(unisono, tree, tmp_path, layout):
    (tmp_path / "m").write_bytes(unisono("sum", "-a", ",".join(ALGORITHMS), *layout, "tree", text=False).stdout)
    assert check(unisono, "m", "--strict")[:2] == (0, len(NAMES) * len(ALGORITHMS))


@pytest.mark.parametrize("words", [[], ["--tag"], ["--zero"], ["--binary"]])
def test_manifests_of_b2sum_check(unisono, tree, tmp_path, words):
    names = [f"tree/{os.fsdecode(name)}" for name in NAMES]
    theirs = subprocess.run(["b2sum", *words, *names], cwd=tmp_path, capture_output=True, check=True).stdout
    (tmp_path / "m").write_bytes(theirs)
    assert check(unisono, "m", "--strict")[:2] == (0, len(NAMES))
    # And it checks ours.
    ours = unisono("sum", "-a", "blake2b", "tree", text=False).stdout
    done = subprocess.run(["b2sum", "-c", "--strict"], cwd=tmp_path, input=ours, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["sha256", "sha512", "sha1", "md5", "blake2b512"])
def test_manifests_of_openssl_check(unisono, tmp_path, name):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (apt-get install openssl)")
    for file in ("a", "b (c)= d"):
        (tmp_path / file).write_text(file)
    for words in ([], ["-r"]):
        theirs = subprocess.run(
            ["openssl", "dgst", f"-{name}", *words, "a", "b (c)= d"], cwd=tmp_path, capture_output=True, check=True
        ).stdout
        (tmp_path / "m").write_bytes(theirs)
        assert check(unisono, "m", "--strict")[:2] == (0, 2), theirs


def test_one_space_or_a_tab_before_a_name_is_read_as_coreutils_does(unisono, tmp_path):
    digest = hashlib.sha256(b"x").hexdigest()
    for name in ("a", "b", " b", "*c"):
        (tmp_path / name).write_text("x")
    for manifest, good in {
        f"{digest} a\n{digest}\tb\n{digest}  b\n{digest} *c\n": 4,
        f"{digest}  a\n{digest} b\n{digest} *c\n": 1,
        f"\\{digest} a\n": 1,
        f"SHA256(a)= {digest}\nSHA256 (b) = {digest}\n": 2,
        f"\ufeff{digest}  a\r\n": 1,
    }.items():
        (tmp_path / "m").write_text(manifest)
        theirs = subprocess.run(["sha256sum", "-c", "m"], cwd=tmp_path, capture_output=True, text=True, check=False)
        ours = unisono("sum", "--check", "m")
        # It does not know the mark of an editor, nor carriage returns.
        if "\r" not in manifest:
            assert ours.stdout == theirs.stdout, (manifest, ours.stderr)
        assert ours.stdout.count(": OK") >= good, manifest


def test_digests_of_another_algorithm_are_no_false_alarm_without_a_word(unisono, tree, tmp_path):
    (tmp_path / "m").write_text(f"{hashlib.sha3_256(b'').hexdigest()}  tree/plain\n")
    code, _, says = check(unisono, "m")
    assert code == 1 and "no digest of `m` fits its file, neither as sha256 nor as blake3" in says
    (tmp_path / "m").write_text(f"{hashlib.sha384(b'').hexdigest()}  tree/plain\n")
    code, _, says = check(unisono, "m")
    assert code == 1 and "96 hexadecimal digits, as none that unisono makes (SHA-384 has)" in says


def test_a_check_of_nothing_is_no_success(unisono, tmp_path):
    (tmp_path / "a").write_text("x")
    good = f"{hashlib.sha256(b'x').hexdigest()}  a\n"
    gone = f"{hashlib.sha256(b'x').hexdigest()}  missing\n"
    for name, text in {"good": good, "gone": gone, "empty": "", "comments": "# a\n\n", "malformed": "x\ny\n"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "nothing").mkdir()
    for words, says in [
        (["empty"], "there is no entry to check in `empty`"),
        (["comments"], "no entry to check in `comments`"),
        (["malformed"], "no entry to check in `malformed`"),
        (["good", "empty"], "no entry to check in `empty`"),
        (["empty", "--extra", "nothing"], "no entry to check in `empty`"),
        (["--ignore-missing", "gone"], "no file of `gone` was verified"),
        (["--ignore-missing", "good", "gone"], "no file of `gone` was verified"),
        (["--ignore-missing", "empty"], "no entry to check in `empty`"),
    ]:
        for quiet in ([], ["-q"], ["--status"]):
            done = unisono("sum", "--check", *quiet, *words)
            assert done.returncode == 1, (words, done.stderr)
            assert says in done.stderr, (words, done.stderr)
    done = unisono("sum", "--check", "nothing")
    assert done.returncode == 2 and "`nothing`" in done.stderr
    (tmp_path / "both").write_text(good + gone)
    assert unisono("sum", "--check", "--ignore-missing", "both").returncode == 0
    # Also when an earlier run has found that they are missing.
    for words in ([], ["--resume"]):
        assert unisono("sum", "--check", "--ignore-missing", "gone", "-o", "results", *words).returncode == 1


def test_a_line_without_an_end_is_malformed_and_hides_no_other(tmp_path, unisono):
    with (tmp_path / "m").open("wb") as manifest:
        for _ in range(3):
            manifest.write(b"a" * 1_000_000)
        manifest.write(b"\n" + hashlib.sha256(b"x").hexdigest().encode() + b"  a\n")
    (tmp_path / "a").write_text("x")
    done = unisono("sum", "--check", "m")
    assert (done.returncode, done.stdout) == (0, "a: OK\n")
    assert "m:1: it has more than 1048576 bytes" in done.stderr
