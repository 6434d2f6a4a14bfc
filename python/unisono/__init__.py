"""Run many independent pieces of work at once, with every outcome accounted for.

What `fetch` and the classes of errors need is imported at once, the rest when it is first asked for: a program that
fetches has no use for pools of processes, and their import takes as long as hundreds of requests.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from unisono._fetch import fetch, fetch_all
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
from unisono.batches import Batch
from unisono.errors import (
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
from unisono.headers import Headers
from unisono.queue import Queue
from unisono.report import Report

if TYPE_CHECKING:
    from unisono import clusters, commands, files
    from unisono._functions import batch, batch_all
    from unisono.clients import AsyncClient, AsyncStreamedResponse, Client, StreamedResponse
    from unisono.explaining import Explanation, explain
    from unisono.jobs import Job, spawn
    from unisono.limiter import Limiter
    from unisono.pool import Pool
    from unisono.process_pool import ProcessPool
    from unisono.results import read_results
    from unisono.retrying import retry
    from unisono.thread_pool import BusyTask, ThreadPool

__all__ = [
    "AsyncClient",
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
    "Headers",
    "Job",
    "Limiter",
    "Outcome",
    "OutcomeError",
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
    "WorkerDied",
    "WorkerLost",
    "__version__",
    "batch",
    "batch_all",
    "clusters",
    "commands",
    "explain",
    "fetch",
    "fetch_all",
    "files",
    "read_results",
    "retry",
    "spawn",
]

# Where the rest is. Type checkers read the imports above instead, and so find out what there is not.
_MODULES = (
    "async_result",
    "clients",
    "clusters",
    "commands",
    "explaining",
    "files",
    "futures",
    "jobs",
    "limiter",
    "pool",
    "process_pool",
    "results",
    "retrying",
    "thread_pool",
)
_MODULE_OF = {
    "AsyncClient": "clients",
    "AsyncStreamedResponse": "clients",
    "BusyTask": "thread_pool",
    "Client": "clients",
    "Explanation": "explaining",
    "Job": "jobs",
    "Limiter": "limiter",
    "Pool": "pool",
    "ProcessPool": "process_pool",
    "StreamedResponse": "clients",
    "ThreadPool": "thread_pool",
    "batch": "_functions",
    "batch_all": "_functions",
    "explain": "explaining",
    "read_results": "results",
    "retry": "retrying",
    "spawn": "jobs",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"unisono.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'unisono' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        # Kept, so that it is asked for once.
        found = globals()[name] = getattr(import_module(f"unisono.{_MODULE_OF[name]}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES, *_MODULE_OF})
