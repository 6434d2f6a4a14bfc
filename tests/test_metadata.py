"""What package indexes and installers are told of the package."""

import email
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.interpreters import SUPPORTED
from support.packages import group

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """As an installer asks the build backend for it."""
    folder = tmp_path_factory.mktemp("metadata")
    code = "import sys, unisono_build; print(unisono_build.prepare_metadata_for_build_wheel(sys.argv[1]))"
    path = f"{ROOT / 'python/build'}"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {code}", folder],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return email.message_from_string((folder / done.stdout.split()[-1] / "METADATA").read_text())


def test_it_says_who_made_it_and_where_it_runs(metadata):
    assert metadata["Author"] == "The unisono developers"
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    classifiers = metadata.get_all("Classifier")
    assert "Programming Language :: Python :: Implementation :: CPython" in classifiers
    assert not any("PyPy" in classifier for classifier in classifiers)
    assert [classifier for classifier in classifiers if "Operating System" in classifier] == [
        "Operating System :: POSIX :: Linux"
    ]


def test_its_version_is_that_of_the_workspace(metadata):
    assert metadata["Version"] == tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def test_the_versions_of_python_that_it_names_are_supported_ones(metadata):
    named = re.findall(r":: (3\.\d+)$", "\n".join(metadata.get_all("Classifier")), re.MULTILINE)
    assert named
    assert set(named) <= set(SUPPORTED)
    assert metadata["Requires-Python"] == f">={SUPPORTED[0]}"


def test_users_are_offered_the_clusters_and_nothing_that_only_developers_need(metadata):
    assert set(metadata.get_all("Provides-Extra")) == {"dask", "ray"}
    assert all("extra ==" in requirement for requirement in metadata.get_all("Requires-Dist"))


@pytest.mark.parametrize("name", PROJECT["dependency-groups"])
def test_a_group_pins_what_it_names_and_is_printed_for_pip(name):
    requirements = group(name)
    assert requirements
    assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", requirement) for requirement in requirements)
    # From any folder, as `make` and the benchmarks call it.
    script = ROOT / "tests/support/packages.py"
    printed = subprocess.run([sys.executable, script, name], cwd="/", capture_output=True, text=True, check=True).stdout
    assert printed.split() == requirements
