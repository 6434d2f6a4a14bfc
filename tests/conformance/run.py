"""Runs the interpreter's own tests of its pools, with ours in their place.

    python tests/conformance/run.py futures --pool threads
    python tests/conformance/run.py futures --pool processes
    python tests/conformance/run.py pool --pool processes

`futures` is `test.test_concurrent_futures`, `pool` is `_TestPool` of `test._test_multiprocessing`. A pool is `threads`,
`processes`, or `module:name` (the standard ones, to check this program itself; no table is written). The tests are those
of the interpreter that runs this; where it has none, of the Debian package `libpythonX.Y-testsuite`, or of
`--tests DIRECTORY`.

Every test passes, or stands in `intended.toml` with the reason why the difference is intended. The table goes to
`results/X.Y/`. The exit status is 1 when a test fails that is not listed, when a listed one passes (but for those in a table
`PASSES_SOMETIMES`, which depend on how fast workers start), and when a listed one is not there (but for those in a table
`NEWER`, which not every interpreter has).

There is each test of processes once per start method: `Fork`, `Forkserver` (our zygote) and `Spawn`; in `intended.toml` a
`*` stands for all three. Each start method has a process of its own, all at once, since most tests wait. One that hangs is
killed after `--timeout` seconds, and what it ran is named.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import types
import unittest
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
FLAVOURS = ["Fork", "Forkserver", "Spawn"]
POOLS = {
    "futures": {"threads": "unisono:ThreadPool", "processes": "unisono:ProcessPool"},
    "pool": {"processes": "unisono:Pool"},
}


def main() -> int:
    """Runs the tests in another process, and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=["futures", "pool"])
    parser.add_argument("--pool", default="threads")
    parser.add_argument("--tests", type=Path, default=Path(f"/usr/lib/python{VERSION}/test"))
    parser.add_argument("--timeout", type=float, default=180, help="seconds for all tests")
    parser.add_argument("--only", help="a part of the names of the tests that are run; no table is written")
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner is not None:
        run_tests(options)
        return 0
    results: dict[str, str] = {}
    statuses = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Workers of a pool are interpreters of their own, and have to find the tests as well.
        (folder / "sitecustomize.py").write_text(find_tests(options.tests))
        flavours = [""] if options.pool == "threads" else FLAVOURS
        until = time.monotonic() + options.timeout
        for inner, flavour in [(start(options, folder, flavour), flavour) for flavour in flavours]:
            try:
                inner.wait(until - time.monotonic())
            except subprocess.TimeoutExpired:
                os.killpg(inner.pid, signal.SIGKILL)
                inner.wait()
            statuses.append(inner.returncode)
            sys.stderr.write((folder / f"said{flavour}").read_text())
            # Not there when the tests could not even begin.
            file = folder / f"results{flavour}"
            results.update(json.loads(line) for line in (file.read_text().splitlines() if file.exists() else []))
    return judge(options, results, max(statuses, key=abs))


