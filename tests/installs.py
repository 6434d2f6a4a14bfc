"""Installs unisono in each way that is not a wheel, in clean folders, and tries what came of it.

    .venv/bin/python tests/installs.py [cargo] [sdist] [editable]

`cargo install` of the command where there is no Python; a source distribution; and an editable install, of the sources that were
in it. Each compiles the workspace anew, so this is part of `make nightly` and not of CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from support.interpreters import path_of

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "target" / "installs"
# What a build needs on PATH beside cargo; each is one program, so that no interpreter is there by chance.
TOOLS = ["cargo", "rustc", "cc", "gcc", "ld", "ar", "as", "sh", "env"]


def main() -> None:
    """Runs the ways that are named, or all of them; ends with an error where one does not hold."""
    ways = {"cargo": cargo, "sdist": sdist, "editable": editable}
    for name in sys.argv[1:] or ways:
        with tempfile.TemporaryDirectory() as folder:
            ways[name](Path(folder))
        print(f"{name}: installed and tried")


def cargo(folder: Path) -> None:
    """The command alone, by Rust's own tool."""
    tools = folder / "tools"
    tools.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    environment = {**os.environ, "PATH": str(tools)}
    assert shutil.which("python3", path=str(tools)) is None
    call = ["cargo", "install", "--quiet", "--locked", "--profile", "demo", "--path", ROOT / "crates" / "unisono-cli"]
    subprocess.run([*call, "--root", folder / "root", "--target-dir", BUILD], check=True, env=environment, cwd=folder)
    command = folder / "root" / "bin" / "unisono"
    (folder / "tree").mkdir()
    (folder / "tree" / "file").write_text("content\n")
    lines = subprocess.run(
        [command, "sum", "tree"], check=True, env=environment, cwd=folder, capture_output=True, text=True
    )
    assert lines.stdout.endswith("tree/file\n"), lines.stdout


def sdist(folder: Path) -> None:
    """A wheel from the source distribution, in an environment of its own."""
    try_environment(folder, [unpacked(folder)])


def editable(folder: Path) -> None:
    """The package where its sources are; the checkout itself is left alone, since the module comes to lie in it."""
    sources = unpacked(folder)
    python = try_environment(folder, ["--editable", sources])
    where = [python, "-c", "import unisono; print(unisono.__file__)"]
    said = subprocess.run(where, check=True, capture_output=True, text=True, cwd=folder).stdout.strip()
    assert Path(said).is_relative_to(sources), said


def unpacked(folder: Path) -> Path:
    """Returns the folder of the sources as their distribution holds them."""
    code = "import sys, unisono_build; unisono_build.build_sdist(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python" / "build"), "PATH": path_of(Path(sys.executable))}
    subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=ROOT, env=environment)
    [archive] = folder.glob("unisono-*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(folder / "sources", filter="data")
    [inside] = (folder / "sources").iterdir()
    return inside


def try_environment(folder: Path, what: list[str | Path]) -> Path:
    """Installs into a fresh environment and runs the README's first examples there. Returns its interpreter."""
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "maturin>=1.9,<2"], check=True)
    settings = {"CARGO_TARGET_DIR": str(BUILD), "UNISONO_PROFILE": "demo", "PATH": path_of(python)}
    subprocess.run(
        [*pip, "--no-build-isolation", "--no-deps", *what], check=True, cwd=folder, env={**os.environ, **settings}
    )
    subprocess.run([sys.executable, ROOT / "tests" / "first_example.py", python], check=True, cwd=folder)
    return python


if __name__ == "__main__":
    main()
