"""`unisono.dump()` names the line that is to blame: each program of `examples/stuck`, on each loop."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "stuck").glob("*.py"))
DUMPED = ROOT / "tests" / "support" / "dumped.py"


def dump_of(example, *words, cwd):
    command = [sys.executable, DUMPED, "stuck", example, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def culprit(example):
    lines = example.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if "# the culprit" in line)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_the_first_line_that_is_named_is_the_culprits(example, loop, tmp_path):
    words = [loop] if loop == "uvloop" else []
    if words:
        pytest.importorskip("uvloop")
    if example.stem == "forty_endpoints":
        pytest.importorskip("uvicorn")
    text = dump_of(example, *words, cwd=tmp_path)
    named = re.search(r"(\S+\.py):(\d+)", text)
    assert named, text
    assert (Path(named[1]).name, int(named[2])) == (example.name, culprit(example)), text
