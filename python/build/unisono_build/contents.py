"""What lies in a wheel beside the Python files and the module, written to where maturin looks for it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from . import cargo, notices, sbom
from .needs import ROOT

# maturin packs this folder as the wheel's `.data`: `scripts` goes to `bin`, and `data` to the root of the environment.
DATA = ROOT / "python" / "unisono.data"
SCRIPTS = DATA / "scripts"
SHARE = DATA / "data" / "share"

# Named in pyproject.toml, from where maturin takes them.
NOTICES = ROOT / "THIRD-PARTY-LICENSES"
SBOM = ROOT / "unisono.cyclonedx.json"


def prepare() -> None:
    """Writes what the wheel's metadata names, which has to lie there before any hook of maturin's runs."""
    # maturin insists on the folder, long before there is anything in it.
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    packages = cargo.linked(*cargo.BINARIES)
    _write(NOTICES, notices.text(packages))
    _write(SBOM, json.dumps(sbom.document(packages), indent=1, sort_keys=True) + "\n")


def write(command: Path) -> None:
    """Writes the command, and what only the command can say: its pages and its completions."""
    shutil.rmtree(DATA)
    SCRIPTS.mkdir(parents=True)
    shutil.copy2(command, SCRIPTS / "unisono")
    subprocess.run([command, "completions", "man", "--folder", SHARE / "man" / "man1"], check=True)
    for shell, path in {
        "bash": "bash-completion/completions/unisono",
        "zsh": "zsh/site-functions/_unisono",
        "fish": "fish/vendor_completions.d/unisono.fish",
    }.items():
        output = subprocess.run([command, "completions", shell], stdout=subprocess.PIPE, text=True, check=True).stdout
        _write(SHARE / path, output)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
