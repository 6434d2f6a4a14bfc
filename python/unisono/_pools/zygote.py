"""The zygote: a fresh interpreter with one thread, which forks a worker for each message.

It gets the worker's descriptors with the message, writes into the worker's status pipe how it ended or that it could
not be made, and ends with its pool's program, taking all workers with it: it watches that program's process, and not
only its socket, of which a careless fork may hold a copy. One that has had no workers for a minute ends as well.

Signals are taken as by a program that was just started, whatever the program that made us does with them.

It starts no thread and does no work, so a fork of it is as good as a fresh interpreter, with `preload` imported. A fork
of the program (`_forking`) serves in the same way.

One that could not import what it was to preload makes one worker that says so instead of working, which breaks its
pool, and ends with that: the next pool finds out for itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Never

from unisono._pools import pickling as _pickling
from unisono._pools import worker as _worker


def main(preload: list[str], parent: int) -> None:
    """Serve until the program that started us is gone, or has had no workers for long."""
    _worker.take_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.name_process("unisono-zygote")
    channel = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as nothing:  # noqa: PTH123 (a descriptor is all that is wanted)
        os.dup2(nothing.fileno(), 0)
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    if os.getppid() != parent:
        return
    # We were started for a worker that is waited for. What is said until it is made is passed on, and known, as its.
    select.select([channel.fileno(), watched], [], [])
    try:
        first = receive(channel)
    except _CannotBeMade:
        return
    if first is None:
        return
    with _said_by(first), _ends_with(watched):
        unfit = _import(preload)
    # Also after what a module may have done with them.
    _worker.take_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work = functools.partial(_worker.run, unfit=unfit)
    Zygote(channel, watched, work, unfit is not None).serve(first, _LONGEST_IDLE if unfit is None else 0)


def _import(preload: list[str]) -> str | None:
    """Import these modules; returns why no worker is fit to work, if one cannot be imported."""
    for name in preload:
        try:
            importlib.import_module(name)
        except Exception as error:
            if not (isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]):
                # Where in it something is wrong, it alone knows.
                traceback.print_exc()
            return (
                f"`{name}`, of preload, cannot be imported: {type(error).__name__}: {_pickling.text_of(error)} "
                "(workers start in an interpreter of their own with the `sys.path` of the program: give what can be "
                "imported there, or leave preload out)"
            )
    return None


@dataclass(frozen=True)
class Spawn:
    """A worker that is to be made: how it starts, and what it inherits."""

    method: str
    socket: int
    memory: int
    #: The process that makes it writes here how it has ended, or that it could not be made.
    status: int
    settings: int
    words: int
    inherited: list[int]

    def close(self) -> None:
        """Close what the worker has now."""
        for descriptor in (self.socket, self.memory, self.settings, self.words, *self.inherited):
            os.close(descriptor)

    def refuse(self, error: OSError) -> None:
        """Tell that there is no such worker, and why."""
        self.close()
        _refuse(self.status, error)


class Zygote:
    """Makes workers of which each does `work`, until the channel is closed or the process behind `parent` is gone.

    `work` is called with a worker's socket, memory, settings, number, and what else it is born with; if it `is_unfit`,
    only once, and also where a worker would be a fresh interpreter.
    """

    def __init__(
        self,
        channel: socket.socket,
        parent: int,
        work: Callable[[int, int, int, int, list[int]], None],
        is_unfit: bool = False,
    ) -> None:
        self.channel = channel
        self.parent = parent
        self.work = work
        self.is_unfit = is_unfit
        self.spawned = 0
        #: Process descriptor to its number and its status pipe.
        self.children: dict[int, tuple[int, int]] = {}
        self.poll = select.poll()

    def serve(self, spawn: Spawn | None = None, longest_idle: float | None = None) -> None:
        """Make workers, `spawn` first; without any for so many seconds, end."""
        # From now on our death is nothing that a start of ours has done.
        with contextlib.suppress(BrokenPipeError):
            self.channel.send(_SERVES)
        if self.is_unfit:
            # Before its worker says so: a pool that asks from then on is to get another zygote, which looks again.
            self.channel.shutdown(socket.SHUT_RDWR)
        else:
            self.poll.register(self.channel, select.POLLIN)
        self.poll.register(self.parent, select.POLLIN)
        if spawn is not None:
            self.spawn_worker(spawn)
        while True:
            patience = None if self.children or longest_idle is None else longest_idle * 1000
            ready = self.poll.poll(patience)
            if not ready:
                # The next worker starts another zygote.
                return
            for descriptor, _ in ready:
                if descriptor in self.children:
                    self.poll.unregister(descriptor)
                    self.reap(descriptor)
                elif descriptor == self.parent:
                    self.end()
                    return
                elif descriptor == self.channel.fileno():
                    try:
                        spawn = receive(self.channel)
                    except _CannotBeMade:
                        continue
                    if spawn is None:
                        self.end()
                        return
                    self.spawn_worker(spawn)

    def spawn_worker(self, spawn: Spawn) -> None:
        """Fork a worker, which does not return from here."""
        self.spawned += 1
        parent = os.getpid()
        try:
            number = os.fork()
        except OSError as error:
            spawn.refuse(error)
            return
        if number == 0:
            try:
                os.dup2(spawn.words, 2)
                os.close(spawn.words)
                self.become(spawn, parent)
            finally:
                os._exit(70)
        try:
            process = os.pidfd_open(number)
        except OSError as error:
            # Without a descriptor of it we could not watch it.
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
            spawn.refuse(error)
            return
        if spawn.method == "s":
            # It says so itself only when its interpreter has started, which something may keep it from.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(spawn.socket)) as end:
                socket.send_fds(end, [b"p" + number.to_bytes(4, "little")], [process])
        spawn.close()
        self.children[process] = (number, spawn.status)
        self.poll.register(process, select.POLLIN)
        # What most workers need for the caller's `__main__`; after the first one, which so starts sooner.
        with contextlib.suppress(Exception):
            importlib.import_module("multiprocessing.spawn")

    def become(self, spawn: Spawn, parent: int) -> Never:
        """Be the worker."""
        die_with_parent(parent)
        # Whatever would let us see or hold the ends of others.
        for process, (_, pipe) in self.children.items():
            os.close(process)
            os.close(pipe)
        os.close(spawn.status)
        os.close(self.parent)
        self.channel.close()
        _worker.take_signals()
        own, inherited = (spawn.socket, spawn.memory, spawn.settings), spawn.inherited
        if spawn.method == "s" and not self.is_unfit:
            words = [str(word) for word in (*own, self.spawned, *inherited)]
            for descriptor in (*own, *inherited):
                os.set_inheritable(descriptor, True)
            program = f"import sys; sys.path[:] = {sys.path!r}; from unisono._pools.worker import spawned; spawned()"
            os.execv(sys.executable, [sys.executable, "-c", program, *words])
        code = 0
        try:
            self.work(*own, self.spawned, inherited)
        except BrokenPipeError:
            # The pool is gone in the middle of a task; its end is of no use to anything.
            pass
        except SystemExit as end:
            # Of a child that a task has forked.
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 70
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 0xFF)

    def reap(self, process: int) -> None:
        """Tell how a worker has ended."""
        number, status = self.children.pop(process)
        # It goes unseen when something that was preloaded takes in the ends of all children.
        with contextlib.suppress(ChildProcessError, OSError):
            _, how = os.waitpid(number, 0)
            os.write(status, how.to_bytes(4, "little", signed=True))
        os.close(status)
        os.close(process)

    def end(self) -> None:
        """Kill all workers."""
        for process in self.children:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        for process in list(self.children):
            self.reap(process)


def receive(channel: socket.socket) -> Spawn | None:
    """The next worker that is to be made; `None` when there will be no more.

    Raises:
        _CannotBeMade: Too many descriptors are open here to take its own; that was told.
    """
    try:
        text, descriptors, flags, _ = socket.recv_fds(channel, 16, _MOST_DESCRIPTORS)
    except ConnectionResetError:
        # The program is gone, and had not read that we serve.
        return None
    if not text:
        return None
    if flags & socket.MSG_CTRUNC or len(descriptors) < _LEAST_DESCRIPTORS:
        error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        for at, descriptor in enumerate(descriptors):
            _refuse(descriptor, error) if at == _STATUS else os.close(descriptor)
        raise _CannotBeMade
    worker_socket, memory, status, settings, words, *inherited = descriptors
    return Spawn(text.decode(), worker_socket, memory, status, settings, words, inherited)


class _CannotBeMade(Exception):
    """A worker cannot be made, which its pool knows."""


def _refuse(status: int, error: OSError) -> None:
    with contextlib.suppress(OSError):
        os.write(status, _UNMADE + (error.errno or errno.EAGAIN).to_bytes(4, "little"))
    os.close(status)


@contextlib.contextmanager
def _said_by(spawn: Spawn) -> Iterator[None]:
    """What is written to standard error is written as the worker's."""
    try:
        own = os.dup(2)
    except OSError:
        # The program has none.
        own = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(spawn.words, 2)
    try:
        yield
        if sys.stderr is not None:
            sys.stderr.flush()
    finally:
        os.dup2(own, 2)
        os.close(own)


@contextlib.contextmanager
def _ends_with(program: int) -> Iterator[None]:
    """Look now and then whether the program is still there, whatever is at work here, and end with it."""

    def look(*_: object) -> None:
        if select.select([program], [], [], 0)[0]:
            os._exit(70)

    signal.signal(signal.SIGALRM, look)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill us when our parent's thread ends (PR_SET_PDEATHSIG, prctl(2))."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(0)


#: What one message may carry at most, as the pool has it too.
_MOST_DESCRIPTORS = 64
#: Every worker inherits so many, of which the status pipe stands there.
_LEAST_DESCRIPTORS = 5
_STATUS = 2
#: Goes before the error in a status pipe; four bytes alone are how a worker ended.
_UNMADE = b"none"
_SERVES = b"r"
#: How many seconds a zygote without workers waits for the next.
_LONGEST_IDLE = 60.0
