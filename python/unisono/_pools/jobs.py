"""One function in a process of its own: what `multiprocessing.Process` is used for, with its end told.

A job is a pool of one worker that gets one task, and has its zygote, its shared memory and its ways to die. So it
starts within a millisecond or some, what it returns and raises comes back, and it ends with the program however that
ends.

The function with its arguments is handed over while the process starts, as to an initializer, so that queues, locks
and pipes of `multiprocessing` may be among them; but it is read by the task, so that what raises there is the job's.

Leaves out a job that outlives the program, and standard streams of its own: for these there are commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeGuard, TypeVar

from unisono import _forks, _native, _shutdown
from unisono._batches.display import tell
from unisono._functions.callables import plain
from unisono._keywords import told
from unisono._pools import pickling as _pickling
from unisono._pools import spawning as _spawning
from unisono._pools import worker as _worker
from unisono._pools.process_pool import Method, ProcessPool
from unisono.errors import PoolBroken, UnpicklableError, UsageError, WorkerDied

T = TypeVar("T")


@told("spawn", positional="spawn(function, *args, kwargs={...})")
def spawn(
    function: Callable[..., T],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    daemon: bool = False,
    start_method: Method | None = None,
    memory_limit: int | None = None,
    nice: int = 0,
) -> Job[T]:
    """Call a function in a process of its own, now.

    >>> with unisono.spawn(pow, 2, 10) as job:
    ...     job.result(timeout=60)
    1024

    Args:
        function: What is called. As with `ProcessPool`, the module that is run must be guarded by
            `if __name__ == "__main__":`.
        *args: Its arguments. Queues, locks, pipes and shared values of `multiprocessing` may be among them.
        kwargs: Its keyword arguments.
        name: What the job is called in messages and in `ps`; `None` means as the function.
        daemon: Kill the job when the program ends. Otherwise a program that ends waits for it, as with
            `multiprocessing.Process`.
        start_method: How the process starts: `zygote` (which `None` means), `spawn` or `fork`, as with `ProcessPool`.
        memory_limit: How many bytes of address space it may have (RLIMIT_AS).
        nice: By how much it is nicer than we are (nice(2)).

    Raises:
        TypeError: The function is none.
        UsageError: An option is not what it should be.
        UnpicklableError: The function or its arguments cannot be handed over.
        PoolBroken: Its process cannot be started, which its result raises.
        OSError: There are no descriptors left for it.
    """
    return Job(function, args, dict(kwargs or {}), name, daemon, start_method, memory_limit, nice)


class Job(Generic[T]):
    """A function that runs in a process of its own; made by `spawn`.

    As a context manager it is waited for at the end of the block, and terminated when an exception leaves the block. On
    a loop, `await job` is its result.

    A job that fails and whose end is never looked at is told on standard error.

    Attributes:
        name: What it is called.
        daemon: Whether it is killed when the program ends.

    >>> job = unisono.spawn(abs, -3, name="an example")
    >>> job.result(timeout=60), job.name
    (3, 'an example')
    """

    def __init__(
        self,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None,
        daemon: bool,
        start_method: Method | None,
        memory_limit: int | None,
        nice: int,
    ) -> None:
        if not callable(function):
            raise TypeError(f"a job is a function with its arguments, not {type(function).__name__}")
        plain(function, "what a job calls")
        if name is not None and not isinstance(name, str):
            raise UsageError(f"name must be text, not {name!r}")
        self.name: str = getattr(function, "__name__", type(function).__name__) if name is None else name
        self.daemon = daemon
        self._home = _forks.HomeProcess()
        self._is_seen = False
        #: By which signal it was stopped from here.
        self._stopped_by: int | None = None
        call = _JobCall(self.name, (function, args, kwargs))
        try:
            self._pool = ProcessPool(
                1,
                start_method=start_method,
                initializer=_take,
                initargs=(call,),
                memory_limit=memory_limit,
                nice=nice,
                name=self.name,
            )
        except UnpicklableError as error:
            raise call.error or error from None
        # How a job ends is told by the job.
        self._pool._engine.log_from(None)
        try:
            # The first task of the only worker says which process it is, and the second one is the job.
            self._birth = self._pool.submit(_identity)
            self._end = self._pool.submit(_run)
        except BaseException:
            self._pool.terminate()
            raise
        self._pool.shutdown(wait=False)
        _JOBS.add(self)
        # Held until it has ended, whatever else holds it.
        _RUNNING.add(self)
        self._end.add_done_callback(lambda _: _RUNNING.discard(self))

    def result(self, timeout: float | None = None) -> T:
        """What the function returned, waited for.

        Args:
            timeout: How many seconds to wait at most; the job goes on.

        Raises:
            TimeoutError: It has not ended within `timeout`.
            WorkerDied: Its process was killed, or ended by itself, as by `sys.exit` with a status above 0; the last
                that it wrote to standard error is part of the message.
            BaseException: Whatever the function raised, with its remote frames as the cause.
        """
        error = self.exception(timeout)
        if error is None:
            value: T = self._end.result()[1]
            return value
        try:
            raise error
        finally:
            # The traceback holds this frame, and it must not hold the traceback.
            del error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` raises, waited for; `None` when the function returned.

        Raises:
            TimeoutError: It has not ended within `timeout`.
        """
        if not self._end.wait(timeout):
            raise TimeoutError(f"the job {self.name} has not ended after {timeout:g} s")
        self._is_seen = True
        return self._error()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until its process has ended, or so many seconds; returns whether it has. Raises nothing of the job's."""
        has_ended = self._pool._engine.wait_closed(timeout)
        if has_ended and self._home.is_here():
            # By now all that it has logged was handled.
            self._pool.join()
        return has_ended

    def is_alive(self) -> bool:
        """Whether its process has not ended."""
        return not self._pool._engine.wait_closed(0)

    def terminate(self, grace: float = 5.0) -> None:
        """Ask it to end by SIGTERM, kill it after `grace` seconds, and wait for its end.

        A job that has not begun is not run. One that has ended stays as it is.
        """
        until = time.monotonic() + _native.seconds("grace", grace)
        self._ask_to_end(grace)
        if not self.join(max(until - time.monotonic(), 0)):
            self.kill()

    def kill(self) -> None:
        """Kill its process by SIGKILL, and wait for its end. A job that has not begun is not run."""
        self._stop(signal.SIGKILL)
        self._pool._engine.close(cancel=True, kill=True)
        self.join()

    @property
    def pid(self) -> int | None:
        """The number of its process, for whose start this waits; `None` when it was stopped before, or cannot start."""
        process = self._process(None)
        return None if process is None else process[0]

    @property
    def exit_code(self) -> int | None:
        """The exit status of its process; `None` while it runs, when a signal has ended it, or when it could not start.

        It is 0 when the function has returned, 1 when it has raised, or what was given to `sys.exit`.
        """
        if not self._end.done():
            return None
        self._is_seen = True
        error = self._error()
        if error is None:
            return 0
        if isinstance(error, PoolBroken):
            return None
        return error.exit_code if self._is_death(error) else 1

    @property
    def signal(self) -> int | None:
        """The number of the signal that has ended its process, if one has."""
        error = self._error() if self._end.done() else None
        return error.signal if self._is_death(error) else None

    def __await__(self) -> Generator[Any, None, T]:
        return self._awaited().__await__()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        if kind is None:
            self.join()
        else:
            self.terminate()
        return False

    def __repr__(self) -> str:
        return f"<unisono.Job {self.name} {'ended' if self._end.done() else 'runs'}>"

    def __del__(self) -> None:
        # One that could not be made has no end.
        if hasattr(self, "_end"):
            self._complain()

    async def _awaited(self) -> T:
        # The task that waits may be cancelled; the job is not.
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def wake() -> None:
            if not ended.done():
                ended.set_result(None)

        def tell_loop(_: object) -> None:
            # A loop that is closed has no waiters left.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(wake)

        self._end.add_done_callback(tell_loop)
        await ended
        return self.result()

    def _stop(self, number: int) -> None:
        """Say that it is stopped from here, and have it not begin."""
        if not self._end.done():
            self._is_seen = True
            self._stopped_by = number
            self._end.cancel()

    def _ask_to_end(self, longest: float) -> None:
        self._stop(signal.SIGTERM)
        process = self._process(longest)
        if process is not None:
            _send(process, signal.SIGTERM)

    def _process(self, longest: float | None) -> tuple[int, int] | None:
        """Its process, waited for."""
        if not self._birth.wait(longest) or self._birth.cancelled() or self._birth.exception() is not None:
            return None
        return self._birth.result()

    def _error(self) -> BaseException | None:
        """What the job, which has ended, did not end well by."""
        if self._end.cancelled():
            number = self._stopped_by or signal.SIGKILL
            name = signal.Signals(number).name
            return WorkerDied(f"the job {self.name} was stopped by {name}", signal=number)
        error = self._end.exception()
        if error is not None:
            return error
        code, said = self._end.result()
        if code == _LOST:
            return _pickling.death_before(self.name, *(self._pool._engine.loss() or (None, None, "")))
        if not code:
            return None
        return WorkerDied(f"the job {self.name} exited with code {code}{f': {said}' if said else ''}", exit_code=code)

    @staticmethod
    def _is_death(error: BaseException | None) -> TypeGuard[WorkerDied]:
        """Whether it is the end of the job's own process, and not of a worker of the job."""
        return isinstance(error, WorkerDied) and not isinstance(error.__cause__, _pickling.RemoteTraceback)

    def _complain(self) -> None:
        """Tell of a failure that was never looked at."""
        if self._is_seen or not self._home.is_here() or not self._end.done():
            return
        self._is_seen = True
        if (error := self._error()) is not None:
            lines = "".join(traceback.format_exception(error))
            tell(f"unisono: the job {self.name} failed, and nobody asked what became of it:\n{lines}")


