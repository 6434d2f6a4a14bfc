"""A worker process: what happens between its birth and its first task.

`__main__` is the caller's, as with `multiprocessing`: it is run under the name `__mp_main__` when something in it is
first asked for, and not before, so that a worker starts at once and a guarded program does not run twice.

Ctrl-C belongs to the program that started us; a worker takes no notice, and its own children do.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unisono import _native, _pickling


def run(socket: int, memory: int, settings: int, number: int) -> None:
    """Work until the pool is gone; the descriptors become ours."""
    signal.signal(signal.SIGINT, _ignore)
    # Read from the start each time: the memory is shared by all workers of the pool, and so is its position.
    values: dict[str, Any] = pickle.loads(os.pread(settings, os.fstat(settings).st_size, 0))
    os.close(settings)
    name_process(f"{values['name']}-{number}")
    prepare = _Prepare(values)
    # The class comes from this module's caller, who gives away both descriptors.
    _native.work(socket, memory, prepare, _describe)


class _Prepare:
    """Makes this process what the pool's options ask for."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __call__(self) -> None:
        values = self.values
        os.environ.clear()
        os.environ.update(values["environment"])
        sys.argv[:] = values["argv"]
        multiprocessing.current_process().authkey = values["authkey"]
        os.chdir(values["folder"])
        sys.path[:] = values["path"]
        if values["nice"]:
            os.nice(values["nice"])
        if values["memory_limit"]:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (values["memory_limit"],) * 2)
        if values["main"] is not None and not isinstance(sys.modules.get("__main__"), _Main):
            sys.modules["__main__"] = _Main(values["main"])
        if values["initializer"] is not None:
            initializer, arguments = pickle.loads(values["initializer"])
            initializer(*arguments)


class _Main(types.ModuleType):
    """Stands for the caller's `__main__` until something in it is asked for."""

    def __init__(self, main: tuple[str, str]) -> None:
        super().__init__("__main__")
        self.__dict__["_unisono_main"] = main

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        kind, where = self.__dict__["_unisono_main"]
        from multiprocessing import spawn

        # As multiprocessing marks a process whose main program is being run: a pool that it makes would have workers
        # that run it once more.
        process: Any = multiprocessing.current_process()
        process._inheriting = True
        try:
            if kind == "name":
                spawn._fixup_main_from_name(where)  # type: ignore[attr-defined]
            else:
                spawn._fixup_main_from_path(where)  # type: ignore[attr-defined]
        finally:
            del process._inheriting
        return getattr(sys.modules["__main__"], name)


def main_of_caller() -> tuple[str, str] | None:
    """How workers find the caller's `__main__`: by name or path; `None` when nobody else can import it."""
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return "name", name
    path = getattr(main, "__file__", None)
    if path is None or "ipykernel" in sys.modules:
        return None
    return "path", os.path.abspath(path)  # noqa: PTH100 (as multiprocessing does, without following links)


def _describe(error: BaseException, is_unfit: bool) -> Any:
    described = _pickling.describe_error(error)
    return f"the initializer of a worker raised {described[1]}: {described[2]}" if is_unfit else described


def _ignore(*_: object) -> None:
    """In place of SIG_IGN, which programs that we start would inherit."""


def name_process(name: str) -> None:
    """Say in `ps` what this process is; the kernel keeps 15 characters (proc_pid_comm(5))."""
    Path("/proc/self/comm").write_text(name[:15])


def spawned(call: Callable[[int, int, int, int], None] = run) -> None:
    """The start of a worker that is a fresh interpreter: its descriptors are its arguments."""
    call(*(int(word) for word in sys.argv[1:5]))
