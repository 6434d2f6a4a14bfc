"""What ARCHITECTURE.md says, against what is there: the crates and their arrows, and the paths of its table.

Run by tests/architecture.sh.
"""

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


def paths() -> list[str]:
    """Each path of the table "Where to look", with `{a,b}` as a shell expands it."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text[text.index("## Where to look") : text.index("## How data flows")]
    return [path for each in re.findall(r"`((?:crates|python)/[^`]+)`", table) for path in expanded(each)]


def expanded(path: str) -> list[str]:
    """What a shell makes of braces, which do not stand in each other here."""
    group = re.search(r"\{([^}]*)\}", path)
    if group is None:
        return [path]
    return [one for part in group[1].split(",") for one in expanded(path[: group.start()] + part + path[group.end() :])]


def main() -> int:
    if sys.argv[1:] == ["--paths"]:
        print(*paths(), sep="\n")
        return 0
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
