"""Processes as `/proc` shows them, and waiting for what they do: shared by all tests that start some.

Waiting is asking again and again under a deadline that only guards against hanging: a machine that is busy takes longer, and
nothing is proven by how long. Zombies count as gone: they take no effect any more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")
PATIENCE = 60


def until(condition: Callable[[], Answer], what: str = "what was waited for") -> Answer:
    """Ask until the answer is true; answers it."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.002)
    return answer


def longer_and_longer(seconds: float) -> Iterator[float]:
    """Times, each longer than the one before, for what has to happen before a time is over: the loop that takes them stops at the
    first that a busy machine has left long enough, and a quiet one waits for no more than the first."""
    while seconds < PATIENCE:
        yield seconds
        seconds *= 5
    yield PATIENCE


def state(pid: int) -> str:
    """The letter of proc_pid_stat(5): `R`, `S`, `T`, `Z`; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")


def children(pid: int) -> list[int]:
    """Those of its first thread."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def marked(mark: str) -> dict[int, str]:
    """Every living process that was started with this in its environment, and its command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes() and is_alive(int(folder.name)):
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found
