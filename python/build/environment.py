"""Makes or mends the environment that `make` builds into, and says what is missing before anything is built.

    python3 python/build/environment.py .venv demo

Run by the interpreter that the environment is to have. It is left alone where it is whole and of this interpreter.
The second argument, the cargo profile, is written to `profile` in it when it is another one than before: what was
built is older than that file then, and make builds it anew.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from unisono_build import needs

# Without its configuration an environment's python is the interpreter that it stands on, with that one's pip.
WHOLE = "import pip, sys; assert sys.prefix != sys.base_prefix"
BASE = 'import os, sys; print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))'


def main(folder: Path, profile: str) -> None:
    """Leaves a whole environment in `folder`, or ends the process with what is missing."""
    needs.check()
    if not _is_whole(folder) or _base(folder / "bin" / "python") != _base(Path(sys.executable)):
        _make(folder)
    stamp = folder / "profile"
    if not stamp.exists() or stamp.read_text().strip() != profile:
        stamp.write_text(profile + "\n")


def _make(folder: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Debian's interpreters come without: `venv` is there, and fails half way for want of `ensurepip`.
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        sys.exit(
            f"\nunisono's environment cannot be made: {sys.executable} has no `venv` with `ensurepip`.\n"
            f"  - `apt-get install python{version}-venv` (Debian, Ubuntu; python3-venv for the system's own),\n"
            "    or another interpreter: make PYTHON=/path/to/python3\n"
        )
    state = "made" if not folder.exists() else "made anew, since it is half made or of another interpreter"
    print(f"{folder} is {state}: {sys.executable}, Python {version}", file=sys.stderr)
    if folder.exists():
        shutil.rmtree(folder)
    result = subprocess.run([sys.executable, "-m", "venv", folder], stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        command = f"{sys.executable} -m venv {folder}"
        sys.exit(f"\nunisono's environment was not made: `{command}` ended with {result.returncode}\n")


def _is_whole(folder: Path) -> bool:
    python = folder / "bin" / "python"
    return os.access(python, os.X_OK) and _says(python, WHOLE) is not None


def _base(python: Path) -> str | None:
    """The interpreter that an environment's stands on, or itself where it is in none."""
    return _says(python, BASE)


def _says(python: Path, code: str) -> str | None:
    try:
        result = subprocess.run([python, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
