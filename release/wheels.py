"""Builds a wheel for each CPython that is supported, against an old glibc, and tries those whose interpreter is here.

    make wheels                        all of them, into target/dist
    make wheels VERSIONS="3.11 3.13"   some

The command is the same in all and built once. zig, from its Python package, links both against the glibc of the tag,
whatever this system has. A module for an interpreter that is not here is built from what maturin knows of it, and is
said to be untried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.interpreters import SUPPORTED, interpreter
from unisono_build import cargo, contents, needs

ROOT = Path(__file__).resolve().parents[1]

# CentOS 7 and everything since. The tag that the wheels get is the one whose symbols they need.
GLIBC = "2.17"
TARGET = "x86_64-unknown-linux-gnu"
WHEELS = ROOT / "target" / "dist"


def main(versions: list[str]) -> None:
    """Leaves the wheels in target/dist, or ends the process with what is wrong with one."""
    needs.check()
    os.environ.update(without_build_paths())
    shutil.rmtree(WHEELS, ignore_errors=True)
    contents.prepare()
    command = cargo.build("unisono-cli", command=("zigbuild", "--target", f"{TARGET}.{GLIBC}"))
    contents.write(command)
    report = []
    for version in versions:
        python = interpreter(version)
        wheel = build(version, python)
        tag = audited(wheel)
        if python is None:
            report.append(f"{wheel.name}: {tag}; NOT TRIED, there is no CPython {version} here")
        else:
            tried(wheel, python)
            report.append(f"{wheel.name}: {tag}; installed without Rust, the README's first examples run on {python}")
    print(*report, sep="\n")


def build(version: str, python: Path | None) -> Path:
    """Returns the path of the wheel for a version of CPython."""
    before = set(WHEELS.glob("*.whl"))
    call = ["maturin", "build", "--locked", "--profile", cargo.PROFILE, "--out", WHEELS, "--target", TARGET]
    call += [
        "--zig",
        "--compatibility",
        f"manylinux_{GLIBC.replace('.', '_')}",
        "--interpreter",
        python or f"python{version}",
    ]
    subprocess.run(call, cwd=ROOT, check=True)
    [wheel] = set(WHEELS.glob("*.whl")) - before
    return wheel


def audited(wheel: Path) -> str:
    """Returns auditwheel's verdict on a wheel; ends the process where it is another than the tag in its name."""
    output = subprocess.run(["auditwheel", "show", wheel], capture_output=True, text=True, check=True).stdout
    words = " ".join(output.split())
    expected = f"manylinux_{GLIBC.replace('.', '_')}_x86_64"
    if f'consistent with the following platform tag: "{expected}"' not in words:
        sys.exit(f"{wheel.name} is not {expected}:\n{output}")
    if paths := build_paths(wheel):
        sys.exit(f"{wheel.name} names paths of this machine: {', '.join(paths)}")
    return f"auditwheel says {expected}"


def build_paths(wheel: Path) -> list[str]:
    """The names of the files in a wheel that name a folder of this build."""
    marks = [str(ROOT).encode(), str(needs.cargo_home()).encode()]
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(wheel, folder, "zip")
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return [str(path.relative_to(folder)) for path in files if any(mark in path.read_bytes() for mark in marks)]


def tried(wheel: Path, python: Path) -> None:
    """Installs a wheel where no Rust is on PATH, and runs the README's first examples and the man page's command."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join(
            entry for entry in os.environ["PATH"].split(os.pathsep) if not (Path(entry) / "cargo").exists()
        )
        environment = {**os.environ, "PATH": path}
        fresh = Path(folder, "venv")
        subprocess.run([python, "-m", "venv", fresh], check=True)
        pip = [fresh / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        subprocess.run([*pip, wheel], check=True, env=environment, cwd=folder)
        examples = [sys.executable, ROOT / "tests" / "first_example.py", fresh / "bin" / "python"]
        subprocess.run(examples, check=True, env=environment, cwd=folder)


def without_build_paths() -> dict[str, str]:
    """What makes compilers write short names for the folders of this build."""
    folders = {needs.cargo_home(): "cargo", ROOT: "unisono"}
    flags = [f"--remap-path-prefix={folder}={name}" for folder, name in folders.items()]
    return {
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "CFLAGS": " ".join(f"-ffile-prefix-map={folder}={name}" for folder, name in folders.items()),
    }


if __name__ == "__main__":
    main(sys.argv[1:] or list(SUPPORTED))
