"""Everything unisono raises on purpose: one root, and the builtin that a caller would guess as second base."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import pickle
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from unisono._native import FunctionOutcome, Response

__all__ = [
    "ArgumentError",
    "CommandAmbiguous",
    "CommandCancelled",
    "CommandError",
    "CommandFailed",
    "CommandInputError",
    "CommandNotFound",
    "CommandNotStarted",
    "CommandTimeout",
    "ConnectError",
    "DecodeError",
    "Error",
    "FetchAmbiguous",
    "FetchAmbiguousCancelled",
    "FetchCancelled",
    "FetchError",
    "FetchInputError",
    "FetchTimeout",
    "FileCancelled",
    "FileChanged",
    "FileError",
    "FileInputError",
    "FileMismatch",
    "FileMissing",
    "FileTimeout",
    "FileUnlisted",
    "FileUnreadable",
    "FunctionAmbiguous",
    "FunctionCancelled",
    "FunctionError",
    "FunctionInputError",
    "FunctionTimeout",
    "GroupError",
    "PoolBroken",
    "PoolError",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "RateLimited",
    "RedirectError",
    "RemoteError",
    "ResultTimeout",
    "RunError",
    "SampleFailed",
    "StatusError",
    "TaskTimeout",
    "TlsError",
    "TooLarge",
    "UnpicklableError",
    "UsageError",
    "WorkerDied",
    "WorkerLost",
]


if sys.version_info >= (3, 13):
    _ShutDown = queue.ShutDown
    _AsyncShutDown = asyncio.QueueShutDown
else:

    class _ShutDown(Exception):
        """What `queue.ShutDown` is from Python 3.13 on."""

    class _AsyncShutDown(Exception):
        """What `asyncio.QueueShutDown` is from Python 3.13 on."""


class Error(Exception):
    """Base class of everything unisono raises on purpose.

    It can be pickled, and takes its cause and its notes along.
    """

    def __reduce__(self) -> Any:
        made, arguments, *state = cast("tuple[Any, ...]", super().__reduce__())
        kept = {**(state[0] if state else {}), "__cause__": self.__cause__}
        return (made, arguments, kept) if self.__cause__ is not None else (made, arguments, *state)


class UsageError(Error, ValueError):
    """An option or a file is not what it should be; nothing was run."""


class ArgumentError(UsageError, TypeError):
    """A function was called with a keyword that it does not have, or with arguments that it does not take.

    It is a `TypeError`, as of any function of Python's. The message says what was probably meant.
    """


class RunError(Error, RuntimeError):
    """A run could not begin or go on, for a reason outside of its requests."""


class SampleFailed(Error, RuntimeError):
    """A function that `unisono.explain` measures raised an exception, which is the cause.

    Attributes:
        item: The sample, if it is known.
        index: Its place among the samples, from 0, if it is known.
    """

    def __init__(self, message: str, *, item: Any = None, index: int | None = None) -> None:
        super().__init__(message)
        self.item = item
        self.index = index


class OutcomeError(Error):
    """An item did not end well; `outcome.error` is one of these, unless a function of the program's raised its own.

    Attributes:
        kind: Why, in one word, as in results files: `connect`, `status`, `missing`, `exit`, `timeout`, ...
        outcome: How the item ended: `failed`, `timed_out`, `ambiguous`, `cancelled` or `skipped`.
        effect: Whether what was asked for has been carried out: `none`, `maybe` or `done`.
        attempts: How often it was tried.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "internal",
        outcome: str = "failed",
        effect: str = "none",
        attempts: int = 0,
    ) -> None:
        # Not `super()`: the next in line may be a builtin with arguments of its own.
        Exception.__init__(self, message)
        self.kind = kind
        self.outcome = outcome
        self.effect = effect
        self.attempts = attempts

    def __str__(self) -> str:
        return str(self.args[0])


