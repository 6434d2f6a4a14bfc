"""Mistakes in a call of ours: which function, which word, and what the word is here.

A function that programs call is `told`: a keyword that it does not have, an argument too many, or a value that makes no
sense is raised from the line that has the mistake, as one exception, without the frames of ours that found it out.

What other libraries call a thing is looked up in one table, and is said only where the function has what it is here.
Similar spelling is looked for among the keywords of that very function. Where neither fits, nothing is guessed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

from unisono.errors import ArgumentError, UsageError

__all__ = ["attribute_of_module", "no_attribute", "tip_for", "told", "told_when_awaited", "unexpected"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def told(called: str, *options: Any, positional: str = "") -> Callable[[FunctionT], FunctionT]:
    """Decorate what programs call, so that mistakes in a call are raised from its line.

    Args:
        called: What it is called, in messages: `fetch`, `Client.get`.
        *options: `TypedDict`s of what it takes beside the keywords that its signature names.
        positional: What to type where arguments are given by position that have none.
    """

    def decorate(function: FunctionT) -> FunctionT:
        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            try:
                return function(*args, **keywords)
            except (TypeError, UsageError) as error:
                raised = _told(error, called, (function, options), keywords, positional)
                if raised is None:
                    raise
            # Not from within the handler: what found it out is no part of it.
            try:
                raise raised
            finally:
                # Its traceback has this frame, which must not have it in turn.
                del raised

        return cast("FunctionT", call)

    return decorate


def told_when_awaited(
    called: str, *options: Any, leaves: Callable[[Iterable[Any]], object] | None = None
) -> Callable[[FunctionT], FunctionT]:
    """The same for a coroutine function, whose mistakes are raised where it is awaited.

    Args:
        called: What it is called, in messages.
        *options: As of `told`.
        leaves: What becomes of all arguments in the end.
    """

    def decorate(function: FunctionT) -> FunctionT:
        @functools.wraps(function)
        async def call(*args: Any, **keywords: Any) -> Any:
            try:
                return await function(*args, **keywords)
            except (TypeError, UsageError) as error:
                raised = _told(error, called, (function, options), keywords, "")
                if raised is None:
                    raise
            finally:
                if leaves is not None:
                    leaves((*args, *keywords.values()))
            try:
                raise raised
            finally:
                del raised

        return cast("FunctionT", call)

    return decorate


def unexpected(called: str, keyword: str, known: Iterable[str] = ()) -> ArgumentError:
    """The error for a keyword that a function does not have.

    Args:
        called: What the function is called.
        keyword: The word.
        known: The words that it has; those of `_KEYWORDS_OF` by default.

    >>> unexpected("fetch", "max_retries", ["retries", "limit"])
    ArgumentError("fetch() got an unexpected keyword argument 'max_retries': here it is retries=3")
    >>> unexpected("fetch", "limitt", ["retries", "limit"])
    ArgumentError("fetch() got an unexpected keyword argument 'limitt': did you mean limit=?")
    >>> unexpected("fetch", "colour", ["retries", "limit"])
    ArgumentError("fetch() got an unexpected keyword argument 'colour'")
    """
    words = list(known) or _request_words()
    message = f"{called}() got an unexpected keyword argument {keyword!r}"
    tip = tip_for(keyword, called, words)
    return ArgumentError(f"{message}: {tip}" if tip else message)


def tip_for(keyword: str, called: str, words: list[str]) -> str:
    """What a word is of a function that has these; nothing where that cannot be told."""
    for needed, tip in _FOREIGN.get(keyword, ()):
        if needed in words or needed == called.partition(".")[0]:
            return tip
    import difflib

    near = difflib.get_close_matches(keyword.lower(), words, n=1, cutoff=0.72)
    return f"did you mean {near[0]}=?" if near else ""


def no_attribute(thing: object, name: str) -> AttributeError:
    """The error for an attribute that an object does not have, with what it is called here."""
    kind = type(thing).__name__
    message = f"{kind!r} object has no attribute {name!r}"
    if tip := _ATTRIBUTES.get(kind, {}).get(name):
        message += f": {tip}"
    return AttributeError(message, name=name, obj=thing)


def attribute_of_module(name: str) -> str:
    """What is said of a name that the module does not have: what it is here, or nothing.

    >>> attribute_of_module("ThreadPoolExecutor")
    ': here it is unisono.ThreadPool(max_workers=8)'
    >>> attribute_of_module("nothing_of_the_kind")
    ''
    """
    tip = _MODULE.get(name)
    return f": {tip}" if tip else ""


def _told(
    error: Exception,
    called: str,
    function: tuple[Callable[..., Any], Iterable[Any]],
    keywords: dict[str, Any],
    positional: str,
) -> Exception | None:
    """What is raised in place of an error; `None` where that has frames to be seen."""
    if isinstance(error, TypeError):
        return _mistake(error, called, _known(*function), keywords, positional)
    return error.with_traceback(None) if _is_ours(error.__traceback__) else None


def _mistake(
    error: TypeError, called: str, known: list[str] | None, keywords: dict[str, Any], positional: str
) -> ArgumentError | None:
    """What is wrong with the arguments; none when the function went wrong, and not its call."""
    for keyword in keywords:
        if known is not None and keyword not in known:
            return unexpected(called, keyword, known)
    # Arguments that do not fit a function have no frame of it.
    if error.__traceback__ is None or error.__traceback__.tb_next is not None:
        return None
    message = str(error).partition("() ")[2]
    if positional and "positional argument" in message and "missing" not in message:
        message = f"takes no argument by position: {positional}"
    return ArgumentError(f"{called}() {message}") if message else None


def _known(function: Callable[..., Any], options: Iterable[Any]) -> list[str] | None:
    """The keywords that a function has; `None` for one that takes any."""
    # Only where there is a mistake: its import takes longer than that of most of ours.
    import inspect

    parameters = inspect.signature(function).parameters
    if not options and any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [name for name, one in parameters.items() if one.kind in kinds]
    return [*(name for name in named if name not in ("self", "cls")), *_words(*options)]


def _words(*options: Any) -> list[str]:
    return [word for one in options for word in (*one.__required_keys__, *one.__optional_keys__)]


def _request_words() -> list[str]:
    from unisono._options import RequestOptions

    # What a request is made of, or `replace` puts in its place.
    return ["url", *_words(RequestOptions)]


def _is_ours(trace: TracebackType | None) -> bool:
    """Whether no function of the program's was called on the way: what that raised has frames to be seen."""
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith((_HERE, contextlib.__file__)):
            return False
        trace = trace.tb_next
    return True


