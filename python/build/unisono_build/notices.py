"""The licences of what is linked, as their terms ask: each text once, with the crates that it covers."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from .needs import ROOT

_NAME = re.compile(r"(?i)^(licen[cs]e|copying|copyright|notice|unlicense)\b")


def text(packages: list[dict[str, Any]]) -> str:
    """Returns the notices for packages as `cargo metadata` describes them; ends the process where a text is missing."""
    others = [package for package in packages if package["source"] is not None]
    covered: dict[str, list[str]] = defaultdict(list)
    for package in others:
        for body in _texts(package, others):
            covered[body.strip()].append(f"{package['name']} {package['version']}")
    lines = [
        "unisono's native command and module contain the crates below and the standard library of Rust.",
        "",
        "The standard library of Rust: MIT OR Apache-2.0, Copyright (c) The Rust Project Contributors.",
        *(f"{package['name']} {package['version']}: {package['license']}" for package in others),
    ]
    for body, labels in sorted(covered.items(), key=lambda item: item[1]):
        lines += ["", "=" * 80, ", ".join(labels), "=" * 80, "", body]
    return "\n".join(lines) + "\n"


def _texts(package: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    """The texts that a crate brings, or that stand for it where it names a licence and brings none."""
    family = [
        package,
        *(other for other in others if other["repository"] and other["repository"] == package["repository"]),
    ]
    for member in family:
        if files := _files(member):
            return [file.read_text(encoding="utf-8", errors="replace") for file in files]
    licences = re.split(r" OR |/", package["license"] or "")
    if "Apache-2.0" in licences:
        return [(ROOT / "LICENSE-APACHE").read_text()]
    if "MIT" in licences and package["authors"]:
        _, _, terms = (ROOT / "LICENSE-MIT").read_text().partition("Permission is hereby granted")
        return [f"Copyright (c) {', '.join(package['authors'])}\n\nPermission is hereby granted{terms}"]
    sys.exit(
        f"unisono: {package['name']} {package['version']} ({package['license']}) comes without the text of its licence"
    )


def _files(package: dict[str, Any]) -> list[Path]:
    folder = Path(package["manifest_path"]).parent
    return sorted(path for path in folder.iterdir() if path.is_file() and _NAME.match(path.name))
