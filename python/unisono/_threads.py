"""Threads, or why there are none: a system has only so many (RLIMIT_NPROC, the `pids.max` of a control group)."""

from __future__ import annotations

import threading

from unisono.errors import RunError

__all__ = ["begin"]


def begin(thread: threading.Thread, purpose: str) -> None:
    """Start a thread.

    Args:
        thread: It.
        purpose: What it is for, in messages.

    Raises:
        RunError: There is none to be had. What was made for it is the caller's to undo.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise RunError(f"no thread {purpose}: {error}") from error
