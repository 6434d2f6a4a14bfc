"""`unisono.dump()`: what every task of the program waits for, and what is wrong with it.

The look itself is native and holds the interpreter's lock for as long as it lasts; nothing of the program is called
in it. What is suspected is looked at again a moment later, and believed where nothing has moved; where the event loop
could not move, since it is its own thread that asks, one look has to do.
"""

from __future__ import annotations

import opcode
import os
import signal
import sys
import sysconfig
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TextIO

from unisono._native import TaskLook

__all__ = ["dump"]

# Long enough for a loop to have run everything that was ready.
_SETTLED = 0.05


def dump(*, json: bool = False, file: TextIO | str | os.PathLike[str] | None = None) -> None:
    """Write what every task waits for, and what is wrong: for a program that hangs, from any thread.

    What was found comes first, and the first line of the program that is named is the one to look at. Values of the
    program are neither called nor shown; names of tasks are. Nothing has to be switched on before.

    Args:
        json: One line of JSON instead of text.
        file: A text stream or the path of a file, which is replaced; `None` means standard error.
    >>> async def worker(queue):
    ...     await queue.get()
    >>> async def main():
    ...     task = asyncio.create_task(worker(asyncio.Queue()), name="worker-1")
    ...     await asyncio.sleep(0)
    ...     dump(file=sys.stdout)
    ...     task.cancel()
    >>> asyncio.run(main())
    process ...: 2 tasks on 1 loop, ...
      'worker-1' waits in Queue.get() of Queue #1
    ...
    """
    seen = _seen()
    text = seen.json() + "\n" if json else seen.text()
    if isinstance(file, str | os.PathLike):
        Path(file).write_text(text, encoding="utf-8")
    else:
        stream = sys.stderr if file is None else file
        stream.write(text)
        stream.flush()


def _seen() -> TaskLook:
    look = _look({})
    # A loop of this thread stands still for as long as it is looked at.
    if look.is_to_be_confirmed() and not _is_in_loop():
        time.sleep(_SETTLED)
        earlier, look = look, _look({})
        look.confirm(earlier)
    return look


def _look(frames: dict[int, FrameType]) -> TaskLook:
    # The first variable of this function is what the native side tries its reading of variables by.
    frames.update(sys._current_frames())
    return TaskLook(frames, threading.get_ident(), _FRAMEWORK, _here(), _has_signal_handlers(), _INSTRUCTIONS)


def _is_in_loop() -> bool:
    asyncio_events = sys.modules.get("asyncio.events")
    return asyncio_events is not None and asyncio_events._get_running_loop() is not None


def _here() -> str:
    try:
        return str(Path.cwd()).rstrip("/") + "/"
    except OSError:
        return "/"


def _has_signal_handlers() -> bool:
    """Whether a signal calls a function of the program, which may then wake whatever it likes."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if handler is None or type(handler) is signal.Handlers or handler is signal.default_int_handler:
            continue
        # What `asyncio.run` has for Ctrl-C ends the main task, and is no part of the program.
        function = getattr(handler.func, "__func__", None) if type(handler) is partial else None
        runners = sys.modules.get("asyncio.runners")
        if runners is None or function is not runners.Runner._on_sigint:
            return True
    return False


def _framework_folders() -> list[str]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [Path(sysconfig.get_path(name)) for name in names] + [Path(__file__).parents[1]]
    return sorted({f"{folder}/" for given in folders for folder in (given, given.resolve())})


_FRAMEWORK = _framework_folders()
# By these the native side finds which `with` a function is inside of.
_INSTRUCTIONS = (opcode.opmap["PUSH_EXC_INFO"], opcode.opmap["WITH_EXCEPT_START"])
