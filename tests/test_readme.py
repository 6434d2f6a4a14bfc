"""Every example of the README that is marked to be run, run as it is written, one after the other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"^```(sh|python) run\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_as_it_is_written(server, folder, number):
    language, code = EXAMPLES[number]
    # What an example before it has written may be used, so all are run up to this one only when it is run alone.
    if "rows.csv" in code and not (folder / "rows.csv").exists():
        (folder / "rows.csv").write_text("region,id\neu,1\nus,2\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "API": server.url, "PATH": path}
    program = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(
        program, capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or (folder / "items.jsonl").exists()


def test_there_are_examples_and_all_languages_are_known():
    assert len(EXAMPLES) >= 8
    assert set(re.findall(r"^```(\w*)", README.read_text(), re.MULTILINE)) <= {"sh", "python", "json", ""}