_HERE = str(Path(__file__).parent)

_CALL = "follow_redirects"
# What other libraries say, and what is said of it here: the first whose keyword the function has, or whose class it is
# a part of. From httpx, aiohttp, requests, urllib3, tenacity, concurrent.futures, multiprocessing, joblib and curl.
_FOREIGN: dict[str, tuple[tuple[str, str], ...]] = {
    # Repeats.
    **dict.fromkeys(
        [
            "max_retries",
            "retry",
            "tries",
            "max_tries",
            "attempts",
            "max_attempts",
            "num_retries",
            "retry_count",
            "total",
        ],
        (("retry_on", "here it is retries=3 and retry_on=OSError"), ("retries", "here it is retries=3")),
    ),
    "stop": (("base", 'here it is retries=2 (after the first attempt), or deadline="30s"'),),
    "wait": (("base", 'here it is base="1s" and cap="20s", between which waits grow'),),
    **dict.fromkeys(
        ["backoff", "backoff_factor", "retry_delay", "delay", "retry_wait"],
        (
            ("base", 'here it is base="1s" and cap="20s"'),
            ("max_wait", 'waits grow by themselves; max_wait="60s" bounds them'),
        ),
    ),
    "exceptions": (("retry_on", "here it is retry_on=OSError"),),
    "exception": (("retry_on", "here it is retry_on=OSError"),),
    "on": (("retry_on", "here it is retry_on=OSError"),),
    "reraise": (("base", "the last exception is always raised as it is: leave it out"),),
    "before_sleep": (("base", "nothing is called between attempts: leave it out"),),
    "retry_error_callback": (("base", "the last exception is raised as it is: leave it out"),),
    "retry_statuses": (("expect", "what is repeated follows from the status; expect= says what is a success"),),
    "status_forcelist": (("expect", "what is repeated follows from the status; expect= says what is a success"),),
    # How many at once.
    **dict.fromkeys(
        [
            "concurrency",
            "max_concurrency",
            "limits",
            "connector",
            "max_connections",
            "pool_maxsize",
            "pool_connections",
            "limit_per_host",
            "semaphore",
            "parallel",
            "jobs",
            "n_jobs",
            "max_in_flight",
        ],
        (("per_host", "here it is limit=100, and per_host=10 for each host"), ("limit", "here it is limit=100")),
    ),
    **dict.fromkeys(
        ["max_workers", "workers", "processes", "threads", "num_workers", "nproc", "pool_size"],
        (
            ("executor", 'here it is limit=8, with executor="threads" or "processes"'),
            ("workers", "here it is workers=8"),
            ("max_workers", "here it is max_workers=8"),
            ("processes", "here it is processes=8"),
            ("limit", "here it is limit=8"),
        ),
    ),
    "max_keepalive_connections": (("limit", "connections are kept by themselves: leave it out"),),
    "chunksize": (
        ("executor", "quick calls travel together by themselves: leave it out"),
        ("limit", "there are no chunks: leave it out"),
    ),
    "batch_size": (("limit", "here it is limit=100: how many are under way at once"),),
    "qps": (("rate", 'here it is rate="100/s"'),),
    "rps": (("rate", 'here it is rate="100/s"'),),
    "rate_limit": (("rate", 'here it is rate="100/s"'),),
    "max_rate": (("rate", 'here it is rate="100/s"'),),
    "calls": (("rate", 'here it is rate="100/s"'),),
    "period": (("rate", 'here it is rate="100/s"'),),
    "time_period": (("rate", 'here it is rate="100/s"'),),
    # Connections.
    **dict.fromkeys(
        ["verify_ssl", "ssl", "ssl_context", "insecure", "trust_env_certs"],
        (
            ("verify", 'here it is verify=False, or cacert="ca.pem"'),
            (_CALL, "certificates are those of the client: unisono.Client(verify=False)"),
        ),
    ),
    "cacerts": (("cacert", 'here it is cacert="ca.pem"'),),
    "ca_certs": (("cacert", 'here it is cacert="ca.pem"'),),
    "verify": ((_CALL, "it is the client's: unisono.Client(verify=...)"),),
    "cert": ((_CALL, "it is the client's: unisono.Client(cert=..., cert_key=...)"),),
    "key": (("cert_key", 'here it is cert_key="key.pem"'),),
    **dict.fromkeys(
        ["proxies", "proxy", "mounts", "proxy_auth"],
        (
            ("proxy", 'here it is proxy="http://user:password@host:3128", for http and https'),
            (_CALL, "it is the client's: unisono.Client(proxy=...)"),
        ),
    ),
    "trust_env": (("proxy", 'proxies come from the environment; proxy="" has none'),),
    "transport": (
        ("unix_socket", "there is one transport; retries=, proxy=, unix_socket= and ip= say how it connects"),
    ),
    "uds": (("unix_socket", "here it is unix_socket=PATH"),),
    "max_time": (("deadline", 'here it is deadline="60s"'),),
    "total_timeout": (("deadline", 'here it is deadline="60s"'),),
    "connect": (("connect_timeout", "here it is connect_timeout=5"),),
    "read_timeout": (("timeout", "here it is timeout=30, for one attempt"),),
    "conn_timeout": (("connect_timeout", "here it is connect_timeout=5"),),
    "http_version": (("http2", "here it is http1=True or http2=True"),),
    # Redirects.
    **dict.fromkeys(
        ["allow_redirects", "follow_redirects", "location"],
        (
            (_CALL, "here it is follow_redirects=False"),
            ("max_redirects", "redirects are followed; max_redirects=0 follows none"),
        ),
    ),
    # Calls.
    "data": (("input", 'here it is input=b"..."'),),
    "body": (("content", 'here it is json={...} or content=b"..."'),),
    "stream": (
        (_CALL, "it is a method: with client.stream(method, url) as response"),
        ("limit", "it is a method of a client: with client.stream(method, url) as response"),
    ),
    "raise_for_status": (
        ("base_url", "an answer is returned whatever its status: client.get(url).raise_for_status()"),
        (_CALL, "an answer is returned whatever its status: client.get(url).raise_for_status()"),
    ),
    "user_agent": (("headers", 'here it is headers={"User-Agent": ...}'),),
    "token": ((_CALL, 'it is the client\'s; for one call headers={"Authorization": "Bearer ..."}'),),
    "bearer": ((_CALL, 'it is the client\'s; for one call headers={"Authorization": "Bearer ..."}'),),
    "hooks": (("event_hooks", 'here it is event_hooks={"response": [function]}'),),
    "cookie_jar": (("cookies", "here it is cookies=True"),),
    "url": (("base_url", 'here it is base_url="https://..."'),),
    "query": (("params", "here it is params={...}"),),
    "loop": (("limit", "it works on any loop: leave it out"), ("maxsize", "it works on any loop: leave it out")),
    # Batches.
    "ordered": (("keep_order", "here it is keep_order=True"),),
    "preserve_order": (("keep_order", "here it is keep_order=True"),),
    "return_exceptions": (
        ("keep_order", "every item has its outcome, whatever it raised: leave it out"),
        ("required", "each has its outcome, whatever it raised; required=() raises for none of them"),
    ),
    "timeout": (
        ("wait", "here it is wait=30"),
        ("delay", "put the call into `async with asyncio.timeout(10)`"),
    ),
    "return_when": (("keep_order", "outcomes come as they are done: leave it out"),),
    "raise_on_error": (("max_failures", "here it is .run().raise_for_failures(), or max_failures=0 to stop early"),),
    "fail_fast": (("max_failures", "here it is max_failures=0"),),
    "halt": (("max_failures", "here it is max_failures=0"),),
    "output": (("out", 'here it is out="results.jsonl"'),),
    "tqdm": (("progress", "here it is progress=True"),),
    "verbose": (("progress", "here it is progress=True"),),
    "show_progress": (("progress", "here it is progress=True"),),
    "backend": (("executor", 'here it is executor="threads" or "processes"'),),
    "pool": (("executor", "here it is executor=..."),),
    "iterable": (("executor", "items are the second argument: batch(function, items)"),),
    "func": (("executor", "the function is the first argument: batch(function, items)"),),
    # Commands.
    "capture_output": (("kill_after", "what a command prints is always captured: leave it out"),),
    "stdout": (("kill_after", "what a command prints is always captured: leave it out"),),
    "stderr": (("kill_after", "what a command prints is always captured: leave it out"),),
    "universal_newlines": (("text", "here it is text=True"),),
    "encoding": (("text", "here it is text=True, which is UTF-8"),),
    "args": (
        ("start_method", "arguments follow the function: spawn(function, *args, kwargs={...})"),
        ("kill_after", "the program and its arguments are one list"),
    ),
    "recursive": (("max_depth", "folders are walked to their end; max_depth=1 stays in the folder"),),
    "pattern": (("glob", 'here it is glob="*.py"'),),
    "algorithm": (("algorithms", 'here it is algorithms="sha256"'),),
    "algorithms": (("algorithm", 'here it is algorithm="sha256"'),),
    # Pools.
    "target": (("start_method", "the function is the first argument: spawn(function, *args)"),),
    "mp_context": (("start_method", 'here it is start_method="spawn"'),),
    "context": (("start_method", 'here it is start_method="spawn"'),),
    "maxtasksperchild": (("max_tasks_per_child", "here it is max_tasks_per_child=100"),),
    # Queues and limiters.
    "max_size": (("maxsize", "here it is maxsize=100"),),
    "size": (("maxsize", "here it is maxsize=100"),),
    "value": (("per_key", "here it is limit=10"),),
}

