"""What people type first who come from curl, wget, aria2, xargs or GNU parallel (`first_lines.toml`): it works, or one
message of ours says what to type, before anything is done."""

import gzip
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from support.installed import COMMAND
from support.server import Server

TABLE = tomllib.loads(Path(__file__).with_name("first_lines.toml").read_text())
LINES = [(program, *line) for program, lines in TABLE.items() for line in lines]

# How a parser of arguments speaks, and a program that has failed.
NOT_OURS = re.compile(
    r"Traceback|panicked|unexpected argument|invalid value|similar|tip:|For more information|Usage:"
    r"|required arguments|cannot be used with|subcommand"
)


@pytest.fixture
def site6():
    server = Server(host="::1")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path, server):
    """A folder with what the lines name, and nothing else to change."""
    folder = tmp_path / "here"
    for name in ("sub", "destdir"):
        (folder / name).mkdir(parents=True)
    for name in ("a.html", "b.html", "a.wav", "x.log", "y.log", "a.jpg", "b.jpg", "core", "uploadfile", "sub/1"):
        (folder / name).write_text(f"FOO BAR {name}\n")
    (folder / "a.gz").write_bytes(gzip.compress(b"text\n"))
    (folder / "urls").write_text(f"{server.url}/items/1\n{server.url}/items/2\n")
    return folder


def run(line, folder, server, site6):
    environment = {
        "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder.parent),
        "SITE": server.url,
        "SITE6": site6.url,
    }
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def found(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("program", "theirs", "line", "says"), LINES, ids=[f"{at}: {theirs}" for at, (_, theirs, _, _) in enumerate(LINES)]
)
def test_a_first_line_of_another_program_works_or_one_message_says_what_to_type(
    folder, server, site6, program, theirs, line, says
):
    before = found(folder)
    done = run(line, folder, server, site6)
    assert not NOT_OURS.search(done.stderr), done.stderr
    errors = re.findall("^error: .*", done.stderr, re.MULTILINE)
    hints = re.findall("^hint: .*", done.stderr, re.MULTILINE)
    assert len(errors) <= 1 and len(hints) <= 1, done.stderr
    if not says:
        assert (done.returncode, errors) == (0, []), done.stderr
    elif says.startswith("warning: "):
        warnings = re.findall("^warning: .*", done.stderr, re.MULTILINE)
        assert len(warnings) == 1 and done.stderr.startswith("warning: "), done.stderr
        assert has_words(warnings[0], says.removeprefix("warning: ")), done.stderr
    else:
        # One message, which is all that is said.
        assert len(errors) == 1 and done.stderr.splitlines() == errors + hints, done.stderr
        assert has_words(done.stderr, says), done.stderr
        # Nothing was done, and nothing was begun that a later line would have to go on with.
        assert {path: text for path, text in found(folder).items() if text} == before
        # Of two in a pipeline one has something to do.
        if line.count("unisono") == 1:
            assert (done.returncode, server.requests) == (2, [])


def has_words(text, words):
    at = 0
    for word in words.split(" … "):
        found = text.find(word, at)
        if found < 0:
            return False
        at = found + len(word)
    return True


def test_the_table_has_lines_of_each_program_and_none_twice():
    assert set(TABLE) == {"curl", "wget", "aria2c", "xargs", "parallel"}
    assert len(LINES) >= 60 and all("unisono" in line for _, _, line, _ in LINES)
    assert len({theirs for _, theirs, _, _ in LINES}) == len(LINES)
