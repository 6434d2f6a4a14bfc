"""`_TestPool` of the interpreter with another pool: `module:name` in `UNISONO_POOL`.

A module of its own, since workers look its class up by name. It is for `run.py` alone.
"""

import importlib
import multiprocessing
import os
import unittest

tests = importlib.import_module("test._test_multiprocessing")
module, _, name = os.environ["UNISONO_POOL"].partition(":")


class PoolTest(tests._TestPool, tests.ProcessesMixin, unittest.TestCase):
    Pool = staticmethod(getattr(importlib.import_module(module), name))
    TYPE = "processes"
    current_process = staticmethod(multiprocessing.current_process)
