"""What the workers of a pool inherit: the zygote that makes them, their settings, and descriptors.

The initializer and its arguments are handed over while a process is being started, as `multiprocessing` calls it, so
its queues, locks and shared values may be among them: what they are made of is found by name or travels as a
descriptor.

Leaves out the fork of the program itself (`_forking`), whose workers have everything already.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from unisono import _forks, _native
from unisono._pools import pickling as _pickling
from unisono._pools import worker as _worker
from unisono.errors import UnpicklableError


def zygote_for(preload: tuple[str, ...]) -> _native.ZygoteHandle:
    """The zygote for these modules, started when it is first needed; to be let go of when a pool is over."""
    key = (os.getpid(), preload, tuple(sys.path))
    with _ZYGOTES_LOCK:
        # The one that was used last stands last.
        found = _ZYGOTES.pop(key, None)
        if found is None:
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; from unisono._pools.zygote import main; "
                f"main({list(preload)!r}, {os.getpid()})"
            )
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            found = _native.ZygoteHandle([sys.executable, *flags, "-c", code])
        _ZYGOTES[key] = found
        _USERS[found] = _USERS.get(found, 0) + 1
        return found


def let_go(handle: _native.ZygoteHandle) -> None:
    """A pool has no more use for its zygote: of those that none uses, the last is kept for the next, and others end."""
    with _ZYGOTES_LOCK:
        _USERS[handle] -= 1
        if not _USERS[handle]:
            del _USERS[handle]
        unused = [key for key, each in _ZYGOTES.items() if key[0] == os.getpid() and each not in _USERS]
        ended = [_ZYGOTES.pop(key) for key in unused[:-1]]
    for each in ended:
        each.stop()


def stop_zygotes() -> None:
    """End the zygotes of this program, and with them all workers that they have made. The next pool starts others."""
    with _ZYGOTES_LOCK:
        handles = [handle for (process, *_), handle in _ZYGOTES.items() if process == os.getpid()]
    for each in handles:
        each.stop()


def of_program() -> dict[str, Any]:
    """The part of the settings that a fresh interpreter must be told of this program."""
    return {
        "argv": sys.argv,
        # Proxies of a manager ask for it, as in the processes of multiprocessing.
        "authkey": bytes(multiprocessing.current_process().authkey),
        "environment": dict(os.environ),
        "interactive": _pickling.is_interactive(),
        "main": _worker.main_of_caller(),
        "path": sys.path,
    }


def handed_over(value: object) -> tuple[bytes, list[int]]:
    """A pickle that every worker can read at its start, and the descriptors that it must inherit.

    Raises:
        UnpicklableError: There is none.
    """
    if "multiprocessing.reduction" not in sys.modules:
        # Then nothing in there is of a kind that needs it.
        return pickled_for_spawn(value), []
    from multiprocessing import context

    spawn = _Spawn()
    before = context.get_spawning_popen()
    context.set_spawning_popen(spawn)  # type: ignore[arg-type]
    try:
        return pickled_for_spawn(value), spawn.descriptors
    except BaseException:
        for descriptor in spawn.descriptors:
            os.close(descriptor)
        raise
    finally:
        context.set_spawning_popen(before)


def pickled_for_spawn(value: object, what: str = "initializer and initargs") -> bytes:
    """The pickle of something that is handed over, or of a part of it, while `handed_over` is at work.

    Raises:
        UnpicklableError: There is none; it says that `what` cannot be handed over.
    """
    if "multiprocessing.reduction" not in sys.modules:
        return _pickling.pickled(value)
    from multiprocessing import reduction

    reducers = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    return _pickled_with(reducers, value, what)


def in_memory(data: bytes) -> int:
    """A descriptor from which workers read `data`; it is the caller's to close."""
    descriptor = os.memfd_create("unisono-settings", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    return descriptor


def folder() -> int:
    """A descriptor of the working folder, by which workers find it though it was renamed or removed; the caller's."""
    return os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def standard_error() -> int:
    """A descriptor to which what workers say is passed on; it is the caller's to close."""
    try:
        return os.dup(2)
    except OSError:
        # A program without one, such as a service of an old kind, has nowhere to show it.
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


class _Spawn:
    """Stands for the process that is being started, which is what multiprocessing asks while it pickles."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def duplicate_for_child(self, descriptor: int) -> int:
        self.descriptors.append(os.dup(descriptor))
        return len(self.descriptors) - 1

    # What a pickle holds in the place of the descriptor that was answered above.
    DupFd = _worker.Inherited


def _pickled_with(reducers: dict[type, Callable[[Any], Any]], value: object, what: str) -> bytes:
    picklers = [] if _pickling.is_interactive() else [pickle.Pickler]
    if _pickling.by_value is not None:
        picklers.append(_pickling.by_value)
    error: Exception | None = None
    for pickler in picklers or [pickle.Pickler]:
        stream = io.BytesIO()
        try:
            _pickling.pickler_with(reducers, pickler)(stream, 5).dump(value)
        except Exception as raised:
            error = error or raised
            continue
        return stream.getvalue()
    hint = ""
    if "fork context" in str(error):
        hint = '; make it with `multiprocessing.get_context("spawn")`, or the pool with `start_method="fork"`'
    raise UnpicklableError(f"{what} cannot be handed to a worker: {error}{hint}") from error


_ZYGOTES: dict[tuple[Any, ...], _native.ZygoteHandle] = {}
#: How many pools have each.
_USERS: dict[_native.ZygoteHandle, int] = {}
_ZYGOTES_LOCK = threading.Lock()


@_forks.resets
def _forget_in_child() -> None:
    """After a fork: another thread may have held the lock."""
    global _ZYGOTES_LOCK
    _ZYGOTES_LOCK = threading.Lock()
