"""The zygote: a fresh interpreter with one thread, which forks a worker for each message.

It gets the worker's descriptors with the message, writes into the worker's status pipe how it ended, and ends with
its pool's program, taking all workers with it: it watches that program's process, and not only its socket, of which a
careless fork may hold a copy.

It starts no thread and does no work, so a fork of it is as good as a fresh interpreter, with `preload` imported. A fork
of the program (`_forking`) serves in the same way.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Never

from unisono import _worker


def main(preload: list[str], parent: int) -> None:
    """Serve until the program that started us is gone."""
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
    for name in preload:
        # What cannot be imported here is reported by the task that needs it, in the worker, where it can be caught.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    Zygote(channel, watched, _worker.run).serve()


class Zygote:
    """Makes workers of which each does `work`, until the channel is closed or the process behind `parent` is gone.

    `work` is called with a worker's socket, memory, settings, number, and what else it is born with.
    """

    def __init__(
        self, channel: socket.socket, parent: int, work: Callable[[int, int, int, int, list[int]], None]
    ) -> None:
        self.channel = channel
        self.parent = parent
        self.work = work
        self.born = 0
        #: Process descriptor to its number and its status pipe.
        self.children: dict[int, tuple[int, int]] = {}

    def serve(self) -> None:
        """Make workers."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        poll.register(self.parent, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor in self.children:
                    poll.unregister(descriptor)
                    self.bury(descriptor)
                elif descriptor == self.parent or not (message := self.receive()):
                    self.end()
                    return
                else:
                    poll.register(self.bear(*message), select.POLLIN)
                    # What most workers need for the caller's `__main__`; after the first one, which so starts sooner.
                    importlib.import_module("multiprocessing.spawn")

    def receive(self) -> tuple[str, list[int]] | None:
        """A start method and the descriptors that a worker is born with; `None` when there will be no more."""
        text, descriptors, _, _ = socket.recv_fds(self.channel, 16, _MOST_DESCRIPTORS)
        return (text.decode(), descriptors) if text else None

    def bear(self, method: str, descriptors: list[int]) -> int:
        """Fork a worker, which does not return from here; answers its process descriptor."""
        self.born += 1
        worker_socket, memory, status, settings, words, *inherited = descriptors
        parent = os.getpid()
        number = os.fork()
        if number == 0:
            try:
                os.dup2(words, 2)
                os.close(words)
                self.become(method, (worker_socket, memory, settings), inherited, status, parent)
            finally:
                os._exit(70)
        process = os.pidfd_open(number)
        for descriptor in (worker_socket, memory, settings, words, *inherited):
            os.close(descriptor)
        self.children[process] = (number, status)
        return process

    def become(self, method: str, own: tuple[int, int, int], inherited: list[int], status: int, parent: int) -> Never:
        """Be the worker."""
        die_with_parent(parent)
        # Whatever would let us see or hold the ends of others.
        for process, (_, pipe) in self.children.items():
            os.close(process)
            os.close(pipe)
        os.close(status)
        os.close(self.parent)
        self.channel.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if method == "s":
            words = [str(word) for word in (*own, self.born, *inherited)]
            for descriptor in (*own, *inherited):
                os.set_inheritable(descriptor, True)
            program = f"import sys; sys.path[:] = {sys.path!r}; from unisono._worker import spawned; spawned()"
            os.execv(sys.executable, [sys.executable, "-c", program, *words])
        code = 0
        try:
            self.work(*own, self.born, inherited)
        except BrokenPipeError:
            # The pool is gone in the middle of a task; nobody wants to know of its end.
            pass
        except BaseException:
            traceback.print_exc()
            code = 70
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def bury(self, process: int) -> None:
        """Tell how a worker has ended."""
        number, status = self.children.pop(process)
        _, how = os.waitpid(number, 0)
        with contextlib.suppress(OSError):
            os.write(status, how.to_bytes(4, "little", signed=True))
        os.close(status)
        os.close(process)

    def end(self) -> None:
        """Kill all workers."""
        for process in self.children:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        for process in list(self.children):
            self.bury(process)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill us when our parent's thread ends (PR_SET_PDEATHSIG, prctl(2))."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(0)


#: What one message may carry at most, as the pool has it too.
_MOST_DESCRIPTORS = 64
