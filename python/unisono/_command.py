"""The native command that belongs to this package: it lies where the scripts of this interpreter are."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

__all__ = ["folders", "native"]


def native() -> Path | None:
    """The command; `None` where it is not there."""
    commands = (folder / "unisono" for folder in folders())
    return next((command for command in commands if os.access(command, os.X_OK)), None)


def folders() -> list[Path]:
    """Where it is looked for."""
    # With `pip install --user` scripts are in a place of their own.
    return [Path(sysconfig.get_path("scripts")), Path(sysconfig.get_path("scripts", "posix_user"))]
