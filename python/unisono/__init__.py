"""Run many independent pieces of work at once, with every outcome accounted for."""

from unisono._fetch import FetchOptions, fetch, fetch_all
from unisono._native import Outcome, Request, Response, __version__
from unisono.batch import Batch
from unisono.clients import AsyncClient, Client, StreamedResponse
from unisono.errors import (
    AmbiguousError,
    CallCancelled,
    CallError,
    CallTimeout,
    ConnectError,
    DecodeError,
    Error,
    InputError,
    RateLimited,
    RedirectError,
    RunError,
    StatusError,
    TlsError,
    TooLarge,
    UsageError,
)
from unisono.headers import Headers
from unisono.report import Report

__all__ = [
    "AmbiguousError",
    "AsyncClient",
    "Batch",
    "CallCancelled",
    "CallError",
    "CallTimeout",
    "Client",
    "ConnectError",
    "DecodeError",
    "Error",
    "FetchOptions",
    "Headers",
    "InputError",
    "Outcome",
    "RateLimited",
    "RedirectError",
    "Report",
    "Request",
    "Response",
    "RunError",
    "StatusError",
    "StreamedResponse",
    "TlsError",
    "TooLarge",
    "UsageError",
    "__version__",
    "fetch",
    "fetch_all",
]