_CLIENT = "make a client, with which connections are kept:"
# Names of other modules.
_MODULE = {
    **{
        verb: f"{_CLIENT} unisono.Client().{verb}(url)"
        for verb in ("get", "post", "put", "patch", "delete", "head", "options")
    },
    "request": f"{_CLIENT} unisono.Client().request(method, url)",
    "stream": f"{_CLIENT} unisono.Client().stream(method, url)",
    "Session": "here it is unisono.Client()",
    "session": "here it is unisono.Client()",
    "ClientSession": "here it is unisono.AsyncClient()",
    "Timeout": "times are plain: timeout=10 for one attempt, connect_timeout=5, deadline=60 with all repeats",
    "ClientTimeout": "times are plain: timeout=10 for one attempt, connect_timeout=5, deadline=60 with all repeats",
    "Limits": "limits are plain: unisono.Client(limit=100, per_host=10)",
    "TCPConnector": "limits are plain: unisono.Client(limit=100, per_host=10)",
    "HTTPTransport": "there is one transport: unisono.Client(retries=3, proxy=..., unix_socket=...)",
    "AsyncHTTPTransport": "there is one transport: unisono.AsyncClient(retries=3, proxy=..., unix_socket=...)",
    "HTTPError": "here it is unisono.FetchError; of a status, unisono.StatusError",
    "HTTPStatusError": "here it is unisono.StatusError",
    "ClientError": "here it is unisono.FetchError",
    "ClientResponseError": "here it is unisono.StatusError",
    "RequestError": "here it is unisono.FetchError",
    "RequestException": "here it is unisono.FetchError",
    "ConnectionError": "here it is unisono.ConnectError",
    "TimeoutException": "here it is unisono.FetchTimeout",
    "BasicAuth": 'here it is auth=("name", "password")',
    "FormData": "forms are data={...}, with files={...} for files",
    "codes": "they are in Python: http.HTTPStatus.OK, or simply 200",
    "as_completed": "that of the standard library takes these futures as well: concurrent.futures.as_completed",
    "wait": "that of the standard library takes these futures as well: concurrent.futures.wait",
    "ThreadPoolExecutor": "here it is unisono.ThreadPool(max_workers=8)",
    "ProcessPoolExecutor": "here it is unisono.ProcessPool(max_workers=8)",
    "Process": "here it is unisono.spawn(function, *args)",
    "Semaphore": "here it is unisono.Limiter(limit=10)",
    "BoundedSemaphore": "here it is unisono.Limiter(limit=10)",
    "map": "here it is unisono.batch(function, items)",
    "stop_after_attempt": "here it is unisono.retry(retry_on=OSError, retries=2)",
    "stop_after_delay": 'here it is unisono.retry(retry_on=OSError, deadline="30s")',
    "wait_fixed": 'here it is unisono.retry(retry_on=OSError, base="1s", cap="1s")',
    "wait_exponential": 'here it is unisono.retry(retry_on=OSError, base="1s", cap="20s")',
    "retry_if_exception_type": "here it is unisono.retry(retry_on=OSError)",
    "run": "of commands it is unisono.commands.run; of functions unisono.batch(function, items)",
}

