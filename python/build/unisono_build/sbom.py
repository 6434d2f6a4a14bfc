"""A bill of materials of what is linked into a wheel (CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/)."""

from __future__ import annotations

import tomllib
from typing import Any

from .cargo import BINARIES
from .needs import ROOT


def document(packages: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the bill for packages as `cargo metadata` describes them.

    It names no path and no time: the same sources give the same bill.
    """
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    sums = {(package["name"], package["version"]): package.get("checksum") for package in locked}
    version = next(package["version"] for package in packages if package["name"] == "unisono-python")
    whole = f"pkg:pypi/unisono@{version}"
    names = {package["id"]: _purl(package) for package in packages}
    binaries = [_purl(package) for package in packages if package["name"] in BINARIES]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "library", "bom-ref": whole, "name": "unisono", "version": version, "purl": whole}
        },
        "components": [_component(package, sums[package["name"], package["version"]]) for package in packages],
        "dependencies": [
            {"ref": whole, "dependsOn": binaries},
            *(
                {"ref": _purl(package), "dependsOn": sorted(names[need] for need in package["needs"] if need in names)}
                for package in packages
            ),
        ],
    }


def _component(package: dict[str, Any], checksum: str | None) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": _purl(package),
        "licenses": [{"expression": package["license"].replace("/", " OR ")}],
    }
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return component


def _purl(package: dict[str, Any]) -> str:
    return f"pkg:cargo/{package['name']}@{package['version']}"
