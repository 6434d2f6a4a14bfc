"""The build backend: maturin, with the native command built beforehand so that it lies in the same wheel.

One cargo call builds command and module, so that they share every compiled dependency. `UNISONO_PROFILE` names the
cargo profile: `release` by default, `demo` for a build that is quick from nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import maturin
from maturin import (
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parents[2]
PROFILE = os.environ.get("UNISONO_PROFILE", "release")

SCRIPTS = ROOT / "python" / "unisono.data" / "scripts"


def prepare_metadata_for_build_wheel(directory: str, settings: Any = None) -> str:
    # maturin insists on the folder, long before there is anything in it.
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    return maturin.prepare_metadata_for_build_wheel(directory, settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_sdist(directory: str, settings: Any = None) -> str:
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    return maturin.build_sdist(directory, settings)


def build_wheel(directory: str, settings: Any = None, metadata: str | None = None) -> str:
    _build_command()
    return maturin.build_wheel(directory, _with_profile(settings), metadata)


def build_editable(directory: str, settings: Any = None, metadata: str | None = None) -> str:
    _build_command()
    return maturin.build_editable(directory, _with_profile(settings), metadata)


def _build_command() -> None:
    environment = {**os.environ, "PYO3_PYTHON": sys.executable, "PYO3_BUILD_EXTENSION_MODULE": "1"}
    command = ["cargo", "build", "--profile", PROFILE, "--locked", "-p", "unisono-cli", "-p", "unisono-python"]
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    shutil.copy2(target / PROFILE / "unisono", SCRIPTS / "unisono")


def _with_profile(settings: Any) -> dict[str, Any]:
    return {**(settings or {}), "build-args": f"--profile {PROFILE} --locked"}
