"""What all tests share: a server, the installed command, and that nothing is left when they are over.

Tests import from the modules beside this one and never from here: each folder of tests may have a `conftest`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from support.host_servers import free_port
from support.installed import COMMAND
from support.processes import PATIENCE
from support.server import Server


@pytest.fixture
def server():
    server = Server()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def away():
    """A port of loopback where a host was."""
    return free_port()


@pytest.fixture
def unisono(tmp_path, monkeypatch):
    """Runs the command; answers the completed process."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "NO_PROXY", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        words = [str(COMMAND), *map(str, arguments)]
        options = {"capture_output": True, "text": True, "timeout": 120, "cwd": tmp_path, **options}
        return subprocess.run(words, check=False, **options)

    return run


@pytest.fixture(params=["sync", "async"])
def call(request):
    """Calls with a client of one kind: `call(client_options, method, url, **arguments)`."""
    # Most folders of tests have no use for the package.
    from unisono import AsyncClient, Client

    def sync(options, method, url, **arguments):
        with Client(**options) as client:
            return client.request(method, url, **arguments)

    def on_a_loop(options, method, url, **arguments):
        async def main():
            async with AsyncClient(**options) as client:
                return await client.request(method, url, **arguments)

        return asyncio.run(main())

    return sync if request.param == "sync" else on_a_loop


@pytest.fixture
def start(tmp_path):
    """Starts the command without waiting for it; whatever is left over is ended."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object, **options: object) -> subprocess.Popen[str]:
        words = [str(COMMAND), *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path, **options}
        process = subprocess.Popen(words, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def lines():
    """Reads a results file, or text, into objects."""

    def read(source: Path | str) -> list[dict]:
        text = source.read_text() if isinstance(source, Path) else source
        return [json.loads(line) for line in text.splitlines()]

    return read


SESSION = f"UNISONO_TEST_SESSION={uuid.uuid4()}"


def left_over() -> dict[int, str]:
    """Every process that a test of this session started and that still runs."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if SESSION.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def pytest_sessionstart():
    """What is started from here on carries a mark in its environment, and ignores no signal."""
    # A shell without job control starts what is in its background with two of them ignored, and nohup(1) with the
    # third; that is inherited.
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    name, value = SESSION.split("=")
    os.environ[name] = value


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """After the whole suite nothing that it started is left, or it has failed."""
    # A zygote is kept for the next pool as long as its program runs, and this one has not ended yet.
    if births := sys.modules.get("unisono._pools.spawning"):
        births.stop_zygotes()
    until = time.monotonic() + PATIENCE
    while (left := left_over()) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        sys.stderr.write("".join(f"\nleft over after all tests: {pid}: {words}" for pid, words in left.items()))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """In CI a test that is skipped proves nothing, so it fails."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
