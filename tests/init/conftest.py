"""Runs the real `unisono-init`: as the first process of a namespace of its own, and as a subreaper without one.

Every process that a test starts carries a mark in its environment, and after each test none of them may be left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid

import pytest

from support.init import INIT, Supervised, namespaces_work
from support.processes import PATIENCE, children, marked, until


@pytest.fixture
def mark():
    mark = f"UNISONO_TEST={uuid.uuid4()}"
    yield mark
    # What was killed by the end of a namespace takes a moment to go.
    with contextlib.suppress(AssertionError):
        until(lambda: not marked(mark), "the end of everything")
    left = marked(mark)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, "processes were left behind"


@pytest.fixture(params=["first", "subreaper"])
def first(request) -> bool:
    """Whether init is the first process of a namespace. Where that is not allowed, the skip says so."""
    if request.param == "first" and not namespaces_work():
        pytest.skip("NOT TESTED AS PID 1: this machine does not allow `unshare --pid --fork --mount-proc`")
    return request.param == "first"


@pytest.fixture
def start(mark, first, tmp_path):
    """Starts init with options and a command; answers a `Supervised`."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: object, prefix: tuple[str, ...] = (), mount: bool = True) -> Supervised:
        name, value = mark.split("=")
        unshare = ["unshare", "--pid", "--fork", *(["--mount-proc"] if mount else [])] if first else []
        process = subprocess.Popen(
            [*unshare, *prefix, str(INIT), *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], name: value},
            start_new_session=True,
        )
        started.append(process)
        return Supervised(process, first)

    yield run
    for process in started:
        if process.poll() is None:
            for pid in [*children(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def finished(mark, first, tmp_path):
    """Runs init to its end; answers the completed process."""

    def run(*words: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        name, value = mark.split("=")
        unshare = ["unshare", "--pid", "--fork", "--mount-proc"] if first else []
        return subprocess.run(
            [*unshare, *prefix, str(INIT), *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], name: value},
            check=False,
            timeout=PATIENCE * 2,
        )

    return run
