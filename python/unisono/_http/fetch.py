"""`fetch` and `fetch_all`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, TypeAlias, Unpack

from unisono import _native, clusters
from unisono._batches.batch import Batch, BatchWork, give_up
from unisono._batches.display import Progress
from unisono._http.attempts import LOGGER
from unisono._keywords import told
from unisono._native import FetchOutcome, Request
from unisono._options import FetchOptions

Requestable: TypeAlias = str | Request | Mapping[str, Any]
Requests: TypeAlias = Iterable[Requestable] | AsyncIterable[Requestable]


@told("fetch", FetchOptions)
def fetch(requests: Requests, *, progress: Progress = False, **options: Unpack[FetchOptions]) -> Batch[FetchOutcome]:
    """Call many URLs, with every outcome accounted for.

    A request that fails is an outcome, not an exception: one bad request never hides the rest. Requests are pulled
    lazily, so a generator of a million takes no memory.

    Args:
        requests: URLs, `Request`s or mappings (`url`, `method`, `headers`, `params`, `json`, `content`, `id`), from any
            iterable or async iterable.
        progress: `True` shows a line on standard error; a callable gets the numbers.
        **options: As on the command line. Times are seconds, or text such as `"10s"` (`"none"` for no bound); sizes are
            bytes, or text such as `"64MiB"`.

    Raises:
        UsageError: When an option is not what it should be.
        RunError: When a cluster cannot be reached; as the batch starts.

    >>> batch = fetch([f"{server}/items/{n}" for n in range(3)], limit=50, retries=3)
    >>> sorted(outcome.result.json()["id"] for outcome in batch)
    [0, 1, 2]
    >>> batch.report.ok
    3
    """
    return Batch(_WORK, requests, progress=progress, options=_connected(options))


@told("fetch_all", FetchOptions)
def fetch_all(
    requests: Iterable[Requestable], *, progress: Progress = False, **options: Unpack[FetchOptions]
) -> list[FetchOutcome]:
    """All outcomes, in the order of the requests: the one-liner.

    >>> [outcome.result.status_code for outcome in fetch_all([f"{server}/items/1", f"{server}/missing"])]
    [200, 404]
    """
    options["keep_order"] = True
    return list(fetch(requests, progress=progress, **options))


def _connected(options: FetchOptions) -> Mapping[str, Any]:
    transport = options.pop("transport", None)
    return options if transport is None else {**options, **transport.connection_options()}


def _start(*, keep_outcomes: bool, on: object = None, **options: Any) -> _native.Run[FetchOutcome]:
    if on is None:
        return _native.fetch(keep_outcomes=keep_outcomes, **options)
    # It takes threads and pickles along, which a program that fetches by itself has no use for.
    from unisono.clusters import _bridge

    # What cannot be sent is said before a cluster is asked.
    connections = _native.remote_options(**options)
    executor, is_ours = clusters.for_fetching(on)
    try:
        run, remote_requests = _native.fetch_remote(keep_outcomes=keep_outcomes, **options)
    except BaseException:
        if is_ours:
            executor.shutdown(cancel_futures=True)
        raise
    try:
        _bridge.carry(remote_requests, executor, connections, is_ours=is_ours)
    except BaseException as error:
        # Nothing carries them, so it ends at once.
        remote_requests.give_up(f"its requests cannot be sent: {error}")
        give_up(run, options)
        if is_ours:
            executor.shutdown(cancel_futures=True)
        raise
    return run


def _check(*, on: object = None, **options: Any) -> None:
    _native.check_fetch(**options)
    if on is not None:
        _native.remote_options(**options)


_WORK = BatchWork(start=_start, check=_check, noun="requests", counted=True, limit=20, logger=LOGGER, key="host")
