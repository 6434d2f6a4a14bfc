"""Pools where programs really are: under pytest-xdist, whose workers are not ours, and in a notebook's kernel."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

LONG = 120
MARK = "UNISONO_PLACE"

TESTS = """
import os
import pytest
import unisono

@pytest.fixture(scope="module")
def pool():
    with unisono.ProcessPool(2) as pool:
        yield pool

def square(x): return x * x

@pytest.mark.parametrize("number", range(6))
def test_pool(pool, number):
    assert list(pool.map(square, range(20))) == [n * n for n in range(20)]
    assert pool.submit(os.getpid).result(60) != os.getpid()

@pytest.mark.parametrize("number", range(4))
def test_batch(number):
    report = unisono.batch(square, range(20), executor="processes", limit=2).run()
    assert sorted(outcome.result for outcome in report.outcomes) == sorted(n * n for n in range(20))
"""

CELLS = [
    "import os, unisono\nfactor = 3\ndef times(x): return x * factor",
    "with unisono.ProcessPool(2) as pool: print(list(pool.map(times, range(4))))",
    "factor = 5\npool = unisono.ProcessPool(2)\nprint(pool.submit(times, 2).result(), pool.submit(lambda: factor).result())",
    "print(pool.submit(os.getpid).result() != os.getpid())",
    "print(sorted(outcome.result for outcome in unisono.batch(times, range(3), executor='processes', limit=2)))",
    "import logging\ndef log(): logging.getLogger('cell').warning('from a worker')\npool.submit(log).result()\npool.shutdown()",
    "future = unisono.ProcessPool(1).submit(os.getpid)\nprint(future.result() > 0)",
]

NOTEBOOK = """
import json, sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(startup_timeout=60)
try:
    said = []
    for cell in json.loads(sys.argv[1]):
        def hear(message):
            content = message["content"]
            if message["header"]["msg_type"] == "stream": said.append([content["name"], content["text"]])
            if message["header"]["msg_type"] == "error": said.append(["error", "\\n".join(content["traceback"])])
        client.execute_interactive(cell, timeout=60, output_hook=hear)
    print(json.dumps(said))
finally:
    client.stop_channels()
    manager.shutdown_kernel()
"""


def run(words, folder, **environment):
    """Runs it with a mark in its environment; nothing that bears the mark is left when it has ended."""
    mark = str(uuid.uuid4())
    environment = {**os.environ, MARK: mark, **environment}
    options = {"capture_output": True, "text": True, "timeout": LONG, "check": False, "cwd": folder}
    done = subprocess.run([sys.executable, *words], env=environment, **options)
    assert not [process for process in Path("/proc").iterdir() if process.name.isdigit() and bears(process, mark)]
    return done


def bears(process, mark):
    try:
        is_over = (process / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return not is_over and f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def test_pools_and_batches_run_under_xdist_and_nothing_is_left(tmp_path):
    pytest.importorskip("xdist")
    (tmp_path / "test_generated.py").write_text(TESTS)
    words = [
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:anyio",
        "-W",
        "error",
        "test_generated.py",
    ]
    # This session may be one of xdist's itself.
    done = run(words, tmp_path, PYTEST_ADDOPTS="", PYTEST_XDIST_WORKER="")
    assert "10 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_a_function_of_one_cell_runs_in_the_pools_of_the_next_and_a_kernel_that_ends_leaves_nothing(tmp_path):
    import json

    pytest.importorskip("jupyter_client")
    pytest.importorskip("ipykernel")
    pytest.importorskip("cloudpickle")
    folders = ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")
    done = run(["-W", "ignore", "-c", NOTEBOOK, json.dumps(CELLS)], tmp_path, **dict.fromkeys(folders, str(tmp_path)))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [text for name, text in said if name == "error"] == []
    assert "".join(text for name, text in said if name == "stdout").splitlines() == [
        "[0, 3, 6, 9]",
        "10 5",
        "True",
        "[0, 5, 10]",
        "True",
    ]
    # As a record of the program: by the logging of the kernel, which shows it once.
    assert "".join(text for name, text in said if name == "stderr").count("from a worker") == 1
