"""The program that runs the tests on each interpreter, with interpreters that are scripts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import matrix
from support import interpreters
from support.packages import group

ROOT = Path(__file__).parents[1]


def test_the_chosen_part_and_its_packages_are_there():
    for name in matrix.CHOSEN:
        assert (ROOT / "tests" / "python" / f"test_{name}.py").exists(), name
    packages = [re.split(r"[=\[]", package)[0] for package in group("dev")]
    assert set(matrix.CHOSEN_PACKAGES) <= set(packages)


def test_contributing_names_every_version_that_is_supported():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(version in text for version in interpreters.SUPPORTED)


@pytest.fixture
def pyenv(tmp_path, monkeypatch):
    """Makes an interpreter that says what it is told to; nothing else is found."""
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def add(folder, text):
        path = tmp_path / folder / "bin" / "python"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return add


def test_an_interpreter_is_one_that_starts_and_is_of_the_version(pyenv):
    assert interpreters.interpreter("3.12") is None
    pyenv("versions/3.12.9", "exit 1")
    assert interpreters.interpreter("3.12") is None
    pyenv("versions/3.12.8", "echo 3.11 /somewhere/else")
    assert interpreters.interpreter("3.12") is None
    pyenv("versions/3.12.7", "echo 3.12 /opt/python3.12")
    assert interpreters.interpreter("3.12") == Path("/opt/python3.12")


def test_what_is_not_here_is_said_and_is_no_failure(tmp_path):
    environment = {**os.environ, "PYENV_ROOT": str(tmp_path), "PATH": "/nonexistent", "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "matrix.py", "--chosen", "3.14"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "NOT RUN: Python 3.14: there is neither a python3.14 nor one of pyenv's here" in done.stderr


def test_the_table_has_a_line_for_each_version_and_names_what_failed():
    good = matrix.Result(
        "3.12", "3.12.1", ["10 passed, 0 failed, 0 skipped", "came without", "", "63 passed", "as the module"]
    )
    bad = matrix.Result(
        "3.13", "3.13.0", ["9 passed, 1 failed, 0 skipped", "", "", "", "differs"], failed=["pytest tests ended with 1"]
    )
    text = matrix.table([good, bad, matrix.Result("3.14", not_run=["there is none"])])
    assert "| 3.12.1 | 10 passed, 0 failed, 0 skipped | came without |  | 63 passed | as the module |" in text
    assert "| 3.14 | not run: not on the machine that ran this |" in text
    assert "What failed:\n\n- 3.13.0: pytest tests ended with 1\n" in text
    assert matrix.table([good]).endswith("Nothing failed.\n")
