"""Run many independent pieces of work at once, with every outcome accounted for.

What `fetch` and the classes of errors need is imported at once, the rest when it is first asked for: a program that
fetches has no use for pools of processes, and their import takes as long as hundreds of requests.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from unisono import _supported  # noqa: F401 (it refuses, or does nothing)
from unisono._batches.batch import Batch
from unisono._batches.report import Report
from unisono._http.fetch import fetch, fetch_all
from unisono._http.headers import Headers
from unisono._native import (
    CommandOutcome,
    CommandResult,
    Digest,
    FetchOutcome,
    FileOutcome,
    FunctionOutcome,
    Outcome,
    Request,
    Response,
    __version__,
)
from unisono._options import (
    CallOptions,
    ClientOptions,
    CommandOptions,
    FetchOptions,
    FileCallOptions,
    FileOptions,
    FunctionOptions,
    RunOptions,
    VerifyOptions,
    WalkOptions,
)
from unisono._queue.queue import Queue
from unisono.errors import (
    ArgumentError,
    CommandAmbiguous,
    CommandCancelled,
    CommandError,
    CommandFailed,
    CommandInputError,
    CommandNotFound,
    CommandNotStarted,
    CommandTimeout,
    ConnectError,
    DecodeError,
    Error,
    FetchAmbiguous,
    FetchAmbiguousCancelled,
    FetchCancelled,
    FetchError,
    FetchInputError,
    FetchTimeout,
    FileCancelled,
    FileChanged,
    FileError,
    FileInputError,
    FileMismatch,
    FileMissing,
    FileTimeout,
    FileUnlisted,
    FileUnreadable,
    FunctionAmbiguous,
    FunctionCancelled,
    FunctionError,
    FunctionInputError,
    FunctionTimeout,
    GroupError,
    OutcomeError,
    PoolBroken,
    PoolError,
    QueueClosed,
    QueueEmpty,
    QueueFull,
    RateLimited,
    RedirectError,
    RemoteError,
    ResultTimeout,
    RunError,
    SampleFailed,
    StatusError,
    TaskTimeout,
    TlsError,
    TooLarge,
    UnpicklableError,
    UsageError,
    WorkerDied,
    WorkerLost,
)

if TYPE_CHECKING:
    from unisono import clusters, commands, files, testing
    from unisono._batches.results import read_results
    from unisono._functions.batch import batch, batch_all, starmap
    from unisono._functions.retrying import retry
    from unisono._functions.together import Gathered, first, gather
    from unisono._http.clients import AsyncClient, AsyncPages, AsyncStreamedResponse, Client, Pages, StreamedResponse
    from unisono._pools.async_result import AsyncResult
    from unisono._pools.futures import Future
    from unisono._pools.imap import ImapIterator
    from unisono._pools.jobs import Job, spawn
    from unisono._pools.pool import Pool
    from unisono._pools.process_pool import ProcessPool
    from unisono._pools.thread_pool import BusyTask, ThreadPool
    from unisono._queue.limiter import Limiter
    from unisono._watch.dump import dump
    from unisono._watch.watching import Watch, watch
    from unisono.explaining import Explanation, explain

__all__ = [
    "ArgumentError",
    "AsyncClient",
    "AsyncPages",
    "AsyncResult",
    "AsyncStreamedResponse",
    "Batch",
    "BusyTask",
    "CallOptions",
    "Client",
    "ClientOptions",
    "CommandAmbiguous",
    "CommandCancelled",
    "CommandError",
    "CommandFailed",
    "CommandInputError",
    "CommandNotFound",
    "CommandNotStarted",
    "CommandOptions",
    "CommandOutcome",
    "CommandResult",
    "CommandTimeout",
    "ConnectError",
    "DecodeError",
    "Digest",
    "Error",
    "Explanation",
    "FetchAmbiguous",
    "FetchAmbiguousCancelled",
    "FetchCancelled",
    "FetchError",
    "FetchInputError",
    "FetchOptions",
    "FetchOutcome",
    "FetchTimeout",
    "FileCallOptions",
    "FileCancelled",
    "FileChanged",
    "FileError",
    "FileInputError",
    "FileMismatch",
    "FileMissing",
    "FileOptions",
    "FileOutcome",
    "FileTimeout",
    "FileUnlisted",
    "FileUnreadable",
    "FunctionAmbiguous",
    "FunctionCancelled",
    "FunctionError",
    "FunctionInputError",
    "FunctionOptions",
    "FunctionOutcome",
    "FunctionTimeout",
    "Future",
    "Gathered",
    "GroupError",
    "Headers",
    "ImapIterator",
    "Job",
    "Limiter",
    "Outcome",
    "OutcomeError",
    "Pages",
    "Pool",
    "PoolBroken",
    "PoolError",
    "ProcessPool",
    "Queue",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "RateLimited",
    "RedirectError",
    "RemoteError",
    "Report",
    "Request",
    "Response",
    "ResultTimeout",
    "RunError",
    "RunOptions",
    "SampleFailed",
    "StatusError",
    "StreamedResponse",
    "TaskTimeout",
    "ThreadPool",
    "TlsError",
    "TooLarge",
    "UnpicklableError",
    "UsageError",
    "VerifyOptions",
    "WalkOptions",
    "Watch",
    "WorkerDied",
    "WorkerLost",
    "__version__",
    "batch",
    "batch_all",
    "clusters",
    "commands",
    "dump",
    "explain",
    "fetch",
    "fetch_all",
    "files",
    "first",
    "gather",
    "read_results",
    "retry",
    "spawn",
    "starmap",
    "testing",
    "watch",
]

# Where the rest is. Type checkers read the imports above instead, and so find out what there is not.
_MODULES = ("clusters", "commands", "explaining", "files", "testing")
_MODULE_OF = {
    "AsyncClient": "_http.clients",
    "AsyncPages": "_http.clients",
    "AsyncResult": "_pools.async_result",
    "AsyncStreamedResponse": "_http.clients",
    "BusyTask": "_pools.thread_pool",
    "Client": "_http.clients",
    "Explanation": "explaining",
    "Future": "_pools.futures",
    "Gathered": "_functions.together",
    "ImapIterator": "_pools.imap",
    "Job": "_pools.jobs",
    "Limiter": "_queue.limiter",
    "Pages": "_http.clients",
    "Pool": "_pools.pool",
    "ProcessPool": "_pools.process_pool",
    "StreamedResponse": "_http.clients",
    "ThreadPool": "_pools.thread_pool",
    "Watch": "_watch.watching",
    "batch": "_functions.batch",
    "batch_all": "_functions.batch",
    "dump": "_watch.dump",
    "explain": "explaining",
    "first": "_functions.together",
    "gather": "_functions.together",
    "read_results": "_batches.results",
    "retry": "_functions.retrying",
    "spawn": "_pools.jobs",
    "starmap": "_functions.batch",
    "watch": "_watch.watching",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"unisono.{name}")
        if name not in _MODULE_OF:
            from unisono._keywords import attribute_of_module

            message = f"module 'unisono' has no attribute {name!r}{attribute_of_module(name)}"
            raise AttributeError(message, name=name, obj=sys.modules[__name__])
        # Kept, so that it is asked for once.
        found = globals()[name] = getattr(import_module(f"unisono.{_MODULE_OF[name]}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES, *_MODULE_OF})


# A program that only imports unisono is watched by its environment.
if os.environ.get("UNISONO_WATCH"):
    import_module("unisono._watch.watching").watch_by_environment(os.environ["UNISONO_WATCH"])
