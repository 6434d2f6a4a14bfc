"""What `make` and pip say before they build, and what they build from: real interpreters, a real cargo, folders of their own."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / "python" / "build" / "environment.py"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def make_environment(folder, *, path=None, profile="demo", **variables):
    """Runs what `make` runs first. `path` stands for PATH."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    environment.pop("CARGO", None)
    if path is not None:
        environment["PATH"] = str(path)
    return subprocess.run(
        [sys.executable, ENVIRONMENT, folder, profile], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def tools(tmp_path):
    """A folder of tools with a cargo that is new enough and a compiler."""
    script(tmp_path / "tools" / "cargo", "echo cargo 1.999.0")
    script(tmp_path / "tools" / "cc", "true")
    return tmp_path / "tools"


def test_without_cargo_it_says_so_and_where_to_get_it_before_anything_is_made(tmp_path, tools):
    (tools / "cargo").unlink()
    done = make_environment(tmp_path / "venv", path=tools, CARGO_HOME=tmp_path / "none")
    assert done.returncode == 1
    assert "  - cargo, Rust's build tool. Rust 1.89 or newer: https://rustup.rs" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_cargo_that_is_there_and_not_on_path_is_named_with_the_line_that_helps(tmp_path, tools):
    (tools / "cargo").rename(tools / "elsewhere")
    script(tmp_path / "home" / "bin" / "cargo", "true")
    done = make_environment(tmp_path / "venv", path=tools, CARGO_HOME=tmp_path / "home")
    assert done.returncode == 1
    assert f"not on PATH, but lies in {tmp_path / 'home' / 'bin'}: `source {tmp_path / 'home' / 'env'}`" in done.stderr


@pytest.mark.parametrize(
    ("said", "message"),
    [("echo cargo 1.63.0", "a newer Rust: this one is 1.63"), ("echo no toolchain >&2; exit 1", "cargo that starts")],
)
def test_a_cargo_that_is_too_old_or_does_not_start_is_named(tmp_path, tools, said, message):
    script(tools / "cargo", said)
    done = make_environment(tmp_path / "venv", path=tools)
    assert done.returncode == 1
    assert message in done.stderr
    assert str(tools / "cargo") in done.stderr


def test_all_that_is_missing_is_said_at_once(tmp_path):
    done = make_environment(tmp_path / "venv", path=tmp_path, CARGO_HOME=tmp_path)
    assert [line[:6] for line in done.stderr.splitlines() if line.startswith("  - ")] == ["  - ca", "  - a "]
    assert "gcc" in done.stderr


def test_an_interpreter_without_ensurepip_is_told_what_to_install(tmp_path, tools):
    # What Debian's interpreter lacks without its python3-venv.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import importlib.machinery as machinery\n"
        "find = machinery.PathFinder.find_spec\n"
        "machinery.PathFinder.find_spec = lambda name, *rest: None if name == 'ensurepip' else find(name, *rest)\n"
    )
    done = make_environment(tmp_path / "venv", path=tools, PYTHONPATH=tmp_path / "site")
    assert done.returncode == 1
    assert f"apt-get install python{sys.version_info.major}.{sys.version_info.minor}-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_half_made_environment_is_made_anew_and_a_whole_one_is_left_alone(tmp_path, tools):
    folder = tmp_path / "venv"
    # As a `venv` leaves it that failed for want of `ensurepip`.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (folder / "installed").touch()
    done = make_environment(folder, path=tools)
    assert done.returncode == 0, done.stderr
    assert "made anew, since it is half made or of another interpreter" in done.stderr
    assert not (folder / "installed").exists(), "what was built into the old one is no longer in it"
    assert (
        subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "--version"], capture_output=True, check=False
        ).returncode
        == 0
    )

    whole, stamp = (folder / "pyvenv.cfg").stat(), (folder / "profile").stat()
    again = make_environment(folder, path=tools)
    assert (again.returncode, again.stderr) == (0, "")
    assert (folder / "pyvenv.cfg").stat().st_mtime_ns == whole.st_mtime_ns
    assert (folder / "profile").stat().st_mtime_ns == stamp.st_mtime_ns, "make builds nothing anew"

    assert make_environment(folder, path=tools, profile="release").returncode == 0
    assert (folder / "profile").read_text() == "release\n"
    assert (folder / "pyvenv.cfg").stat().st_mtime_ns == whole.st_mtime_ns

    # One that is cut off earlier still.
    (folder / "pyvenv.cfg").unlink()
    assert "made anew" in make_environment(folder, path=tools).stderr

    # Of another interpreter: one that says so.
    (folder / "bin" / "python").unlink()
    script(folder / "bin" / "python", "echo /opt/other/bin/python3")
    other = make_environment(folder, path=tools)
    assert other.returncode == 0, other.stderr
    assert "made anew" in other.stderr


def test_pip_shows_what_is_missing_instead_of_a_traceback(tmp_path, tools):
    (tools / "cargo").unlink()
    environment = {**os.environ, "PATH": str(tools), "CARGO_HOME": str(tmp_path / "none")}
    environment.pop("CARGO", None)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", tmp_path / "wheels", ROOT],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "unisono cannot be built here. What is missing:" in said
    assert "cargo, Rust's build tool" in said
    assert "Traceback" not in said


