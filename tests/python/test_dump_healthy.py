"""`unisono.dump()` accuses no program that waits for what will come: each of `support/healthy.py`, on each loop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import healthy
from support.processes import PATIENCE

DUMPED = Path(__file__).parents[1] / "support" / "dumped.py"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_programs_that_wait_are_not_accused(loop, tmp_path):
    words = [loop] if loop == "uvloop" else []
    if words:
        pytest.importorskip("uvloop")
    command = [sys.executable, DUMPED, "healthy", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    seen = dict(json.loads(line) for line in done.stdout.splitlines())
    assert list(seen) == [program.__name__ for program in healthy.PROGRAMS]
    assert len(seen) >= 40
    for name, dump in seen.items():
        accused = [finding for finding in dump["findings"] if finding["certainty"] != "fact"]
        assert not accused, (name, accused)
