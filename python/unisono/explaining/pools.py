"""The executors that are tried: the one place that names them."""

from __future__ import annotations

from concurrent.futures import Executor

from unisono._pools.process_pool import ProcessPool
from unisono._pools.thread_pool import ThreadPool

__all__ = ["processes", "threads"]


def threads(workers: int) -> Executor:
    """Threads of this process."""
    return ThreadPool(workers, "unisono-explain", warn_after=None)


def processes(workers: int) -> Executor:
    """Worker processes, forked from a fresh interpreter."""
    return ProcessPool(workers, name="unisono-explain")