@pytest.fixture
def workspace(tmp_path):
    """A workspace of the same shape as ours, and built in a second, with our build backend in it."""
    root = tmp_path / "workspace"
    shutil.copytree(ROOT / "python" / "build", root / "python" / "build")
    (root / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["crates/*"]\nresolver = "2"\n[workspace.package]\nrust-version = "1.89"\n'
        '[profile.demo]\ninherits = "dev"\n'
    )
    for name, source, code in [
        ("unisono-cli", "main", 'fn main() { println!("it is the one that was built"); }'),
        ("unisono-python", "lib", ""),
    ]:
        crate = root / "crates" / name
        (crate / "src").mkdir(parents=True)
        (crate / "src" / f"{source}.rs").write_text(code)
        manifest = f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n'
        (crate / "Cargo.toml").write_text(
            manifest + ('[[bin]]\nname = "unisono"\npath = "src/main.rs"\n' if source == "main" else "")
        )
    subprocess.run(["cargo", "generate-lockfile", "--offline"], cwd=root, capture_output=True, check=True)
    return root


def host():
    said = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return next(line.removeprefix("host: ") for line in said.splitlines() if line.startswith("host: "))


@pytest.mark.parametrize(
    "way", ["plain", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_TARGET", "target-dir", "target"]
)
def test_the_command_is_found_wherever_cargo_is_told_to_put_it(workspace, tmp_path, way):
    environment = {
        **os.environ,
        "PYTHONPATH": str(workspace / "python" / "build"),
        "UNISONO_PROFILE": "demo",
        "CI": "1",
    }
    for name in ("CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_TARGET"):
        environment.pop(name, None)
    if way.startswith("CARGO"):
        environment[way] = host() if way == "CARGO_BUILD_TARGET" else str(tmp_path / "out")
    elif way != "plain":
        (workspace / ".cargo").mkdir()
        (workspace / ".cargo" / "config.toml").write_text(
            f'[build]\n{way} = "{host() if way == "target" else tmp_path / "out"}"\n'
        )
    done = subprocess.run(
        [sys.executable, "-c", "from unisono_build import cargo; print(cargo.build(*cargo.BINARIES))"],
        cwd=workspace, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = Path(done.stdout.strip())
    assert (
        "it is the one that was built" in subprocess.run([command], capture_output=True, text=True, check=True).stdout
    )


def test_an_error_of_the_compiler_is_shown_and_ends_the_build_without_a_traceback(workspace):
    (workspace / "crates" / "unisono-cli" / "src" / "main.rs").write_text("fn main() { no_such_function(); }")
    done = subprocess.run(
        [sys.executable, "-c", "from unisono_build import cargo; cargo.build(*cargo.BINARIES)"],
        cwd=workspace, env={**os.environ, "PYTHONPATH": str(workspace / "python" / "build"), "UNISONO_PROFILE": "demo", "CI": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no_such_function" in done.stderr
    assert "ended with 101; what it says stands above" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def backend():
    """The parts of the backend that read the sources of this project."""
    sys.path.insert(0, str(ROOT / "python" / "build"))
    try:
        from unisono_build import cargo, notices, sbom

        yield cargo, notices, sbom
    finally:
        sys.path.remove(str(ROOT / "python" / "build"))


def test_the_bill_of_materials_covers_what_command_and_module_link_and_names_no_path(backend):
    cargo, _, sbom = backend
    packages = cargo.linked(*cargo.BINARIES)
    bill = sbom.document(packages)
    names = {component["name"] for component in bill["components"]}
    # Of the command alone, of the module alone, and of both.
    assert {"clap", "pyo3", "tokio", "unisono-cli", "unisono-python"} <= names
    assert not names & {"serde_derive", "clap_derive", "loom", "cc"}, "macros, tests and builds are not linked"
    assert all("hashes" in component for component in bill["components"] if not component["name"].startswith("unisono"))
    references = {component["bom-ref"] for component in bill["components"]}
    assert all(set(entry["dependsOn"]) <= references for entry in bill["dependencies"])
    assert str(Path.home()) not in json.dumps(bill)
    assert str(ROOT) not in json.dumps(bill)


def test_the_licence_of_each_crate_that_is_linked_is_in_the_notices_with_a_text(backend):
    cargo, notices, _ = backend
    packages = cargo.linked(*cargo.BINARIES)
    text = notices.text(packages)
    head, _, bodies = text.partition("=" * 80)
    for package in packages:
        if package["source"] is not None:
            assert f"\n{package['name']} {package['version']}: {package['license']}" in head
            assert f"{package['name']} {package['version']}" in bodies


def test_a_crate_whose_licence_has_no_text_anywhere_ends_the_build(backend, tmp_path):
    _, notices, _ = backend
    alone = {
        "name": "bare", "version": "1.0.0", "license": "ISC", "source": "registry", "repository": None, "authors": [],
        "manifest_path": str(tmp_path / "Cargo.toml"),
    }  # fmt: skip
    with pytest.raises(SystemExit, match=r"bare 1\.0\.0 \(ISC\) comes without the text of its licence"):
        notices.text([alone])
    (tmp_path / "COPYING").write_text("the text\n")
    assert notices.text([alone]).endswith("bare 1.0.0\n" + "=" * 80 + "\n\nthe text\n")