class FetchError(OutcomeError):
    """A request did not end well.

    Attributes:
        url: What was asked for, if that is known.
        response: The answer, if there is one.
        retry_at: When the server wants to be asked again, as a time since the epoch in seconds, if it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        url: str | None = None,
        response: Response | None = None,
        retry_at: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(message, **common)
        self.url = url
        self.response = response
        self.retry_at = retry_at


class FetchInputError(FetchError, ValueError):
    """The request itself cannot be understood; nothing was sent."""


class ConnectError(FetchError, ConnectionError):
    """No connection, or one that broke: name lookup, TCP, proxy, or a body that ended too early."""


class TlsError(ConnectError):
    """A certificate was not accepted, or the handshake failed."""


class FetchTimeout(FetchError, TimeoutError):
    """A call, with its retries, took longer than it may."""


class StatusError(FetchError):
    """An answer with a status that was not expected."""


class RateLimited(FetchError):
    """The server asks for a longer wait than allowed; `retry_at` says until when."""


class RedirectError(FetchError):
    """A redirect that leads nowhere, round in circles, or down to plain text."""


class DecodeError(FetchError, ValueError):
    """The body is not what its content coding says, or an expression failed on it."""


class TooLarge(FetchError):
    """The body or the header section is larger than its cap."""


class FetchAmbiguous(FetchError):
    """The request may have taken effect, and must not be repeated by itself."""


class FetchCancelled(FetchError):
    """The request was stopped before it was done; `effect` says what may have become of it."""


class FetchAmbiguousCancelled(FetchAmbiguous, FetchCancelled):
    """The request was stopped after it had been sent, may have taken effect, and must not be repeated by itself."""


class FileError(OutcomeError):
    """A file did not end well.

    Attributes:
        path: The file, if that is known.
    """

    def __init__(self, message: str, *, path: Path | None = None, **common: Any) -> None:
        super().__init__(message, **common)
        self.path = path


class FileInputError(FileError, ValueError):
    """What was given is no path."""


class FileMissing(FileError, FileNotFoundError):
    """The file is not there."""


class FileUnreadable(FileError, OSError):
    """The file cannot be read, or is none."""


class FileChanged(FileError):
    """The file changed while it was read, at the second try as well."""


class FileMismatch(FileError, ValueError):
    """The file is not what its manifest says."""


class FileUnlisted(FileError):
    """The file is in no manifest."""


class FileTimeout(FileError, TimeoutError):
    """The file took longer than its deadline."""


class FileCancelled(FileError):
    """The file was stopped before it was done."""


class CommandError(OutcomeError):
    """A command did not end well.

    Attributes:
        argv: The program and its arguments.
        exit_code: Its exit code, if it has one.
        signal: The number of the signal that ended it, if one did.
        stdout, stderr: What it printed: bytes, or text with `text=True`.
    """

    def __init__(
        self,
        message: str,
        *,
        argv: Sequence[str] = (),
        exit_code: int | None = None,
        signal: int | None = None,
        stdout: bytes | str = b"",
        stderr: bytes | str = b"",
        **common: Any,
    ) -> None:
        super().__init__(message, **common)
        self.argv = list(argv)
        self.exit_code = exit_code
        self.signal = signal
        self.stdout = stdout
        self.stderr = stderr


class CommandInputError(CommandError, ValueError):
    """What was given is no command; nothing was started."""


class CommandFailed(CommandError, subprocess.CalledProcessError):
    """A command ended with another exit code than was expected, or by a signal.

    Attributes:
        cmd, returncode, output: As `subprocess` has them, where a signal is a negative code.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        CommandError.__init__(self, message, **fields)
        self.cmd = self.argv
        self.returncode = -self.signal if self.signal is not None else self.exit_code or 0


class CommandNotStarted(CommandError, OSError):
    """A command could not be started: its program is not executable, or its folder is not there."""


class CommandNotFound(CommandNotStarted, FileNotFoundError):
    """There is no such program."""


class CommandTimeout(CommandError, TimeoutError):
    """A command took longer than its timeout or deadline; nothing of it is left."""


class CommandCancelled(CommandError):
    """A command was stopped on request, or not started any more."""


class CommandAmbiguous(CommandError):
    """How a command ended is not known: it could not be killed, or something else took in its end."""


class FunctionError(OutcomeError):
    """A call of a function did not end well, for another reason than that it raised.

    Attributes:
        name: What its item is called.
    """

    def __init__(self, message: str, *, name: str = "", **common: Any) -> None:
        super().__init__(message, **common)
        self.name = name


class FunctionInputError(FunctionError, ValueError):
    """The item cannot be taken: its key, name or description failed; nothing was called."""


class FunctionTimeout(FunctionError, TimeoutError):
    """A call took longer than its timeout or deadline, and has ended."""


class FunctionCancelled(FunctionError):
    """A call was stopped on request, or not made any more."""


