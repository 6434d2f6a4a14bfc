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
from typing import Any, ClassVar

from unisono import _log_records, _native, _pickling


def run(socket: int, memory: int, settings: int, number: int, inherited: list[int]) -> None:
    """Work until the pool is gone; the descriptors become ours."""
    # Read from the start each time: the memory is shared by all workers of the pool, and so is its position.
    values: dict[str, Any] = pickle.loads(os.pread(settings, os.fstat(settings).st_size, 0))
    os.close(settings)
    Inherited.descriptors = inherited
    _work(socket, memory, number, values, _become_program)


def run_forked(
    values: dict[str, Any], socket: int, memory: int, settings: int, number: int, inherited: list[int]
) -> None:
    """The same in a fork of the program, which has everything already, and its settings in `values`."""
    os.close(settings)
    Inherited.descriptors = inherited
    _work(socket, memory, number, values, _leave_processes)


def _work(
    socket: int, memory: int, number: int, values: dict[str, Any], become: Callable[[dict[str, Any]], None]
) -> None:
    signal.signal(signal.SIGINT, _ignore)
    name = f"{values['name']}-{number}"
    name_process(name)
    multiprocessing.current_process().name = name

    def prepare() -> None:
        become(values)
        if (levels := values["levels"]) is not None:
            # The last: what multiprocessing hands over is counted from the first on.
            _log_records.forward(Inherited.descriptors.pop(), name, levels)
        if values["nice"]:
            os.nice(values["nice"])
        if values["memory_limit"]:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (values["memory_limit"],) * 2)
        if (given := values["initializer"]) is not None:
            # Not pickled in a fork, which has it.
            initializer, arguments = pickle.loads(given) if isinstance(given, bytes) else given
            initializer(*arguments)

    _native.work(socket, memory, prepare, _describe, values["read_only_views"])
    if util := sys.modules.get("multiprocessing.util"):
        # What was put into a queue of multiprocessing leaves by a thread, which is waited for here as in its processes.
        util._run_finalizers()


class Inherited:
    """A descriptor that a worker is born with, in what its initializer is given; asked for by `multiprocessing`."""

    #: Those of this worker.
    descriptors: ClassVar[list[int]] = []

    def __init__(self, number: int) -> None:
        self.number = number

    def detach(self) -> int:
        """A copy, which is the caller's to close."""
        return os.dup(self.descriptors[self.number])


def _become_program(values: dict[str, Any]) -> None:
    """Make of a fresh interpreter what the program is."""
    _pickling.pickle_as(values["interactive"])
    os.environ.clear()
    os.environ.update(values["environment"])
    sys.argv[:] = values["argv"]
    multiprocessing.current_process().authkey = values["authkey"]
    os.chdir(values["folder"])
    sys.path[:] = values["path"]
    if values["main"] is not None and not isinstance(sys.modules.get("__main__"), _Main):
        sys.modules["__main__"] = _Main(values["main"])


def _leave_processes(_: dict[str, Any]) -> None:
    """What `multiprocessing` does in its own forks: the program's children, finalizers and threads are not ours."""
    if process := sys.modules.get("multiprocessing.process"):
        process._children = set()  # type: ignore[attr-defined]
    if util := sys.modules.get("multiprocessing.util"):
        util._finalizer_registry.clear()
        util._run_after_forkers()


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
            with _log_records.for_program_alone():
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


def spawned() -> None:
    """The start of a worker that is a fresh interpreter: its descriptors are its arguments."""
    socket, memory, settings, number, *inherited = map(int, sys.argv[1:])
    run(socket, memory, settings, number, inherited)
