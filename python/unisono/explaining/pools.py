"""The executors that are tried: the one place that names them.

Anything that is a `concurrent.futures.Executor` fits. Processes are started afresh (`spawn`) and not forked, since a
fork of a program with threads may hang.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

__all__ = ["processes", "threads"]


def threads(workers: int) -> Executor:
    """Threads of this process."""
    return ThreadPoolExecutor(workers, thread_name_prefix="unisono-explain")


def processes(workers: int) -> Executor:
    """Worker processes, each of which has imported nothing yet."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
