"""What workers log reaches the loggers of the program: records travel over one socket that a pool's workers share.

In a worker the root logger has one handler, a `Forwarder`, and loggers have the levels that they had in the program
when the pool began, so what the program would not show is not sent. In the program a `Collector`'s thread gives each
record to the logger of the same name. Each record is one packet, sent before the call of the logger returns: what was
logged before a crash arrives, in the order of each worker.

A program that does not take its records holds a worker up for a second and no longer; from then on they are
counted and not kept, and the number is logged when there is room again.

Leaves out the order between workers, and between records and results: a record may come a moment after the result of
its task. When `shutdown` has waited, all are there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import socket
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

from unisono import _forks


def levels() -> tuple[int, dict[str, int]]:
    """What the program's loggers let through: below which level none, and the levels that were set, by name."""
    root = logging.getLogger()
    known = [*root.manager.loggerDict.items()]
    named = {name: logger.level for name, logger in known if isinstance(logger, logging.Logger) and logger.level}
    return root.manager.disable, {"": root.level, **named}


def forward(descriptor: int, name: str, known: tuple[int, dict[str, int]]) -> None:
    """In a worker: let through what the program does, and send it there. The descriptor becomes the forwarder's."""
    # A fork has the program's handlers, and `preload` may have made some. Each record is handled once, in the program.
    for logger in _loggers():
        logger.handlers.clear()
        logger.propagate = True
    disabled, named = known
    logging.disable(disabled)
    for each, level in named.items():
        logging.getLogger(each).setLevel(level)
    logging.getLogger().addHandler(Forwarder(descriptor, name))


@contextlib.contextmanager
def for_program_alone() -> Iterator[None]:
    """While a worker runs the main program: the handlers that it adds are the program's, which handles each record."""
    root = logging.getLogger()
    forwards = any(isinstance(handler, Forwarder) for handler in root.handlers)
    before = {logger: [*logger.handlers] for logger in _loggers()}
    try:
        yield
    finally:
        if forwards:
            for logger in _loggers():
                logger.handlers[:] = before.get(logger, [])


def _loggers() -> list[logging.Logger]:
    known = [*logging.getLogger().manager.loggerDict.values()]
    return [logging.getLogger(), *(logger for logger in known if isinstance(logger, logging.Logger))]


class Forwarder(logging.Handler):
    """Sends records to the program. The descriptor becomes its own."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__()
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._has_room = select.poll()
        self._has_room.register(self._socket, select.POLLOUT)
        self._name = name
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, or count it."""
        # When the program is gone, we are about to be as well.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self._lost:
                # Having waited once is enough until the program reads: the system says so when most has been read.
                if not self._has_room.poll(0):
                    self._lost += 1
                    return
                self._socket.send(self._notice())
                self._lost = 0
            packet = self._packed(record)
            try:
                self._socket.send(packet)
            except BlockingIOError:
                if not self._has_room.poll(_PATIENCE):
                    self._lost = 1
                    return
                self._socket.send(packet)

    def _packed(self, record: logging.LogRecord) -> bytes:
        """A record as text and numbers: what was given to it need not be known to the program."""
        values = dict(record.__dict__)
        if record.process == os.getpid():
            # One that was forwarded to us by a worker of ours keeps its name.
            values["processName"] = self._name
        values["msg"], values["args"] = record.getMessage(), ()
        if record.exc_info and not record.exc_text:
            values["exc_text"] = (self.formatter or _FORMATTER).formatException(record.exc_info)
        values["exc_info"] = None
        try:
            packet = pickle.dumps(values, 5)
        except Exception:
            plain = (str, int, float, bool, type(None), tuple)
            values = {name: value if isinstance(value, plain) else repr(value) for name, value in values.items()}
            packet = pickle.dumps(values, 5)
        if len(packet) > _LONGEST:
            values = {name: _cut(value) for name, value in values.items() if name in _STANDARD}
            packet = pickle.dumps(values, 5)
        return packet

    def _notice(self) -> bytes:
        text = f"{self._lost} records of {self._name} were lost: the program did not take them"
        return self._packed(logging.LogRecord("unisono", logging.WARNING, __file__, 0, text, (), None))


class Collector:
    """Gives the records of a pool's workers to the loggers of this program."""

    def __init__(self, name: str) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Twice what the system has for each socket as a rule; it gives what it allows.
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _LONGEST)
        self._thread = threading.Thread(target=_collect, args=(self._ours,), name=f"{name}-logs", daemon=True)
        _COLLECTORS.add(self)
        # For a pool that never begins. A thread that has begun to take records closes its end itself.
        self._unused = weakref.finalize(self, _close, self._ours, self._theirs)
        self._unused.atexit = False

    def descriptor(self) -> int:
        """A copy of what workers write to; it is the caller's to close."""
        return os.dup(self._theirs.fileno())

    def start(self) -> None:
        """Begin to take records."""
        self._thread.start()
        self._unused.detach()

    def stop(self, seconds: float) -> None:
        """Once there are no workers: wait until what they have sent is handled, but not longer than so many seconds."""
        if self._thread.is_alive() and not self.is_asking():
            # Nonblocking for all that share it, so with a limit of our own.
            self._theirs.settimeout(seconds)
            with contextlib.suppress(TimeoutError, OSError):
                self._theirs.send(_END)
                self._thread.join(seconds)
        self._theirs.close()

    def is_asking(self) -> bool:
        """Whether it is a handler of a record that calls."""
        return threading.current_thread() is self._thread

    def forget(self) -> None:
        """In the child of a fork, where no thread takes them."""
        self._ours.close()
        self._theirs.close()


def _collect(ours: socket.socket) -> None:
    with ours:
        # An end of file comes when no process has the other end any more, as after a pool that could not begin.
        while (packet := ours.recv(_LONGEST + 1)) not in (_END, b""):
            try:
                record = logging.makeLogRecord(pickle.loads(packet))
                logger = logging.getLogger(record.name)
                if logger.isEnabledFor(record.levelno):
                    logger.handle(record)
            except BaseException:
                # A handler reports its own errors; this is a filter's, a record that cannot be read, or a handler that
                # means to end the program, of which this thread is no part.
                if logging.raiseExceptions:
                    traceback.print_exc()


def _close(*ends: socket.socket) -> None:
    for end in ends:
        end.close()


def _cut(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= _SHORT else f"{value[:_SHORT]}... (cut)"


@_forks.resets
def _forget_all() -> None:
    for collector in list(_COLLECTORS):
        collector.forget()


#: How many milliseconds a record may wait for the program to take those before it.
_PATIENCE = 1000
#: The longest packet, in bytes; what is longer is cut to the fields that every record has.
_LONGEST = 100_000
#: So many characters are kept of each text then; one may take four bytes, and there are three long ones at most.
_SHORT = 8_000
_END = b"end"
_FORMATTER = logging.Formatter()
_STANDARD = {*logging.LogRecord("", 0, "", 0, "", (), None).__dict__}
_COLLECTORS: weakref.WeakSet[Collector] = weakref.WeakSet()
