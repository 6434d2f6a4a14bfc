"""`fetch` and `fetch_all`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, Unpack

from unisono import _native, clusters
from unisono._display import Progress
from unisono._native import Outcome, Request
from unisono.batches import Batch, LimitOptions, Work, give_up

Requestable: TypeAlias = str | Request | Mapping[str, Any]
Requests: TypeAlias = Iterable[Requestable] | AsyncIterable[Requestable]

Time = float | str
Size = int | str
StrPath = str | os.PathLike[str]


class FetchOptions(LimitOptions, total=False):
    """Options of `fetch`; the words and defaults are those of the command `unisono fetch`.

    Attributes:
        retries: Most repeats of a request that failed (3), as far as `retry_budget` goes.
        retry_budget: Repeats that the requests to one host have on credit together (100), beside one for five requests;
            `"none"`: only `retries` bounds them. One that fails since it is used up ends as `failed` of kind
            `retry_budget`.
        host_away: How long a host that is away, or answers nothing at all, is waited for (`"60s"`, or 0 with
            `retries=0`); 0 for not at all. What waits for it takes no slot, counts for no attempt, and ends as `failed`
            of kind `away`.
        max_wait: The longest wait that a server may ask for (`"60s"`); beyond it a request ends as `failed` of kind
            `rate_limited`.
        deadline: The longest time for a request with all its repeats and waits (`"15m"`), also for a host that is away.
        resume: Go on with `out`: what has no outcome there is run, and again what failed as `connect`, `away`,
            `rate_limited` or `retry_budget`, unless it must not be repeated.
        on: Have the requests sent by the workers of a cluster: `"dask://host:port"`, `"ray://host:port"`, a `Client` of
            Dask, or what `unisono.clusters.connect` answers. Limits, retries and results stay here, and hold for all
            machines together. Not with `cookies`, `token`, `cert` and `unix_socket`, which belong to one machine.
        http1: `True`: only HTTP/1.1 is spoken. `False` is the same as `http2=True`. With neither, HTTP/2 where a server
            offers it over TLS, and HTTP/1.1 otherwise.
        http2: `True`: only HTTP/2 is spoken, without TLS by prior knowledge. `False` is the same as `http1=True`.
    """

    timeout: Time
    deadline: Time
    stop_after: Time
    grace: Time
    retries: int
    retry_budget: int | str
    host_away: Time
    max_wait: Time
    max_failures: int
    canary: int
    out: StrPath
    resume: bool
    retry_failed: bool
    retry_ambiguous: bool
    adopt: bool
    rebind: bool
    overwrite: bool
    keep_order: bool
    idempotency_key: bool
    method: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    auth: tuple[str, str]
    bearer: str
    token: Callable[[], str] | Callable[[], Awaitable[str]]
    netrc: StrPath
    template: str
    id: str
    save: str
    body: str
    include_headers: bool
    select: str
    paginate: str
    max_pages: int
    expect: str
    cookies: bool
    max_redirects: int
    max_body: Size
    min_throughput: Size
    decompress: bool
    connect_timeout: Time
    http1: bool
    http2: bool
    verify: bool
    cacert: StrPath
    cert: StrPath
    key: StrPath
    proxy: str
    no_proxy: str
    ip: int
    unix_socket: StrPath
    on: Any


def fetch(requests: Requests, *, progress: Progress = False, **options: Unpack[FetchOptions]) -> Batch[Outcome]:
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
        UsageError: When an option is not what it should be; as the batch starts.
        RunError: When a cluster cannot be reached; as the batch starts.

    >>> batch = fetch([f"{server}/items/{n}" for n in range(3)], limit=50, retries=3)
    >>> sorted(outcome.response.json()["id"] for outcome in batch)
    [0, 1, 2]
    >>> batch.report.ok
    3
    """
    return Batch(_WORK, requests, progress=progress, options=options)


def fetch_all(
    requests: Iterable[Requestable], *, progress: Progress = False, **options: Unpack[FetchOptions]
) -> list[Outcome]:
    """All outcomes, in the order of the requests: the one-liner.

    >>> [outcome.response.status_code for outcome in fetch_all([f"{server}/items/1", f"{server}/missing"])]
    [200, 404]
    """
    options["keep_order"] = True
    return list(fetch(requests, progress=progress, **options))


def _start(*, keep_outcomes: bool, on: object = None, **options: Any) -> _native.Run[Outcome]:
    if on is None:
        return _native.fetch(keep_outcomes=keep_outcomes, **options)
    # What cannot be sent is said before anybody is asked.
    connections = _native.far_options(**options)
    executor, is_ours = clusters.for_fetching(on)
    try:
        run, errands = _native.fetch_elsewhere(keep_outcomes=keep_outcomes, **options)
    except BaseException:
        if is_ours:
            executor.shutdown(cancel_futures=True)
        raise
    try:
        clusters.carry(errands, executor, connections, is_ours=is_ours)
    except BaseException as error:
        # Nobody carries them, so it ends at once.
        errands.give_up(f"its requests cannot be sent: {error}")
        give_up(run, options)
        if is_ours:
            executor.shutdown(cancel_futures=True)
        raise
    return run


_WORK = Work(start=_start, noun="requests", counted=True, limit=20)
