"""Between a run's engine, which has requests to send, and the workers of a cluster, which send them.

In a program, `carry` takes them from the engine's queue on a thread. For the command, this module is a process of its
own, `python -m unisono.clusters._bridge ADDRESS`: the command is native, and clusters are joined by Python. They
speak in frames, a length and a kind and what belongs to it, over standard input and output. The process ends when its
input does, whatever it is doing, so that nothing outlives a command however that ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, BinaryIO

from unisono import clusters
from unisono._functions.callers import ServingThread
from unisono._native import __version__
from unisono._threads import begin
from unisono.errors import RunError, UsageError

if TYPE_CHECKING:
    # They need cloudpickle, which comes with the extras.
    from unisono.clusters._exchange import RemoteRequests
    from unisono.clusters._executor import ClusterExecutor

__all__ = ["carry"]


def carry(remote_requests: RemoteRequests, executor: ClusterExecutor, options: bytes, *, is_ours: bool) -> None:
    """Carry requests and their ends until the run is over, on a thread.

    Args:
        remote_requests: Where requests come from.
        executor: Sends them.
        options: The client's, as bytes.
        is_ours: Leave the cluster afterwards.

    Raises:
        RunError: There is no thread for it.
    """
    exchange = executor.exchange(options, remote_requests)

    def serve() -> None:
        is_over = False
        try:
            while not is_over:
                remote_requests.wait()
                requests, stops, is_over = remote_requests.take()
                exchange.send(requests, stops)
        finally:
            exchange.close()
            if is_ours:
                executor.shutdown(wait=False, cancel_futures=True)

    try:
        ServingThread(serve, "unisono-fetch")
    except BaseException:
        exchange.close()
        raise


class _Pipe:
    """The command, as where requests come from."""

    def __init__(self, given: BinaryIO, answers: BinaryIO) -> None:
        self._given = given
        self._answers = answers
        # Ends come from the thread that decides, and what goes wrong from others.
        self._lock = threading.Lock()
        self._frames: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
        self._next: tuple[bytes, bytes] | None = None
        self.is_over = threading.Event()
        # How long the end may take, in seconds; as long as nothing was joined, there is nothing to leave.
        self.patience = 0.0
        self._reader = threading.Thread(target=self._read, name="unisono-frames", daemon=True)

    def begin(self) -> None:
        """Begin to read.

        Raises:
            RunError: There is no thread for it.
        """
        begin(self._reader, "to read requests")

    def _read(self) -> None:
        while (frame := self._frame()) is not None:
            self._frames.put(frame)
        self._frames.put(None)
        self.is_over.set()

    def _frame(self) -> tuple[bytes, bytes] | None:
        head = self._given.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        size, kind = _HEAD.unpack(head)
        data = self._given.read(size)
        return (kind, data) if len(data) == size else None

    def say(self, kind: bytes, data: bytes) -> None:
        # A command that does not listen any more has closed our input as well.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._answers.write(_HEAD.pack(len(data), kind) + data)
            self._answers.flush()

    def first(self) -> bytes | None:
        """The first frame's options; `None` when there is none.

        Raises:
            UsageError: When the command is another version.
        """
        frame = self._frames.get()
        if frame is None:
            return None
        version, _, options = frame[1].partition(b"\n")
        if frame[0] != b"O" or version.decode() != __version__:
            raise UsageError(f"the package unisono is {__version__}, and the command is not: install them together")
        return options

    def wait(self) -> None:
        self._next = self._frames.get()

    def take(self) -> tuple[list[tuple[int, bytes]], list[int], bool]:
        requests: list[tuple[int, bytes]] = []
        stops: list[int] = []
        frame = self._next
        while frame is not None:
            kind, data = frame
            (number,) = _NUMBER.unpack_from(data)
            if kind == b"S":
                requests.append((number, data[_NUMBER.size :]))
                # A number is used again once what had it has ended: what was to stop was that one.
                stops = [stopped for stopped in stops if stopped != number]
            else:
                stops.append(number)
            if self._frames.empty():
                return requests, stops, False
            frame = self._frames.get()
        return requests, stops, True

    def give_back(self, ends: list[tuple[int, bytes]]) -> None:
        for number, end in ends:
            self.say(b"E", _NUMBER.pack(number) + end)

    def lost(self, numbers: list[int], why: str) -> None:
        for number in numbers:
            self.say(b"L", _NUMBER.pack(number) + why.encode())

    def unsent(self, numbers: list[int], why: str) -> None:
        for number in numbers:
            self.say(b"N", _NUMBER.pack(number) + why.encode())

    def give_up(self, why: str) -> None:
        self.say(b"G", why.encode())


def main(address: str) -> None:
    """Serve a command until its end, and end this process."""
    # What anything here prints is no frame.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pipe = _Pipe(sys.stdin.buffer, answers)
    try:
        pipe.begin()
        begin(
            threading.Thread(target=_end_with, args=(pipe,), name="unisono-end", daemon=True), "to end with the command"
        )
        options = pipe.first()
        if options is not None:
            executor, _ = clusters.for_fetching(address)
            pipe.patience = _LONGEST_END
            # What matters is said by us, to the user who started the command.
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
            carry(pipe, executor, options, is_ours=True)
            pipe.say(b"R", b"")
            pipe.is_over.wait()
            # As it is being left; if that takes too long, we end without.
            executor.shutdown(wait=True, cancel_futures=True)
    except UsageError as error:
        pipe.say(b"U", str(error).encode())
    except RunError as error:
        pipe.say(b"F", str(error).encode())
    # Threads of the cluster's package may take their time, and have nothing left to do.
    sys.stderr.flush()
    os._exit(0)


def _end_with(pipe: _Pipe) -> None:
    pipe.is_over.wait()
    time.sleep(pipe.patience)
    os._exit(0)


_HEAD = struct.Struct("<Ic")
_NUMBER = struct.Struct("<Q")
_LONGEST_END = 5.0

if __name__ == "__main__":
    main(sys.argv[1])
