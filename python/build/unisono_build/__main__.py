"""Builds the wheel into a folder: `python -m unisono_build target/wheels`.

As `pip wheel` would, but on the terminal, where cargo shows what it does and says what is wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import build_wheel

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
build_wheel(str(folder))
