"""The line of the program that has called us: what warnings name.

Frames of ours, and those of the standard library's own wrappers in between, are passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import warnings
from pathlib import Path
from types import FrameType

__all__ = ["line_of_caller", "warn_on_loop", "warn_once"]


def line_of_caller() -> tuple[str, int]:
    """The file and the number of the line that has called us."""
    frame, _ = _caller()
    return ("<unknown>", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def warn_once(message: str, line: tuple[str, int]) -> None:
    """Warn of a line: once, unless the filters of the program say otherwise."""
    warnings.warn_explicit(message, RuntimeWarning, *line, registry=_seen)


def warn_on_loop(what: str, instead: str) -> None:
    """Warn, once for each line, when the event loop that runs in this thread will stand still.

    In a notebook the loop is the kernel's, and a cell is meant to be waited for, so that nothing is said.

    Args:
        what: What will wait.
        instead: What to write, where the loop is to go on.
    """
    if asyncio._get_running_loop() is None or "ipykernel" in sys.modules:
        return
    _, level = _caller()
    warnings.warn(
        f"{what} waits in the thread of a running event loop, and all of the loop with it: {instead}",
        RuntimeWarning,
        stacklevel=level,
    )


def _caller() -> tuple[FrameType | None, int]:
    """The frame that has called us, and how many levels above the function that asks this it is."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_code.co_filename.startswith(_PASSED_OVER):
        frame, level = frame.f_back, level + 1
    return frame, level


_HERE = str(Path(__file__).parent)
_PASSED_OVER = (_HERE, contextlib.__file__)
_seen: dict[str | tuple[str, type[Warning], int], int] = {}
