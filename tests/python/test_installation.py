"""What an installed wheel holds beside the package, and which interpreters it refuses."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import unisono

FILES = [Path(path.locate()).resolve() for path in importlib.metadata.files("unisono")]


@pytest.mark.parametrize(
    "end",
    [
        "bin/unisono",
        "unisono/_native.pyi",
        "unisono/py.typed",
        "unisono/testing.pem",
        "share/man/man1/unisono.1",
        "share/man/man1/unisono-fetch.1",
        "share/bash-completion/completions/unisono",
        "share/zsh/site-functions/_unisono",
        "share/fish/vendor_completions.d/unisono.fish",
        "licenses/LICENSE-MIT",
        "licenses/LICENSE-APACHE",
        "licenses/THIRD-PARTY-LICENSES",
        "sboms/unisono.cyclonedx.json",
    ],
)
def test_the_wheel_installs_it(end):
    [path] = [path for path in FILES if str(path).endswith("/" + end)]
    assert path.stat().st_size > 0 or end == "unisono/py.typed"


def test_the_bill_of_materials_is_of_this_version_and_covers_command_and_module():
    [path] = [path for path in FILES if path.name == "unisono.cyclonedx.json"]
    bill = json.loads(path.read_text())
    assert bill["metadata"]["component"]["version"] == unisono.__version__
    assert {"unisono-cli", "unisono-python", "clap", "pyo3"} <= {part["name"] for part in bill["components"]}


def test_the_man_pages_are_of_this_version():
    [path] = [path for path in FILES if path.name == "unisono-fetch.1"]
    assert unisono.__version__ in path.read_text()


def test_a_free_threaded_interpreter_is_refused_with_the_one_to_take():
    code = "import sys; sys.abiflags = 't'; import unisono"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode == 1
    assert "ImportError: unisono does not support free-threaded CPython yet" in done.stderr
    assert f"use python{version} instead of python{version}t" in done.stderr