_RESPONSE = {
    "status": "here it is response.status_code",
    "reason": "here it is response.reason_phrase",
    "encoding": "response.text is decoded as the server says; response.content has the bytes",
    "apparent_encoding": "response.text is decoded as the server says; response.content has the bytes",
    "cookies": "client.cookies has them, where the client keeps them (cookies=True)",
    "history": "response.redirects says how many were followed",
    "read": "the body is there: response.content",
    "aread": "the body is there: response.content",
    "body": "here it is response.content",
    "data": "here it is response.content",
    "real_url": "here it is response.url",
    "is_error": "here it is not response.ok",
    "iter_content": "the body is there: response.content; for one that comes in pieces, client.stream(method, url)",
    "iter_lines": "the body is there: response.text.splitlines(); in pieces it comes by client.stream(method, url)",
    "iter_bytes": "the body is there: response.content; for one that comes in pieces, client.stream(method, url)",
    "close": "it is complete, and holds no connection: leave it out",
    "release": "it is complete, and holds no connection: leave it out",
}
_STREAMED = {
    "status": "here it is response.status_code",
    "reason": "here it is response.reason_phrase",
    "iter_content": "here it is response.iter_bytes()",
    "iter_chunked": "here it is response.aiter_bytes()",
    "iter_any": "here it is response.aiter_bytes()",
}
_A_CLIENT = {
    "headers": "headers of a client are said as it is made: headers={...}",
    "params": "parameters of a client are said as it is made: params={...}",
    "auth": "a login is said as the client is made: auth=(name, password)",
    "verify": "it is said as the client is made: verify=False",
    "proxies": "it is said as the client is made: proxy=...",
    "timeout": "it is said as the client is made, or in a call: timeout=10",
    "mount": "what an adapter is for is said as the client is made: retries=3, proxy=..., limit=100",
    "hooks": 'they are client.event_hooks, and said as it is made: event_hooks={"response": [function]}',
}
# By class, what others call an attribute.
_ATTRIBUTES = {
    "Response": _RESPONSE,
    "StreamedResponse": _STREAMED,
    "AsyncStreamedResponse": _STREAMED,
    "Client": {**_A_CLIENT, "aclose": "here it is close()", "map": "many calls are client.batch(requests)"},
    "AsyncClient": {**_A_CLIENT, "close": "here it is await client.aclose()"},
}
