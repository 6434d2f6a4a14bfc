"""Small programs for httpx, aiohttp and requests run with ours when their import is changed and two lines are edited."""

import subprocess
import sys

import pytest
from migrating import FOLDER, NAMES, PAGE, edited, page, prints

LONG = 60


@pytest.mark.parametrize("name", NAMES)
def test_a_program_of_another_library_runs_when_two_lines_are_edited(name, server):
    gone, come = edited(name)
    assert max(gone, come) <= 2
    words = [sys.executable, "-W", "error", FOLDER / "after" / f"{name}.py", server.url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG)
    assert (done.stdout.splitlines(), done.returncode) == (prints(name), 0), done.stderr


def test_there_are_twelve_of_three_libraries():
    assert len(NAMES) >= 12
    assert {name.partition("_")[0] for name in NAMES} == {"httpx", "aiohttp", "requests"}


def test_the_page_is_made_of_the_programs():
    assert PAGE.read_text() == page(), "python tests/python/migrating.py --write"
