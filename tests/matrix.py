"""What holds with the interpreter of .venv holds with the others that are supported.

    .venv/bin/python tests/matrix.py                    all tests, on each interpreter that is here
    .venv/bin/python tests/matrix.py --chosen --others  the chosen part, on those that are not .venv's: what CI runs
    .venv/bin/python tests/matrix.py 3.13 -- -k queue   one version, with words for pytest
    .venv/bin/python tests/matrix.py --write            and the table goes to docs/matrix.md

For each interpreter: a wheel in an environment of its own (target/pythons/X.Y), there the tests, the interpreter's own
tests of executors with our pools where it came with them, and the check of the stub. Interpreters are found as `pythonX.Y`
or in pyenv's folder; one that is not here is not run, which is said at the end.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from support.interpreters import SUPPORTED, interpreter, path_of
from support.packages import group

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "matrix.md"

# What depends on the interpreter: its start and end, its threads, loops, forks and pickles, and the classes of its standard
# library. The rest is the engine's, which is the same for all.
CHOSEN = [
    "importing", "installation", "drop_in", "exit", "jobs", "loops", "loops_that_end", "cycles", "done_callbacks", "phases",
    "queue", "thread_pool", "threads_that_cannot_start", "process_pool", "process_pool_fork", "process_pool_programs", "clients",
    "returning", "identity", "limiter", "watch", "watch_outside", "watch_run", "dump", "dump_healthy", "dump_stuck",
]  # fmt: skip
# And what those need of the packages for development.
CHOSEN_PACKAGES = ["anyio", "cloudpickle", "hypothesis", "mypy", "numpy", "pytest", "pytest-xdist", "uvicorn", "uvloop"]

OWN = [("futures", "threads"), ("futures", "processes"), ("pool", "processes")]


@dataclass
class Result:
    """What came of one interpreter."""

    version: str
    patch: str = ""
    cells: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)


def main() -> int:
    """Runs what is asked for. Returns the exit status: 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "versions", nargs="*", default=[], choices=[[], *SUPPORTED], help="default: all that are supported"
    )
    parser.add_argument(
        "--chosen", action="store_true", help="a chosen part of the tests, a few minutes for each interpreter"
    )
    parser.add_argument("--others", action="store_true", help="not the version that runs this")
    parser.add_argument("--write", action="store_true", help="write the table of docs/matrix.md")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    options, pytest_words = parser.parse_args(words[:split]), words[split + 1 :]

    if not options.chosen:
        # The tests of `unisono init` run it as it is shipped.
        init = ["cargo", "build", "--quiet", "--locked", "--profile", "small", "-p", "unisono-init"]
        subprocess.run(init, cwd=ROOT, check=True)
    results = []
    for version in options.versions or SUPPORTED:
        if options.others and version == f"{sys.version_info.major}.{sys.version_info.minor}":
            continue
        results.append(run(version, chosen=options.chosen, words=pytest_words))
    if options.write:
        TABLE.write_text(table(results))
    for result in results:
        for what in result.not_run:
            print(f"NOT RUN: Python {result.version}: {what}", file=sys.stderr)
        for what in result.failed:
            print(f"FAILED: Python {result.version}: {what}", file=sys.stderr)
    return 1 if any(result.failed for result in results) else 0


def run(version: str, *, chosen: bool, words: list[str]) -> Result:
    """Builds and tests for one version."""
    result = Result(version)
    base = interpreter(version)
    if base is None:
        result.not_run.append(f"there is neither a python{version} nor one of pyenv's here")
        return result
    python = environment(version, base, chosen=chosen)
    result.patch = said(python, "import platform; print(platform.python_version())")
    result.cells.append(pytest(result, python, chosen=chosen, words=words))
    for suite, pool in OWN:
        result.cells.append("" if chosen else conformance(result, python, suite, pool))
    stub = subprocess.run([python, "-m", "mypy.stubtest", "unisono._native"], cwd=ROOT, check=False)
    result.cells.append("as the module" if stub.returncode == 0 else "differs")
    if stub.returncode != 0:
        result.failed.append("mypy.stubtest unisono._native")
    return result


