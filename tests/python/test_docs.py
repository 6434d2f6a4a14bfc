"""The examples in the docstrings are run, against a real server."""

import asyncio
import doctest
import importlib

import pytest

import unisono


@pytest.mark.parametrize(
    "name",
    [
        "unisono._http.fetch",
        "unisono._batches.batch",
        "unisono._batches.report",
        "unisono._functions.batch",
        "unisono._wording",
        "unisono._http.clients",
        "unisono._http.base",
        "unisono._http.cookies",
        "unisono._http.pages",
        "unisono._http.streaming",
        "unisono.clusters",
        "unisono.commands",
        "unisono.explaining",
        "unisono.files",
        "unisono.testing",
        "unisono._pools.async_result",
        "unisono._pools.futures",
        "unisono._pools.imap",
        "unisono._http.headers",
        "unisono._pools.jobs",
        "unisono._queue.limiter",
        "unisono._pools.pool",
        "unisono._pools.process_pool",
        "unisono._batches.results",
        "unisono._functions.retrying",
        "unisono._functions.together",
        "unisono._queue.queue",
        "unisono._pools.thread_pool",
        "unisono._watch.dump",
    ],
)
def test_the_examples_in_a_module_are_true(server, tmp_path, name):
    module = importlib.import_module(name)
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.bin").write_bytes(bytes(300))
    globs = {
        **vars(module),
        "server": server.url,
        "folder": tmp_path,
        "asyncio": asyncio,
        "unisono": unisono,
        "batch": unisono.batch,
    }
    # A property of the native module has no source to look at, so only what is written in Python is searched.
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in finder.find(module, name, globs=globs):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0
