"""The examples in the docstrings are run, against a real server."""

import asyncio
import doctest
import importlib

import pytest

import unisono


@pytest.mark.parametrize("name", ["unisono._fetch", "unisono.clients", "unisono.headers"])
def test_the_examples_in_a_module_are_true(server, name):
    module = importlib.import_module(name)
    globs = {**vars(module), "server": server.url, "asyncio": asyncio, "unisono": unisono}
    # A property of the native module has no source to look at, so only what is written in Python is searched.
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in finder.find(module, name, globs=globs):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0