def environment(version: str, base: Path, *, chosen: bool) -> Path:
    """Returns the interpreter of an environment that has a wheel of these sources and what tests need."""
    folder = ROOT / "target" / "pythons" / version
    profile = os.environ.get("UNISONO_PROFILE") or "demo"
    subprocess.run([base, ROOT / "python" / "build" / "environment.py", folder, profile], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    packages = group("dev")
    if chosen:
        packages = [package for package in packages if re.split(r"[=\[]", package)[0] in CHOSEN_PACKAGES]
    subprocess.run([*install, "maturin>=1.9,<2", *packages], check=True)
    settings = {
        **os.environ,
        "PATH": path_of(python),
        "PYTHONPATH": str(ROOT / "python" / "build"),
        "UNISONO_PROFILE": profile,
    }
    wheels = folder / "wheel"
    for old in wheels.glob("*.whl"):
        old.unlink()
    subprocess.run([python, "-m", "unisono_build", wheels], check=True, cwd=ROOT, env=settings)
    subprocess.run([*install, "--force-reinstall", "--no-deps", *wheels.glob("*.whl")], check=True)
    return python


def pytest(result: Result, python: Path, *, chosen: bool, words: list[str]) -> str:
    """Runs the tests. Returns the cell of the table."""
    report = ROOT / "target" / "pythons" / result.version / "report.xml"
    which = [f"tests/python/test_{name}.py" for name in CHOSEN] if chosen else ["tests"]
    call = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    # Most tests wait, for servers and processes.
    call += ["-n", "3"]
    report.unlink(missing_ok=True)
    done = subprocess.run([*call, *which, *words], cwd=ROOT, check=False)
    if done.returncode != 0:
        result.failed.append(f"pytest {' '.join(which)} ended with {done.returncode}")
    if not report.exists():
        return "no report"
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return f"{tests - failed - skipped} passed, {failed} failed, {skipped} skipped"


def conformance(result: Result, python: Path, suite: str, pool: str) -> str:
    """Runs the interpreter's own tests with one of our pools. Returns the cell of the table."""
    module = "test.test_concurrent_futures" if suite == "futures" else "test._test_multiprocessing"
    debian = Path(f"/usr/lib/python{result.version}/test")
    names = [module.removeprefix("test."), module.removeprefix("test.") + ".py"]
    if said(python, f"import {module}; print('there')") != "there" and not any(
        (debian / name).exists() for name in names
    ):
        result.not_run.append(f"its own {module}, which it came without")
        return "came without"
    call = [python, "tests/conformance/run.py", suite, "--pool", pool]
    done = subprocess.run(call, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    if done.returncode != 0:
        result.failed.append(f"tests/conformance/run.py {suite} --pool {pool}")
    counts = re.findall(r"'(\w+)': (\d+)", done.stdout)
    listed = re.search(r"(\d+) listed as intended", done.stdout)
    words = {"failed": "differ"}
    text = ", ".join(
        f"{count} {words.get(name, name)}" for name, count in sorted(counts, key=lambda pair: pair[0] != "passed")
    )
    return f"{text} ({listed[1]} listed as intended)" if listed else text or "no result"


def table(results: list[Result]) -> str:
    """The page of the last result."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Interpreters: the last whole run",
        "",
        f"By `tests/matrix.py --write`, which `make nightly` calls, on {today} at commit {commit.stdout.strip()}. All tests of",
        "unisono, the interpreter's own tests of executors and pools with ours in their place (those that differ by intention are",
        "listed with the reason in `tests/conformance/intended.toml`), and the type stub against the module.",
        "",
        "| CPython | tests of unisono | its own: futures, threads | futures, processes | pool, processes | stub |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        cells = result.cells or ["not run: not on the machine that ran this", "", "", "", ""]
        lines.append(f"| {result.patch or result.version} | {' | '.join(cells)} |")
    failed = [f"- {result.patch}: {what}" for result in results for what in result.failed]
    lines += ["", "What failed:" if failed else "Nothing failed.", *([""] if failed else []), *failed]
    return "\n".join(lines) + "\n"


def said(python: Path, code: str) -> str:
    """What a line of Python prints there, or nothing."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
