"""A worker process: what happens between its start and its first task.

`__main__` is the caller's, as with `multiprocessing`: it is run under the name `__mp_main__` when something in it is
first asked for, and not before, so that a worker starts at once and a guarded program does not run twice.

Ctrl-C belongs to the program that started us; a worker takes no notice, and its own children do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from unisono import _native
from unisono._pools import log_records as _log_records
from unisono._pools import pickling as _pickling
from unisono.errors import UnpicklableError


def run(socket: int, memory: int, settings: int, number: int, inherited: list[int], unfit: str | None = None) -> None:
    """Work until the pool is gone; the descriptors become ours. `unfit` says why that cannot be."""
    # Read from the start each time: the memory is shared by all workers of the pool, and so is its position.
    values: dict[str, Any] = pickle.loads(os.pread(settings, os.fstat(settings).st_size, 0))
    os.close(settings)
    Inherited.descriptors = inherited
    _work(socket, memory, number, values, _become_program, unfit)


def run_forked(
    values: dict[str, Any], socket: int, memory: int, settings: int, number: int, inherited: list[int]
) -> None:
    """The same in a fork of the program, which has everything already, and its settings in `values`."""
    os.close(settings)
    Inherited.descriptors = inherited
    _work(socket, memory, number, values, _leave_processes)


def take_signals() -> None:
    """Take signals as a program does that was just started, but for SIGINT, whatever the program that made us does.

    One that ignores SIGCHLD, for one, would never be told how its workers end, and one that blocks signals would have
    workers that cannot be asked to end. Others stay ignored: nohup(1) is meant for everything that a program starts.
    """
    for number in signal.valid_signals() - {signal.SIGINT}:
        taken = signal.getsignal(number)
        if number in _INTERPRETERS:
            signal.signal(number, signal.SIG_IGN)
        elif callable(taken) or (taken == signal.SIG_IGN and number in _MEANT):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


#: Those that the interpreter ignores itself: what they stand for is an `OSError`.
_INTERPRETERS = {signal.SIGPIPE, signal.SIGXFSZ}
#: Those by which the ends of processes are told and asked for.
_MEANT = {signal.SIGCHLD, signal.SIGTERM}


def _work(
    socket: int,
    memory: int,
    number: int,
    values: dict[str, Any],
    become: Callable[[dict[str, Any]], None],
    unfit: str | None = None,
) -> None:
    signal.signal(signal.SIGINT, _ignore)
    name = f"{values['name']}-{number}"
    name_process(name)
    multiprocessing.current_process().name = name

    def prepare() -> None:
        if unfit is not None:
            raise _UnfitError(unfit)
        become(values)
        _reseed()
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
            initializer, arguments = read(given) if isinstance(given, bytes) else given
            initializer(*arguments)

    if not _native.work(socket, memory, prepare, _describe, values["read_only_views"]):
        # A child that a task has forked: what is to be finished is its parent's.
        return
    # Threads that a task has started finish what they do, as those of a program, and pools of threads what they have.
    threading._shutdown()  # type: ignore[attr-defined]
    if util := sys.modules.get("multiprocessing.util"):
        # What was put into a queue of multiprocessing leaves by a thread, which is waited for here as in its processes.
        util._run_finalizers()


def read(pickled: bytes) -> Any:
    """Unpickle what this process inherited, which may import modules; `is_reading` is true meanwhile."""
    before, _reading.is_on = is_reading(), True
    try:
        return pickle.loads(pickled)
    finally:
        _reading.is_on = before


def is_reading() -> bool:
    """Whether this thread imports modules only to find something in them for a worker or a job."""
    return _native.is_reading() or getattr(_reading, "is_on", False)


class Inherited:
    """A descriptor that a worker inherits, in what its initializer is given; asked for by `multiprocessing`."""

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
    # By its descriptor: it may have another name by now, or none.
    folder = Inherited.descriptors.pop()
    os.fchdir(folder)
    os.close(folder)
    sys.path[:] = values["path"]
    if not isinstance(sys.modules.get("__main__"), _Main):
        # By either name: a worker of a worker is asked for what its program has from a program that was run here.
        sys.modules["__main__"] = sys.modules["__mp_main__"] = _Main(values["main"])
    _Main.of_program = values["main"]


def _reseed() -> None:
    """Have each worker draw random numbers of its own, though all are forks of one process.

    The interpreter does so for `random`; generators of a library's own, or made by the program, are the initializer's.
    """
    if numbers := sys.modules.get("numpy.random"):
        numbers.seed()


def _leave_processes(_: dict[str, Any]) -> None:
    """What `multiprocessing` does in its own forks: the program's children, finalizers and threads are not ours."""
    if process := sys.modules.get("multiprocessing.process"):
        process._children = set()  # type: ignore[attr-defined]
    if util := sys.modules.get("multiprocessing.util"):
        util._finalizer_registry.clear()
        util._run_after_forkers()


