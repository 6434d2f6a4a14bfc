"""Options of batches and clients: one class for each kind of work, built from groups that all share.

The words and defaults are those of the command. Times are seconds, a `timedelta`, or text such as `"10s"`, `"5m"`
(`"none"` for no bound); sizes are bytes, or text such as `"64MiB"`; rates are text such as `"100/s"`, `"5000/m"` or
`"100/s burst 20"`.

They are `TypedDict`s, so a type checker finds a name or a value that is wrong; at run time that is a `TypeError` or a
`UsageError` before anything is started. It leaves out arguments that a function names itself, such as `progress`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, TypeAlias, TypedDict

if TYPE_CHECKING:
    from unisono._native import Request

Time: TypeAlias = float | str | timedelta
Size: TypeAlias = int | str
StrPath: TypeAlias = str | os.PathLike[str]
AnyPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Part: TypeAlias = AnyPath | int | float
Pairs: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, Any]]
FileContent: TypeAlias = str | bytes | os.PathLike[str] | BinaryIO
Content: TypeAlias = FileContent | Iterable[bytes] | AsyncIterable[bytes]
FilePart: TypeAlias = (
    bytes | os.PathLike[str] | BinaryIO | tuple[str | None, FileContent] | tuple[str | None, FileContent, str | None]
)
Files: TypeAlias = FilePart | list[FilePart] | None
Statuses: TypeAlias = int | str | Iterable[int | str]
Auth: TypeAlias = tuple[str, str] | Callable[["Request"], "Request"]
RetryOn: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]


class Transport(Protocol):
    """What a client or batch connects to in place of the network."""

    def connection_options(self) -> Mapping[str, Any]:
        """The options that have it connect there."""

    def check(self) -> None:
        """Raise what is wrong with what it was asked so far."""


class LimitOptions(TypedDict, total=False):
    """How much at once, and how often.

    Attributes:
        limit: Most at once. 20 requests; for files and commands one per core; 20 calls of a function, one per core
            where they run in processes, and four per thread of a cluster, or one where calls have a `timeout` or
            `deadline`, so that they do not wait for their turn meanwhile.
        rate: Most starts per time; no bound by default.
    """

    limit: int
    rate: str


class HostLimitOptions(TypedDict, total=False):
    """The same for each host, which is the key of requests.

    Attributes:
        per_host: Most requests at once to the same host; no bound of its own by default.
        per_host_rate: Most starts per time to the same host.
    """

    per_host: int
    per_host_rate: str


class KeyLimitOptions(TypedDict, total=False):
    """The same for each key, which `key` tells.

    Attributes:
        per_key: Most at once with the same key.
        per_key_rate: Most starts per time with the same key.
    """

    per_key: int
    per_key_rate: str


class KeyOptions(KeyLimitOptions, total=False):
    """What holds for each key.

    Attributes:
        ordered_by_key: While an item is undecided, waits for its repeat or cannot be stopped, no other of its key
        starts. host_away: How long is waited for what a key stands for when it is away (`"60s"`, 0 for not at all);
        then what
            waits is `failed` of kind `away`.
    """

    ordered_by_key: bool
    host_away: Time


class NewLimits(LimitOptions, HostLimitOptions, KeyLimitOptions, total=False):
    """Limits to be changed while a batch runs. What is kept by host for requests is kept by key for everything else."""


class ClientLimits(LimitOptions, HostLimitOptions, total=False):
    """Limits of a client, to be changed."""


class TryOptions(TypedDict, total=False):
    """How long and how often one item is tried.

    Attributes:
        deadline: The longest time for one item with all its repeats and waits: `"15m"` for requests, `"1h"` for files,
            none for commands and functions.
        retries: Most repeats of an attempt that failed: 3 for requests, 1 for a file that changed while it was read,
            none for commands and functions.
    """

    deadline: Time
    retries: int


class TimeOptions(TypedDict, total=False):
    """How long a run as a whole goes on.

    Attributes:
        stop_after: Start nothing new after this time; no bound by default.
        grace: How long what runs may take to finish when the run is stopped (`"10s"`).
    """

    stop_after: Time
    grace: Time


class StopOptions(TypedDict, total=False):
    """When a run stops early, and the order of its outcomes.

    Attributes:
        max_failures: Stop after so many items that did not end well; no bound by default.
        canary: The first so many items must end ok before any other starts.
        keep_order: Outcomes in the order of the input, and not as they are done. Costs memory for those that wait.
        on_exit: What happens to what runs when a `with` or `async with` block of the batch is left: `"finish"` (the
            default) lets it finish, `"cancel"` stops it. Either way nothing new starts, and the block waits until all
            has ended. When an exception leaves the block, it is stopped in any case.
    """

    max_failures: int
    canary: int
    keep_order: bool
    on_exit: Literal["finish", "cancel"]


class ResultsOptions(TypedDict, total=False):
    """The results file, which the command reads as well.

    Attributes:
        out: Keep results in this file, one JSON object per item.
        resume: Go on with `out`: what has no outcome there is done, and again what failed as `connect`, `away`,
            `rate_limited` or `retry_budget`, unless it must not be repeated. What was interrupted and must not be
            repeated is `ambiguous`.
        retry_failed: As `resume`, and again what failed or timed out.
        retry_ambiguous: As `retry_failed`, and again what may have taken effect: this may do it twice.
        adopt: As `resume`, of a copy of a results file whose run has not ended (`docs/results.md`).
        rebind: As `resume`, with another input: items are known again by their ids, wherever they stand. Files,
            commands and items of functions are known by what they are in any case.
        overwrite: Replace a results file that is there, and files that `save` finds in its way; with `resume` and its
            like the latter alone.
    """

    out: AnyPath
    resume: bool
    retry_failed: bool
    retry_ambiguous: bool
    adopt: bool
    rebind: bool
    overwrite: bool


class ConnectionOptions(TypedDict, total=False):
    """Connections, and what is sent with each request.

    Attributes:
        timeout: The longest time for one attempt (`"30s"`).
        connect_timeout: The longest time to connect: name lookup, TCP, proxy and TLS (`"5s"`).
        http1: `True`: only HTTP/1.1 is spoken. `False` is the same as `http2=True`. With neither, HTTP/2 where a server
            offers it over TLS, and HTTP/1.1 otherwise.
        http2: `True`: only HTTP/2 is spoken, without TLS by prior knowledge. `False` is the same as `http1=True`.
        verify: `False`: trust any certificate; for tests only.
        cacert: Trust the certificates in this file (PEM) and no others.
        cert: Our certificate chain (PEM), with its key unless `cert_key` is given.
        cert_key: The key of `cert` (PEM).
        proxy: The proxy for everything: an http, https, socks5 or socks5h URL; empty for none. From the environment by
            default.
        no_proxy: Hosts and networks that are reached without proxy, separated by commas.
        ip: 4 or 6: only addresses of this family.
        unix_socket: Connect to this Unix socket, whatever the URL says.
        transport: Connect to what is behind this, whatever the URL says: a `unisono.testing.FakeTransport` in tests.
        expect: Statuses that are a success, as `404`, `"2xx,404"` or several of them; 2xx and 304 by default. A client
            returns any answer: there they say what is not tried again, and what `raise_for_status` takes.
        max_redirects: Most redirects to follow (20); 0 takes a redirect for the answer.
        max_body: The largest body, decoded (`"64MiB"`): a bound on what an answer can cost.
        min_throughput: Give up a body that comes in slower than so many bytes per second; no bound by default.
        decompress: `False`: do not ask for compressed bodies.
        bearer: A bearer token, sent with each request.
        token: Returns a bearer token; it is called again when a server refuses the one that it gave.
        netrc: Names and passwords from this file.
        method: The method of requests that name none: GET, or POST with a body.
    """

    timeout: Time
    connect_timeout: Time
    http1: bool
    http2: bool
    verify: bool
    cacert: StrPath
    cert: StrPath
    cert_key: StrPath
    proxy: str
    no_proxy: str
    ip: int
    unix_socket: StrPath
    transport: Transport | None
    expect: Statuses
    max_redirects: int
    max_body: Size
    min_throughput: Size
    decompress: bool
    bearer: str
    token: Callable[[], str] | Callable[[], Awaitable[str]]
    netrc: StrPath
    method: str


class ServerOptions(TypedDict, total=False):
    """How much patience there is with a server.

    Attributes:
        retry_budget: Repeats that the requests to one host have on credit together (100), beside one for five requests;
            `"none"`: only `retries` bounds them. One that fails since it is used up ends as `failed` of kind
            `retry_budget`.
        host_away: How long a host that is away, or answers nothing at all, is waited for (`"60s"`, or 0 with
            `retries=0` and for a client's calls); 0 for not at all. What waits for it takes no slot, counts for no
            attempt, and ends as `failed` of kind `away`.
        max_wait: The longest wait that a server may ask for (`"60s"`); beyond it a request ends as `failed` of kind
            `rate_limited`.
    """

    retry_budget: int | str
    host_away: Time
    max_wait: Time


class HttpOptions(ClientLimits, TryOptions, TimeOptions, ServerOptions, ConnectionOptions, total=False):
    """What `fetch` and clients have in common."""


class ClientOptions(HttpOptions, total=False):
    """Options of `Client` and `AsyncClient`, whose calls share limits and connections.

    Attributes:
        base_url: What addresses without a scheme are put behind.
        headers: Sent with each request.
        params: Parameters that each address gets.
        auth: User name and password; or what is called with each request of a call and returns the one that is sent,
            as a signature needs it.
        cookies: `True`: cookies are kept and sent back, and `client.cookies` has them. A mapping: the same, with these
            to begin with, which go to any host until it sets its own of that name.
        event_hooks: What is called before each request (`request`) and after each response (`response`), with it. A
            hook for requests may return another one to be sent instead (`request.with_headers(...)`), or `None`.
    """

    base_url: str
    headers: Pairs | None
    params: Pairs | None
    auth: Auth | None
    cookies: bool | Mapping[str, str]
    event_hooks: Mapping[str, list[Callable[[Any], Any]]] | None


class RowOptions(TypedDict, total=False):
    """What a request has of its own, in place of what holds for its client or batch.

    They stand in a `Request`, in the call of a client, and as members in the rows of `fetch`. `None` is as if they were
    not there.

    Attributes:
        timeout: The longest time for one attempt.
        deadline: The longest time for the request with all its repeats and waits.
        retries: Most repeats of an attempt that failed.
        expect: Statuses that are a success, as `404`, `"2xx,404"` or several of them.
        follow_redirects: `False`: a redirect is the answer. `True`: redirects are followed although the client does
            not.
        auth: User name and password.
        cookies: Cookies that go along, before those of the same name that are kept.
        idempotency_key: What makes a POST one that may be repeated: the server knows a second one by it. `True` makes
            one up, the same for all its attempts.
    """

    timeout: Time | None
    deadline: Time | None
    retries: int | None
    expect: Statuses | None
    follow_redirects: bool | None
    auth: tuple[str, str] | None
    cookies: Mapping[str, Any] | None
    idempotency_key: str | bool | None


class BodyOptions(TypedDict, total=False):
    """What a request is made of beside its address.

    Attributes:
        params: Parameters; one that is `None` is left out, and truth is `true` or `false`.
        headers: Headers.
        json: A body as JSON; no such body when it is `None`.
        content: A body as it is sent; text is sent as UTF-8, a path or open file stands for what is in it. In a call of
            a client also an iterable of bytes, which is taken from as it is sent, once: then the request cannot be sent
            again. For an `AsyncClient` it may be an async iterable.
        data: A form (`application/x-www-form-urlencoded`): a mapping or a list of pairs, of which several values are a
            list, one that is `None` is left out, and truth is `true` or `false`. Anything else is as for `content`.
        files: A form with files (`multipart/form-data`), behind the fields of `data`: by field a path, an open file or
            bytes, or a tuple of the file's name with one of them or text, and perhaps a media type; a list for several.
            The media type is guessed by the name.
    """

    params: Pairs | None
    headers: Pairs | None
    json: Any
    content: Content | None
    data: Pairs | Content | None
    files: Mapping[str, Files] | Iterable[tuple[str, Files]] | None


class RequestOptions(RowOptions, BodyOptions, total=False):
    """Arguments of a `Request`.

    Attributes:
        method: How; GET, or POST with a body, by default.
        id: Its name in results.
    """

    method: str | None
    id: str | None


class CallOptions(BodyOptions, total=False):
    """What a single call of a client has of its own.

    Parameters are added to those of the client, and headers go before the client's.

    Attributes:
        timeout: The longest time for one attempt.
        deadline: The longest time for the call with all its repeats and waits.
        retries: Most repeats of an attempt that failed.
        expect: Statuses that are not tried again, and that `raise_for_status` takes, as `404` or `"2xx,404"`.
        follow_redirects: `False`: a redirect is the answer. `True`: redirects are followed although the client does
            not.
        auth: User name and password; or what is called with the request and returns the one that is sent.
        cookies: Cookies that go along, before those of the same name that are kept.
        idempotency_key: What makes a POST one that may be repeated: the server knows a second one by it. `True` makes
            one up, the same for all attempts.
    """

    timeout: Time | None
    deadline: Time | None
    retries: int | None
    expect: Statuses | None
    follow_redirects: bool | None
    auth: Auth | None
    cookies: Mapping[str, Any] | None
    idempotency_key: str | bool | None


class FetchOptions(HttpOptions, StopOptions, ResultsOptions, total=False):
    """Options of `fetch`.

    Attributes:
        headers: Sent with each request.
        auth: User name and password.
        cookies: Keep cookies and send them back; a mapping has those to begin with.
        idempotency_key: Give each request that is not idempotent an `Idempotency-Key`, the same on each attempt and
            after `resume`: then it may be repeated.
        template: The address, with places for members of mappings: `"https://api/items/{id}"`.
        id: The name of a row, as a template: `"{region}-{id}"`; `r0`, `r1`, ... by default.
        save: Save each body to a file of its own, as `"out/{id}.json"`; see docs/saving.md.
        body: How bodies are written to `out`: `"json"` (as it was sent, else as text or base64), `"text"`, `"base64"`
            or `"none"`.
        include_headers: Write the headers of answers to `out` as well.
        select: Keep only what this jq expression makes of a body. One that goes through something (`.items[].id`) gives
            a list, whatever is in it, and any other one value or `None`; see docs/expressions.md.
        paginate: Follow pages: `"link"`, `"next=.next_url"` or `"page=page,until=.items|length==0"`.
        max_pages: Most pages per row (1000).
        on: Have the requests sent by the workers of a cluster: `"dask://host:port"`, `"ray://host:port"`, a `Client` of
            Dask, or what `unisono.clusters.connect` returns. Limits, retries and results stay here, and hold for all
            machines together. Not with `cookies`, `token`, `cert` and `unix_socket`, which belong to one machine.
    """

    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    auth: tuple[str, str]
    cookies: bool | Mapping[str, str]
    idempotency_key: bool
    template: str
    id: str
    save: str
    body: str
    include_headers: bool
    select: str
    paginate: str
    max_pages: int
    on: Any


class WalkOptions(TypedDict, total=False):
    """What is left out of folders.

    Attributes:
        glob: Only files that match, as in gitignore: `"*.py"`, `"src/**"`; one or several.
        exclude: No files or folders that match.
        hidden: Whether names that begin with a dot are in; they are.
        ignore_files: Leave out what `.gitignore` and `.ignore` files say.
        max_depth: How many folders deep; 1 is what the folder itself holds.
        follow: Follow symbolic links.
        one_file_system: Stay on the file system of each folder given.
        min_size, max_size: Only files of this size; bytes, or text such as `"64MiB"`.
    """

    glob: str | Iterable[str]
    exclude: str | Iterable[str]
    hidden: bool
    ignore_files: bool
    max_depth: int
    follow: bool
    one_file_system: bool
    min_size: Size
    max_size: Size


class ReadOptions(WalkOptions, LimitOptions, TryOptions, TimeOptions, StopOptions, ResultsOptions, total=False):
    """What holds for every run that reads files.

    `resume` does not read again what is still what it was: its size, times and number.

    Attributes:
        direct: Read past the page cache.
    """

    direct: bool


class FileOptions(ReadOptions, total=False):
    """Options of `files.digest`.

    Attributes:
        algorithms: `sha256` (the default), `sha512`, `sha1`, `md5`, `blake3`, `blake2b`, `xxh3-128` or `crc32c`;
            several are made in one pass.
    """

    algorithms: str | Iterable[str]


class VerifyOptions(ReadOptions, total=False):
    """Options of `files.verify`. Filters are for the folders of `extra`.

    Attributes:
        algorithm: What a digest is that does not say it; by default what its length says, and what fits where that
            leaves two.
        zero: Lines end with a zero byte; known by itself where there is one near the beginning.
        ignore_missing: A file that is not there is no failure, and its outcome is `skipped`; that none is there is one.
        strict: Lines that are no entries are a failure of the whole.
    """

    algorithm: str
    zero: bool
    ignore_missing: bool
    strict: bool


class RunOptions(TryOptions, total=False):
    """Options of `commands.run`: what holds for every command.

    Attributes:
        input: What it reads: bytes, or text, which is sent as UTF-8. Nothing by default: it finds the end of its input.
        cwd: The folder it runs in.
        env: Variables added to its environment, which is otherwise that of this program; `None` takes one away.
        shell: The command is one text, a script for `sh`.
        timeout: The longest time for one attempt; then all of it is sent SIGTERM, and SIGKILL after `kill_after`. None
            by default.
        kill_after: Time between SIGTERM and SIGKILL, for what has to end (`"5s"`).
        retry_exit: Repeat only what ended with one of these exit codes.
        expect: Exit codes that are a success; 0 by default.
        max_output: End a command that prints more than this to one stream; bytes, or text such as `"64MiB"`.
        leave_running: Leave processes alone that outlive their command.
    """

    input: str | bytes
    cwd: AnyPath
    env: Mapping[str, Part | None]
    shell: bool
    timeout: Time
    kill_after: Time
    retry_exit: Iterable[int]
    expect: Iterable[int]
    max_output: Size
    leave_running: bool


class CommandOptions(RunOptions, LimitOptions, KeyOptions, TimeOptions, StopOptions, ResultsOptions, total=False):
    """Options of `commands.each`.

    Attributes:
        key: With `items`, the member that commands are limited by as well, or 1 for the item itself.
        per_key: Most commands at once with the same key; 1 by default.
        away_exit: Exit codes that say that the host of `key` is away, as 255 of ssh: its commands wait, uncounted,
            while one at a time looks whether it is back.
        load: Start nothing while the load of the machine is this or more.
        min_memory: Start nothing while less memory than this is available.
        save: Save what each command prints to a file of its own, as `"out/{#}"`, and `"out/{#}.stderr"`. A name belongs
            to the first item that asks for it; see docs/saving.md.
        brief: Results without what commands print.
        items_are_code: Places may stand within code, as in `["sh", "-c", "echo {}"]`: items are programs, run as such.
        idempotent: Doing it twice does no harm: `resume` runs again what was interrupted.
    """

    key: str | int
    away_exit: Iterable[int]
    load: float
    min_memory: Size
    save: StrPath
    brief: bool
    items_are_code: bool
    idempotent: bool


class FunctionOptions(LimitOptions, KeyOptions, TryOptions, TimeOptions, StopOptions, ResultsOptions, total=False):
    """Options of `batch`.

    Attributes:
        key: Returns what an item is limited by as well, such as its host or zone.
        timeout: The longest time for one attempt; none by default. A coroutine is cancelled, a process is killed; a
            thread cannot be stopped: its outcome says so, and it keeps its place until it ends. So does what has begun
            on Dask; on Ray its worker is ended.
        retry_on: What is worth a repeat: exception types, or a function that is given the exception; any by default.
        away_on: What says that whatever `key` stands for is away: exception types, or a function that is given the
            exception. Such a call counts for nothing; it and all others of its key wait, while one at a time looks
            whether it is back. Only for what was not carried out, such as a connection that is refused.
        idempotent: Calling twice does no harm: `resume` calls again for what was interrupted, and what is lost with a
            worker of a cluster is called again.
        id: Returns the name of an item, which tells it apart from others; by default that is its value, with its type.
            An item that has no value which stays the same in every run (an object of a plain class, a function, an
            open file) is refused without it.
        serialize: Makes a result into something that JSON has, for `out`.
    """

    key: Callable[[Any], object]
    timeout: Time
    retry_on: RetryOn
    away_on: RetryOn
    idempotent: bool
    id: Callable[[Any], object]
    serialize: Callable[[Any], Any]


class FileCallOptions(WalkOptions, FunctionOptions, total=False):
    """Options of `files.each`: what is left out of folders, and how a function is called."""
