"""Every example of the README and the pages that is marked to be run, run as it is written, one after the other."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PATTERN = re.compile(r"^```(sh|python) run\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLES = PATTERN.findall(README.read_text())
PAGES = {
    f"{page.stem}-{number}": example
    for page in sorted((ROOT / "docs").glob("*.md"))
    for number, example in enumerate(PATTERN.findall(page.read_text()))
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_as_it_is_written(server, folder, number):
    language, code = EXAMPLES[number]
    # What an example before it has written may be used, so all are run up to this one only when it is run alone.
    if "rows.csv" in code and not (folder / "rows.csv").exists():
        (folder / "rows.csv").write_text("region,id\neu,1\nus,2\n")
    done = run(language, code, server, folder)
    assert done.stdout or (folder / "items.jsonl").exists()


@pytest.mark.parametrize("name", PAGES)
def test_an_example_of_a_page_runs_as_it_is_written(server, tmp_path, name):
    language, code = PAGES[name]
    assert run(language, code, server, tmp_path).stdout


def run(language, code, server, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "API": server.url, "PATH": path}
    if language == "python":
        # A file, so that worker processes can find what it defines.
        (folder / "example.py").write_text(code)
    program = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "example.py"]
    done = subprocess.run(
        program, capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done


def test_there_are_examples_and_all_languages_are_known():
    assert len(EXAMPLES) >= 8
    assert set(re.findall(r"^```(\w*)", README.read_text(), re.MULTILINE)) <= {"sh", "python", "json", "rust", ""}


def test_the_program_in_rust_is_the_example_that_cargo_builds():
    (program,) = re.findall(r"^```rust\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    source = (ROOT / "examples/who_listens.rs").read_text()
    assert program == source[source.index("use std::") :]


def test_the_program_in_rust_says_what_became_of_each_address():
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as bound:
        # What is bound and does not listen refuses.
        bound.bind(("127.0.0.1", 0))
        here, away = (f"127.0.0.1:{one.getsockname()[1]}" for one in (listening, bound))
        command = ["cargo", "run", "-q", "-p", "unisono-batch", "--example", "who_listens", "--", here, away, "nowhere"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert said[here] == "listens (ok, attempts: 1)"
    assert said[away].endswith("(failed, attempts: 3)")
    assert said["nowhere"].endswith("(failed, attempts: 1)")
