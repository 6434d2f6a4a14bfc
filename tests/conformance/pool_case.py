"""`_TestPool` of the interpreter with another pool, once for each start method: `module:name` in `UNISONO_POOL`.

A module of its own, since workers look its classes up by name. It is for `run.py` alone.
"""

import functools
import importlib
import multiprocessing
import os
import unittest

tests = importlib.import_module("test._test_multiprocessing")
module, _, name = os.environ["UNISONO_POOL"].partition(":")
pool = getattr(importlib.import_module(module), name)


def started(method):
    """The pool, with workers that start so."""
    return staticmethod(functools.partial(pool, context=multiprocessing.get_context(method)))


class PoolForkTest(tests._TestPool, tests.ProcessesMixin, unittest.TestCase):
    Pool = started("fork")
    TYPE = "processes"
    current_process = staticmethod(multiprocessing.current_process)


class PoolForkserverTest(PoolForkTest):
    Pool = started("forkserver")


class PoolSpawnTest(PoolForkTest):
    Pool = started("spawn")
