"""The start method `fork`: workers that have everything which the program has imported, defined and opened.

The program is forked once per pool, when the first task is submitted, and that fork makes the workers, as a zygote
does. So each worker sees the program as it was at that moment, those that replace others too, and only one fork is ever
made of a program that may have threads.

The fork keeps nothing of what the program was doing: it has lost our pools' sockets (`unisono_sys::private`), takes
the program's signal handlers and wake-up descriptor out, reads nothing from its standard input, leaves its garbage
alone, and ends without running exit handlers or writing what stood in buffers. Files and sockets of the program itself
stay open in it, since what was defined there may need them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import importlib
import marshal
import os
import signal
import socket
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable
from typing import Any

from unisono import _forks, _native
from unisono._pools import worker as _worker
from unisono._pools import zygote as _zygote


class Fork:
    """The fork of the program from which a pool has its workers, with these settings."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.zygote = _native.ZygoteHandle()
        self._settings = settings
        self._home = _forks.HomeProcess()
        self._has_happened = False
        self._lock = threading.Lock()

    def happens(self) -> bool:
        """Fork the program, unless that has been done; returns whether it was done now."""
        # A child of the program has neither the pool nor the lock, and is told so by the engine.
        if self._has_happened or not self._home.is_here():
            return False
        with self._lock:
            if not self._has_happened:
                _fork_program(self.zygote, self._settings)
                self._has_happened = True
                return True
        return False


def by_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, or what is pickled as its code when workers cannot find it by its name: a lambda, a nested function.

    Its globals are those of its module in the worker, so they need not be picklable.
    """
    if not isinstance(function, types.FunctionType) or "<" not in function.__qualname__:
        return function
    module = sys.modules.get(function.__module__)
    # Code that was run in a namespace of its own has no module in which the workers would find its globals.
    return _ByCode(function) if getattr(module, "__dict__", None) is function.__globals__ else function


class _ByCode:
    def __init__(self, function: types.FunctionType) -> None:
        self._function = function

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._function(*arguments, **keywords)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        function = self._function
        cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
        names = function.__module__, function.__name__, function.__qualname__
        return _remade, (marshal.dumps(function.__code__), names, function.__defaults__, function.__kwdefaults__, cells)


def _remade(
    code: bytes,
    names: tuple[str, str, str],
    defaults: tuple[Any, ...] | None,
    keywords: dict[str, Any] | None,
    cells: tuple[Any, ...],
) -> types.FunctionType:
    module, name, qualified = names
    namespace = vars(importlib.import_module(module))
    closure = tuple(map(types.CellType, cells))
    function = types.FunctionType(marshal.loads(code), namespace, name, defaults, closure)
    function.__kwdefaults__, function.__qualname__, function.__module__ = keywords, qualified, module
    return function


def _fork_program(zygote: _native.ZygoteHandle, values: dict[str, Any]) -> None:
    """Fork the program, and have the fork make the workers of `zygote` with these settings."""
    _warn_of_threads()
    _flush()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Of the process, not of this thread: it may end long before the program does.
    program = os.pidfd_open(os.getpid())
    number = _fork()
    if number == 0:
        code = 70
        try:
            ours.close()
            # A program that has no standard error, for one, may have these by its number, which that of workers gets.
            channel = socket.socket(fileno=_behind_standard(theirs.detach()))
            program = _behind_standard(program)
            _leave_program_alone()
            _worker.name_process("unisono-fork")
            _zygote.Zygote(channel, program, functools.partial(_worker.run_forked, values)).serve()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    theirs.close()
    os.close(program)
    zygote.adopt(ours.detach(), number)


def _warn_of_threads() -> None:
    threads = _threads()
    until = time.monotonic() + _LONGEST_END
    while threads > 1 and threading.active_count() == 1 and time.monotonic() < until:
        # One that was joined a moment ago may still be about to leave.
        time.sleep(_LONGEST_END / 20)
        threads = _threads()
    if threads == 1:
        return
    # Attributed to the code that has called us.
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(
        # The beginning is the interpreter's own, for filters that look for it.
        f"This process (pid={os.getpid()}) is multi-threaded ({threads} threads), use of fork() may lead to deadlocks "
        "in the child: locks that another thread holds now stay locked there. Submit the first task before there are "
        "threads, or use "
        'start_method="zygote"',
        RuntimeWarning,
        stacklevel=level,
    )


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 (the names are not wanted)


def _fork() -> int:
    """A fork without the interpreter's own warning, which would be the second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _flush() -> None:
    """Write what stands in the buffers of the standard streams, or each worker would write it as well."""
    for stream in (sys.stdout, sys.stderr):
        # As with `multiprocessing`: a stream that is closed, or none, has nothing in its buffer.
        with contextlib.suppress(AttributeError, ValueError):
            stream.flush()


def _leave_program_alone() -> None:
    """In the fork: nothing of what the program was doing goes on here."""
    # What is garbage there must not be finalized here: that might close, delete or write something.
    gc.freeze()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.take_signals()
    if asyncio := sys.modules.get("asyncio.events"):
        asyncio._set_running_loop(None)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    for stream in (1, 2):
        try:
            os.fstat(stream)
        except OSError:
            # Or the next descriptor that is made would stand for it.
            os.dup2(nothing, stream)
    if nothing > 2:
        os.close(nothing)


def _behind_standard(descriptor: int) -> int:
    """The same by a number that stands for no standard stream."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


#: How many seconds a thread may take to leave that Python knows no more.
_LONGEST_END = 0.02
