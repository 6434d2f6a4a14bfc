"""Options by types: each as it is meant to be, and mistakes that mypy and pyright are both to find.

Pyright is run as basedpyright, which comes with all that it needs, by the rules of pyright's own standard mode.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import unisono

TYPED = Path(__file__).parent.parent / "typed"
LONG = 300


def by_mypy(path, tmp_path):
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", tmp_path, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    found = re.findall(r"^(.*):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {int(line): message for file, line, message in found if Path(file).name == path.name}


def by_pyright(path, tmp_path):
    settings = {"include": [str(path)], "typeCheckingMode": "standard", "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    words = ["-m", "basedpyright", "--outputjson", "--project", tmp_path, "--pythonpath", sys.executable]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=LONG)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [one for one in json.loads(done.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    return {one["range"]["start"]["line"] + 1: one["message"] for one in found}


CHECKERS = {"mypy": by_mypy, "pyright": by_pyright}


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_option_as_it_is_meant_has_nothing_wrong(checker, tmp_path):
    assert CHECKERS[checker](TYPED / "right.py", tmp_path) == {}


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_mistake_is_found_and_nothing_else(checker, tmp_path):
    path = TYPED / "wrong.py"
    marked = {number for number, line in enumerate(path.read_text().splitlines(), 1) if "# wrong: " in line}
    found = CHECKERS[checker](path, tmp_path)
    assert len(marked) > 20
    assert found.keys() == marked, {line: found.get(line) for line in found.keys() ^ marked}


@pytest.mark.parametrize("kind", ["FetchOptions", "FileOptions", "VerifyOptions", "CommandOptions", "FunctionOptions"])
def test_every_option_that_there_is_has_its_example(kind):
    text = (TYPED / "right.py").read_text()
    given = set(re.findall(r"\b(\w+)=", text))
    assert getattr(unisono, kind).__annotations__.keys() - given == set()
