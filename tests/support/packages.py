"""What a dependency group of pyproject.toml names: `python tests/support/packages.py dev` prints one requirement per line.

`pip install --group dev` is the same for pip 25.1 and newer; the interpreters that are supported bring older ones.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def group(name: str) -> list[str]:
    """The requirements of a group; none includes another."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["dependency-groups"][name]


if __name__ == "__main__":
    print(*group(sys.argv[1]), sep="\n")
