"""The versions of CPython that are supported, and where the interpreters of this machine are."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")


def interpreter(version: str) -> Path | None:
    """The path of an interpreter that starts, or None. A shim of pyenv's may stand for none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = shutil.which(f"python{version}")
    candidates = ([Path(found)] if found else []) + sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)
    for python in candidates:
        code = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        try:
            said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.split()
        except OSError:
            continue
        if said[:1] == [version]:
            return Path(said[1])
    return None


def path_of(python: Path) -> str:
    """PATH with the programs of an interpreter's environment first."""
    return f"{python.parent}{os.pathsep}{os.environ['PATH']}"