def start(options: argparse.Namespace, folder: Path, flavour: str) -> subprocess.Popen[bytes]:
    """Begins the tests of one start method."""
    words = [sys.executable, "-X", "faulthandler", __file__, *sys.argv[1:], "--inner", flavour]
    environment = {
        **os.environ,
        # Not a pipe: a worker that outlives its test would hold its other end.
        "UNISONO_RESULTS": str(folder / f"results{flavour}"),
        "UNISONO_POOL": POOLS[options.suite].get(options.pool, options.pool),
        "PYTHONPATH": os.pathsep.join([str(folder), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    with (folder / f"said{flavour}").open("w") as said:
        return subprocess.Popen(words, env=environment, start_new_session=True, stdout=said, stderr=said)


def find_tests(folder: Path) -> str:
    """Code after which `test` has what is in `folder` as well."""
    return f"import test\ntest.__path__.append({str(folder)!r})\n"


def judge(options: argparse.Namespace, results: dict[str, str], status: int) -> int:
    """Compares with what is intended, writes the table, and says what is wrong."""
    listed = tomllib.loads((HERE / "intended.toml").read_text())
    intended = dict(listed.get(options.suite, {}).get(options.pool, {}))
    sometimes = intended.pop("PASSES_SOMETIMES", {})
    newer = intended.pop("NEWER", {})
    intended |= sometimes | newer
    for tests in (intended, sometimes, newer):
        for name in [name for name in tests if "*" in name]:
            reason = tests.pop(name)
            tests |= {name.replace("*", flavour): reason for flavour in FLAVOURS}
    wrong = [
        f"{name}: {result}"
        for name, result in results.items()
        if result not in ("passed", "skipped") and name not in intended
    ]
    if not results or status:
        wrong.append(f"the tests ended with status {status} after {len(results)} results")
    if not options.only:
        wrong += [
            f"{name}: is listed, and {results.get(name, 'not there')}"
            for name in intended
            if (name in results or name not in newer)
            and (results.get(name) in (None, "skipped") or (results[name] == "passed" and name not in sometimes))
        ]
    if not options.only and options.pool in POOLS[options.suite]:
        write_table(options, results, intended)
    for line in wrong:
        print(f"conformance: {line}", file=sys.stderr)
    counts = {kind: list(results.values()).count(kind) for kind in sorted(set(results.values()))}
    there = len(intended.keys() & results.keys())
    print(f"{options.suite} with {options.pool}: {counts}, {there} listed as intended")
    return 1 if wrong else 0


def write_table(options: argparse.Namespace, results: dict[str, str], intended: dict[str, str]) -> None:
    """One line per test."""
    lines = [
        f"# The `{options.suite}` tests of Python {VERSION} with `{options.pool}`",
        "",
        "| test | result | reason |",
        "|---|---|---|",
    ]
    for name, result in sorted(results.items()):
        reason = intended.get(name, "")
        lines.append(f"| {name} | {'intended' if reason and result == 'failed' else result} | {reason} |")
    folder = HERE / "results" / VERSION
    folder.mkdir(exist_ok=True)
    (folder / f"{options.suite}-{options.pool}.md").write_text("\n".join(lines) + "\n")


class Recorder(unittest.TextTestResult):
    """Says at once how each test ended, so that nothing is lost if the next one hangs."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.file = Path(os.environ["UNISONO_RESULTS"]).open("w", buffering=1)
        self.outcome = "passed"

    def startTest(self, test: unittest.TestCase) -> None:
        self.outcome = "passed"
        super().startTest(test)
        self._record(test, "did not end")

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self._record(test, self.outcome)

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)

    def addFailure(self, test: unittest.TestCase, error: Any) -> None:
        self.outcome = "failed"
        super().addFailure(test, error)

    def addError(self, test: Any, error: Any) -> None:
        self.outcome = "failed"
        super().addError(test, error)
        if not isinstance(test, unittest.TestCase):
            # Not a test: the set-up of a class or module.
            self._record(test, "failed")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, error: Any) -> None:
        if error is not None:
            self.outcome = "failed"
        super().addSubTest(test, subtest, error)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.outcome = "skipped"
        super().addSkip(test, reason)

    def _record(self, test: Any, outcome: str) -> None:
        name = ".".join(test.id().split(".")[-2:])
        self.file.write(json.dumps([name, outcome]) + "\n")


def run_tests(options: argparse.Namespace) -> None:
    """In a process of its own: runs what there is for this pool."""
    module, _, name = POOLS[options.suite].get(options.pool, options.pool).partition(":")
    pool = getattr(importlib.import_module(module), name)
    suite = futures(module, pool, options.inner) if options.suite == "futures" else multiprocessing_pool(options.inner)
    chosen = unittest.TestSuite(test for test in flat(suite) if not options.only or options.only in test.id())
    unittest.TextTestRunner(resultclass=Recorder, verbosity=2).run(chosen)


def futures(module: str, pool: type, flavour: str) -> unittest.TestSuite:
    """`test_concurrent_futures`: one module at first, and a package since it was split in the course of 3.11."""
    import concurrent.futures

    common = importlib.import_module("test.test_concurrent_futures")
    modules = [common]
    if hasattr(common, "__path__"):
        parts = ["as_completed", "deadlock", "future", "init", "process_pool", "shutdown", "thread_pool", "wait"]
        modules = [importlib.import_module(f"test.test_concurrent_futures.test_{part}") for part in parts]
        common = importlib.import_module("test.test_concurrent_futures.util")
    is_threads = issubclass(pool, concurrent.futures.ThreadPoolExecutor)
    if is_threads:
        common.ThreadPoolMixin.executor_type = pool
    else:
        for each in FLAVOURS:
            getattr(common, f"ProcessPool{each}Mixin").executor_type = pool
    # Programs that a test starts import the pool from `concurrent.futures`, by its name.
    prelude = f"import concurrent.futures, {module}\n"
    prelude += f"concurrent.futures.{pool.__name__} = {module}.{pool.__name__}\n"
    for each in modules:
        if ok := getattr(each, "assert_python_ok", None):
            each.assert_python_ok = with_prelude(ok, prelude)
        # Some tests name the class of the standard library themselves.
        each.futures = replaced(concurrent.futures, pool, is_threads)
    loader = unittest.TestLoader()
    # Not a prefix: `Fork` is one of `Forkserver`.
    mixin = common.ThreadPoolMixin if is_threads else getattr(common, f"ProcessPool{flavour}Mixin")
    suite = unittest.TestSuite()
    for each in modules:
        for test in flat(loader.loadTestsFromModule(each)):
            # What is of neither kind of pool (`FutureTests`) tests the future of the standard library.
            if isinstance(test, mixin):
                suite.addTest(test)
    return suite


def replaced(standard: types.ModuleType, pool: type, is_threads: bool) -> types.ModuleType:
    """`concurrent.futures` with our pool, for the eyes of a test module alone."""
    name = "ThreadPoolExecutor" if is_threads else "ProcessPoolExecutor"
    copy = types.ModuleType(standard.__name__)
    copy.__dict__.update({each: getattr(standard, each) for each in [*standard.__all__, "thread", "process", "_base"]})
    copy.__dict__[name] = pool
    return copy


def with_prelude(function: Any, prelude: str) -> Any:
    """`assert_python_ok("-c", code)` with code before the code."""

    def run(*arguments: str, **keywords: Any) -> Any:
        words = list(arguments)
        if "-c" in words:
            at = words.index("-c") + 1
            words[at] = prelude + words[at]
        # Not isolated, so that the program and its workers find the tests by `PYTHONPATH`.
        return function(*words, __isolated=False, PYTHONPATH=os.environ["PYTHONPATH"], **keywords)

    return run


def multiprocessing_pool(flavour: str) -> unittest.TestSuite:
    """The tests of `multiprocessing.Pool`."""
    return unittest.TestLoader().loadTestsFromName(f"pool_case.Pool{flavour}Test")


def flat(suite: Any) -> Any:
    """The tests of a suite of suites."""
    for each in suite:
        if isinstance(each, unittest.TestCase):
            yield each
        else:
            yield from flat(each)


if __name__ == "__main__":
    sys.exit(main())