class _Main(types.ModuleType):
    """Stands for the caller's `__main__` until something in it is asked for."""

    #: Where that is, in a worker; workers of its own find it there as well.
    of_program: ClassVar[tuple[str, str] | None] = None

    def __init__(self, main: tuple[str, str] | None) -> None:
        super().__init__("__main__")
        self.__dict__["_unisono_main"] = main

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        main = self.__dict__["_unisono_main"]
        if main is None:
            # No AttributeError, since unpickling would put a text of its own in its place.
            raise UnpicklableError(
                f"`{name}` is defined in a main program that has no file which a worker could run (`python -c`, "
                "standard input, a prompt): install cloudpickle, put it into a module, or make the pool with "
                'start_method="fork"'
            )
        # As multiprocessing marks a process whose main program is being run: a pool that it makes would have workers
        # that run it once more.
        process: Any = multiprocessing.current_process()
        process._inheriting = True
        try:
            with _log_records.for_program_alone():
                _run_main(*main)
        finally:
            del process._inheriting
        return getattr(sys.modules["__main__"], name)


def _run_main(kind: str, where: str) -> None:
    """Run the main program under the name that multiprocessing has for it, by which `__main__` is not run twice."""
    import runpy

    if kind == "name":
        defined = runpy.run_module(where, run_name="__mp_main__", alter_sys=True)
    else:
        defined = runpy.run_path(where, run_name="__mp_main__")
    main = types.ModuleType("__mp_main__")
    main.__dict__.update(defined)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


def main_of_caller() -> tuple[str, str] | None:
    """How workers find the caller's `__main__`: by name or path; `None` when no other process can run it."""
    if _Main.of_program is not None:
        return _Main.of_program
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    name = getattr(spec, "name", None)
    if name not in (None, "__main__"):
        return "name", name
    # An archive or a folder with a `__main__.py` has no name by which it could be found.
    path = getattr(getattr(spec, "loader", None), "archive", None) or getattr(main, "__file__", None)
    if path is None or "ipykernel" in sys.modules or not os.path.exists(path):  # noqa: PTH110 (as below)
        return None
    return "path", os.path.abspath(path)  # noqa: PTH100 (as multiprocessing does, without following links)


class _UnfitError(Exception):
    """What a worker starts from is not what it should be."""


def _describe(error: BaseException, place: Literal["start", "call", "result"]) -> Any:
    if isinstance(error, _UnfitError):
        return str(error)
    if place == "result" and isinstance(error, UnpicklableError):
        why = error.__cause__ or error
        error = UnpicklableError(f"what it returned cannot be sent back: {_pickling.text_of(why)}")
        error.__cause__ = why
    described = _pickling.describe_error(error)
    return f"the initializer of a worker raised {described[1]}: {described[2]}" if place == "start" else described


def _ignore(*_: object) -> None:
    """In place of SIG_IGN, which programs that we start would inherit."""


def name_process(name: str) -> None:
    """Say in `ps` what this process is; the kernel keeps 15 bytes (proc_pid_comm(5))."""
    # A name is a courtesy: a worker without /proc, or of which the kernel does not take it, works all the same.
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_bytes(name.encode(errors="replace")[:15])


_reading = threading.local()


def spawned() -> None:
    """The start of a worker that is a fresh interpreter: its descriptors are its arguments."""
    socket, memory, settings, number, *inherited = map(int, sys.argv[1:])
    run(socket, memory, settings, number, inherited)
