"""The crates and their arrows as ARCHITECTURE.md has them, against what cargo says: run by tests/architecture.sh."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"^unisono-(\w+) +\[([\w ]*)\]", re.MULTILINE)


def drawn() -> dict[str, list[str]]:
    """The crates that each depends on, by the map."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    return {name: sorted(others.split()) for name, others in LINE.findall(text)}


def built() -> dict[str, list[str]]:
    """The same by the manifests. What only tests need points where it likes."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)[
        "packages"
    ]
    return {
        package["name"].removeprefix("unisono-"): sorted(
            {
                needed["name"].removeprefix("unisono-")
                for needed in package["dependencies"]
                if needed["name"].startswith("unisono-") and needed["kind"] is None
            }
        )
        for package in packages
    }


def main() -> int:
    map_, truth = drawn(), built()
    wrong = [
        f"unisono-{name}: the map says {map_.get(name)}, its manifest {truth.get(name)}"
        for name in sorted(map_.keys() | truth.keys())
        if map_.get(name) != truth.get(name)
    ]
    for line in wrong:
        print(f"architecture: {line}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