class _JobCall:
    """A function with its arguments, on its way to its process."""

    def __init__(self, name: str, parts: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> None:
        self.name = name
        self.parts = parts
        #: Why it cannot be handed over.
        self.error: UnpicklableError | None = None

    def __reduce__(self) -> tuple[type[_Sealed], tuple[str, bytes]]:
        try:
            return _Sealed, (self.name, _spawning.pickled_for_spawn(self.parts, "the function and its arguments"))
        except UnpicklableError as error:
            self.error = error
            raise


class _Sealed:
    """The same in its process, as a pickle that is read when the job begins."""

    def __init__(self, name: str, pickled: bytes) -> None:
        self.name = name
        self._pickled = pickled

    @property
    def parts(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        parts: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] = _worker.read(self._pickled)
        return parts


def _take(call: _JobCall | _Sealed) -> None:
    """In the process of a job: what it inherits."""
    _TAKEN.append(call)
    _worker.name_process(call.name)
    multiprocessing.current_process().name = call.name


def _identity() -> tuple[int, int]:
    """Which process it is: its number, and when it was started, in ticks since the machine was."""
    _ASKED.append(True)
    return os.getpid(), _started(os.getpid())


def _run() -> tuple[int, Any]:
    """The job: the exit status, and what was returned or said."""
    if not _ASKED:
        # The process that was asked which it is has been ended since. That may have been meant for the job, and
        # would not look for it in this one.
        return _LOST, None
    # Taken out, so that arguments are held by the function alone.
    function, arguments, keywords = _TAKEN.pop().parts
    try:
        return 0, function(*arguments, **keywords)
    except SystemExit as end:
        # As the interpreter does it.
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF, None
        print(end.code, file=sys.stderr)
        return 1, str(end.code)


def _send(process: tuple[int, int], number: int) -> None:
    """Send a signal to a process, and never to another that has its number by now."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        descriptor = os.pidfd_open(process[0])
        try:
            # Looked at while the descriptor is open: if it is the same now, it was the same then.
            if _started(process[0]) == process[1]:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _started(process: int) -> int:
    """When a process was started (proc_pid_stat(5)); behind its name, which may hold anything."""
    return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[19])


@_shutdown.waits
def _at_exit() -> None:
    """A program that ends waits for its jobs, but for those that were made to end with it.

    Not one that ends by Ctrl-C, or gets it here: that does not reach them by itself, and the user who presses it means
    them too.
    """
    for job in list(_RUNNING):
        if job.daemon:
            job.kill()
    is_interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    try:
        if not is_interrupted:
            for job in list(_RUNNING):
                job.join()
    except KeyboardInterrupt:
        is_interrupted = True
    if is_interrupted:
        try:
            _end_all()
        except KeyboardInterrupt:
            # Pressed once more.
            for job in list(_RUNNING):
                job.kill()
    for job in list(_JOBS):
        job._complain()


def _end_all() -> None:
    """End all jobs, in the time that is one's."""
    until = time.monotonic() + _GRACE
    for job in list(_RUNNING):
        job._ask_to_end(_GRACE)
    for job in list(_RUNNING):
        if not job.join(max(until - time.monotonic(), 0)):
            job.kill()


@_forks.leaves
def _forget_in_child() -> None:
    """The jobs are the parent's. They are kept, since dropping them would touch what others held then."""
    _LEFT_BEHIND.append(set(_RUNNING))
    _RUNNING.clear()


#: In place of an exit status: the job was not begun.
_LOST = -1
#: How many seconds a job has to end by itself when the program ends by Ctrl-C.
_GRACE = 5.0
#: Filled in the process of a job when it has said which it is.
_ASKED: list[bool] = []
#: What this process was started for.
_TAKEN: list[_JobCall | _Sealed] = []
_JOBS: weakref.WeakSet[Job[Any]] = weakref.WeakSet()
_RUNNING: set[Job[Any]] = set()
_LEFT_BEHIND: list[set[Job[Any]]] = []
