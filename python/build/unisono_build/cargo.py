"""Calls of cargo: where its outputs lie is asked of it, and what it does is shown."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from .needs import ROOT, cargo_command

PROFILE = os.environ.get("UNISONO_PROFILE") or "release"

# The two binaries of a wheel.
BINARIES = ("unisono-cli", "unisono-python")


def build(*packages: str, command: tuple[str, ...] = ("build",)) -> Path:
    """Builds packages. Returns the path of the native command, which is among them.

    Cargo tells where it is: its target folder can be set by three variables and two keys of a configuration.
    """
    call = [cargo_command(), *command, "--locked", "--profile", PROFILE, "--message-format=json-render-diagnostics"]
    for package in packages:
        call += ["-p", package]
    # As maturin sets them: with others, the module would be built twice.
    version, bits = f"{sys.version_info.major}.{sys.version_info.minor}", sys.maxsize.bit_length() + 1
    settings = {
        **os.environ,
        "PYO3_PYTHON": sys.executable,
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "PYO3_ENVIRONMENT_SIGNATURE": f"cpython-{version}-{bits}bit",
    }
    executable = None
    with _Progress(len(linked(*packages))) as progress:
        running = subprocess.Popen(call, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        for line in running.stdout:
            message = json.loads(line) if line.startswith("{") else {}
            if message.get("reason") != "compiler-artifact":
                continue
            progress.built(message["package_id"])
            if message["target"]["name"] == "unisono" and message.get("executable"):
                executable = Path(message["executable"])
        status = running.wait()
    if status != 0:
        sys.exit(f"unisono: `{' '.join(call)}` ended with {status}; what it says stands above")
    if executable is None:
        sys.exit(f"unisono: `{' '.join(call)}` built no command `unisono`")
    return executable


@cache
def linked(*packages: str) -> list[dict[str, Any]]:
    """The packages that are linked into these, themselves among them.

    Each is as `cargo metadata` describes it, with `needs`: the identities of those that it is linked with.
    """
    call = [cargo_command(), "metadata", "--locked", "--format-version=1", "--filter-platform", target()]
    output = subprocess.run(call, cwd=ROOT, stdout=subprocess.PIPE)
    if output.returncode != 0:
        sys.exit(f"unisono: `{' '.join(call)}` ended with {output.returncode}; what it says stands above")
    metadata = json.loads(output.stdout)
    known = {package["id"]: package for package in metadata["packages"]}
    needs = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    found: dict[str, dict[str, Any]] = {}
    waiting = [identity for identity in known if known[identity]["name"] in packages]
    while waiting:
        identity = waiting.pop()
        # A macro runs in the compiler, and nothing of it is linked.
        macro = any("proc-macro" in target["kind"] for target in known[identity]["targets"])
        if identity in found or macro:
            continue
        # Without a kind: neither for builds nor for tests alone.
        direct = [need["pkg"] for need in needs[identity] if any(kind["kind"] is None for kind in need["dep_kinds"])]
        found[identity] = {**known[identity], "needs": direct}
        waiting += direct
    return sorted(found.values(), key=lambda package: (package["name"], package["version"]))


@cache
def target() -> str:
    """The platform that is built for, in Rust's words."""
    if named := os.environ.get("CARGO_BUILD_TARGET"):
        return named
    said = subprocess.run(["rustc", "-vV"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return next(line.removeprefix("host: ") for line in said.splitlines() if line.startswith("host: "))


class _Progress:
    """A line on the terminal, where cargo cannot draw its own: pip keeps what a build writes for itself."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._seen: set[str] = set()
        self._begun = time.monotonic()
        self._terminal: TextIO | None = None

    def __enter__(self) -> _Progress:
        if not sys.stderr.isatty() and not os.environ.get("CI"):
            # Without a terminal there is none to show it to: a log needs no progress.
            with contextlib.suppress(OSError):
                self._terminal = Path("/dev/tty").open("w")
        self._say(f"building with cargo, profile {PROFILE}")
        return self

    def built(self, package: str) -> None:
        self._seen.add(package)
        seconds = int(time.monotonic() - self._begun)
        self._say(f"{len(self._seen)} crates built of about {self._expected}, {seconds // 60}:{seconds % 60:02}")

    def _say(self, text: str) -> None:
        if self._terminal:
            print(f"\r\033[Kunisono: {text}", end="", file=self._terminal, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            print(file=self._terminal)
            self._terminal.close()