class WorkerLost(Error):
    """A worker of a cluster has gone, and with it a call that it had begun: whether it took effect is not known.

    `retry_on` is asked about it; an outcome that it leads to has a `FunctionAmbiguous`, or a `FunctionError` of kind
    `died` where calling twice does no harm.
    """


class FunctionAmbiguous(FunctionError):
    """A call may have taken effect, or may yet: it was interrupted, or goes on though it was to end."""


class GroupError(Error, ExceptionGroup[Exception]):
    """Of several awaitables that belong together, those that were needed did not end well; `except*` takes it apart.

    Attributes:
        outcomes: What became of each of them, the others included, by its name or place.
    """

    outcomes: Mapping[str | int, FunctionOutcome[Any]]

    def __new__(
        cls,
        message: str,
        exceptions: Sequence[Exception],
        outcomes: Mapping[str | int, FunctionOutcome[Any]] = MappingProxyType({}),
    ) -> Self:
        """Make one with the exceptions of those that were needed."""
        self = super().__new__(cls, message, exceptions)
        self.outcomes = outcomes
        return self

    def __reduce__(self) -> Any:
        made, arguments, *state = super().__reduce__()
        # A view of a mapping cannot be pickled.
        kept = {**(state[0] if state else {}), "outcomes": dict(self.outcomes)}
        return made, arguments, kept

    def derive(self, exceptions: Sequence[Exception]) -> GroupError:  # type: ignore[override]
        """A part of it, with all outcomes."""
        return GroupError(self.message, exceptions, self.outcomes)


class QueueEmpty(Error, queue.Empty, asyncio.QueueEmpty):
    """Nothing is in the queue, or nothing came in time."""


class QueueFull(Error, queue.Full, asyncio.QueueFull):
    """There is no room in the queue, or there was none in time."""


class QueueClosed(Error, _ShutDown, _AsyncShutDown):
    """The queue was closed: nothing can be put, and nothing is left to be taken.

    From Python 3.13 on this is also a `queue.ShutDown` and an `asyncio.QueueShutDown`.
    """


class PoolError(Error):
    """A task of a pool did not end well, for another reason than that it raised."""


class WorkerDied(PoolError, BrokenProcessPool):
    """The worker process that ran a task ended under it; the pool has another one by now, and no other task is lost.

    It is a `concurrent.futures.process.BrokenProcessPool`, since that is what callers of `ProcessPoolExecutor` catch.

    Attributes:
        exit_code: Its exit code, if it has one.
        signal: The number of the signal that ended it, if one did.
        stderr: The last that it wrote to its standard error, 2,048 bytes at most.
    """

    def __init__(
        self, message: str, *, exit_code: int | None = None, signal: int | None = None, stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.signal = signal
        self.stderr = stderr


class ResultTimeout(PoolError, multiprocessing.TimeoutError, TimeoutError):
    """`AsyncResult.get` has waited long enough; the task goes on.

    It is what callers of `multiprocessing.Pool` catch, and the builtin one.
    """


class TaskTimeout(PoolError, TimeoutError):
    """A task ran longer than its timeout; its worker was killed.

    Attributes:
        timeout: How long it might have run, in seconds.
    """

    def __init__(self, message: str, *, timeout: float | None = None) -> None:
        super().__init__(message)
        self.timeout = timeout


class PoolBroken(PoolError, BrokenProcessPool):
    """A pool cannot have workers: they cannot be started, or their initializer raises."""


class UnpicklableError(PoolError, pickle.PicklingError):
    """A function, an argument or a result cannot be sent between processes."""


class RemoteError(PoolError, RuntimeError):
    """A task raised something that cannot be read here; this is its text.

    Attributes:
        class_name: The class of what it raised, with its module.
        traceback: Its traceback, as text.
    """

    def __init__(self, message: str, *, class_name: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.class_name = class_name
        self.traceback = traceback


def with_causes(error: BaseException) -> list[BaseException]:
    """An exception, its cause, the cause of that, and so on: pickling one leaves its cause behind.

    >>> error = OSError("a")
    >>> error.__cause__ = KeyError("b")
    >>> with_causes(error)
    [OSError('a'), KeyError('b')]
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def linked(chain: list[BaseException]) -> BaseException:
    """The first of these exceptions, each with the next one as its cause.

    >>> linked([OSError("a"), KeyError("b")]).__cause__
    KeyError('b')
    """
    for error, cause in itertools.pairwise(chain):
        error.__cause__ = cause
    return chain[0]
