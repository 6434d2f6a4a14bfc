"""Disks that are soon full: small file systems in memory, mounted for one test."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A new file system of so much room at `folder`."""
    if os.geteuid() != 0:
        pytest.skip("a small file system is mounted for this: run as root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def resize(folder: Path, size: str) -> None:
    """Give one more room."""
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
