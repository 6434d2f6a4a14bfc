"""Every dependency's licence is one that deny.toml allows; `cargo deny check` says the same where it is installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Evaluate an SPDX expression: `OR` needs one of its sides, `AND` both. A slash is the old way to write `OR`."""
    words = re.findall(r"\(|\)|[^\s()]+", re.sub(r"\s*/\s*", " OR ", expression))
    joined: list[str] = []
    for word in words:
        if joined and (word == "WITH" or joined[-1].endswith(" WITH")):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    names = {"(": "(", ")": ")", "OR": " or ", "AND": " and "}
    # Only these words and True and False are left, so evaluating is safe.
    return bool(eval("".join(names.get(word, str(word in allowed)) for word in joined)))


def main() -> int:
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)["packages"]
    bad = [
        f"{p['name']} {p['version']}: {p['license']}"
        for p in packages
        if not is_allowed(p["license"] or "none", allowed)
    ]
    for line in bad:
        print(f"licences: {line} is not allowed by deny.toml", file=sys.stderr)
    foreign = [p["name"] for p in packages if p["source"] and not p["source"].startswith("registry+")]
    for name in foreign:
        print(f"licences: {name} does not come from the registry", file=sys.stderr)
    return 1 if bad or foreign else 0


if __name__ == "__main__":
    sys.exit(main())
