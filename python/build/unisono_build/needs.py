"""What a build needs that pip cannot fetch: looked for before anything else, and named with the way to get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def check(*, compiler: bool = True) -> None:
    """Ends the process with what is missing, if something is. `compiler`: whether something will be linked."""
    # An older interpreter cannot even read what Rust is wanted.
    interpreter = _interpreter()
    looked_for = [interpreter] if interpreter else [_cargo(), _linker() if compiler else None]
    missing = [line for line in looked_for if line]
    if missing:
        lines = "\n".join(f"  - {line}" for line in missing)
        # An exception would reach the user as a traceback of pip's.
        sys.exit(f"\nunisono cannot be built here. What is missing:\n{lines}\n")


def cargo_command() -> str:
    """Cargo as the environment names it, or the one on PATH."""
    return os.environ.get("CARGO") or "cargo"


def cargo_home() -> Path:
    """Where cargo keeps its programs and the sources of crates."""
    return Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")


def _cargo() -> str | None:
    import tomllib

    wanted = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    how = f"Rust {wanted} or newer: https://rustup.rs, or your system's packages where they are as new"
    found = shutil.which(cargo_command())
    if found is None:
        beside = cargo_home() / "bin" / "cargo"
        if beside.exists():
            line = f"`source {beside.parent.parent / 'env'}` puts it there"
            return f"cargo is not on PATH, but lies in {beside.parent}: {line}"
        return f"cargo, Rust's build tool. {how}"
    said = subprocess.run([found, "--version"], capture_output=True, text=True, cwd=ROOT)
    version = re.match(r"cargo (\d+)\.(\d+)", said.stdout)
    if version is None:
        reason = (said.stderr or said.stdout).strip().splitlines() or ["it says nothing"]
        return f"a cargo that starts ({found}: {reason[0]}). {how}"
    if tuple(map(int, version.groups())) < tuple(map(int, wanted.split(".")[:2])):
        return (
            f"a newer Rust: this one is {'.'.join(version.groups())} ({found}). {how}; `rustup update` where rustup is"
        )
    return None


def _linker() -> str | None:
    if shutil.which(os.environ.get("CC") or "cc"):
        return None
    how = "`apt-get install gcc libc6-dev` (Debian, Ubuntu), `dnf install gcc` (Fedora, RHEL)"
    return f"a C compiler, which links what Rust compiles: {how}"


def _interpreter() -> str | None:
    if sys.version_info >= (3, 11) and sys.implementation.name == "cpython" and "t" not in getattr(sys, "abiflags", ""):
        return None
    return (
        f"CPython 3.11 or newer with the interpreter lock (this is {sys.implementation.name} "
        f"{sys.version.split()[0]}{sys.abiflags}, {sys.executable})"
    )
