"""Mistakes in calls are raised from their line, as one exception that says what to type; and what is silent elsewhere is
said: a batch that is never run, an event loop that is made to wait."""

import asyncio
import gc
import inspect
import linecache
import os
import signal
import sys
import threading
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

import unisono
from unisono import (
    ArgumentError,
    AsyncClient,
    Client,
    Limiter,
    Pool,
    ProcessPool,
    Queue,
    Request,
    ThreadPool,
    UsageError,
    batch,
    batch_all,
    clusters,
    commands,
    explain,
    fetch,
    fetch_all,
    files,
    first,
    gather,
    retry,
    spawn,
    testing,
)

PACKAGE = str(Path(unisono.__file__).parent)

# Each call with a keyword that is nearly one of its own, and that one.
MISSPELT = [
    ("fetch", lambda **given: fetch([], **given), "time_out", "timeout"),
    ("fetch_all", lambda **given: fetch_all([], **given), "header", "headers"),
    ("Client", lambda **given: Client(**given), "base_ulr", "base_url"),
    ("AsyncClient", lambda **given: AsyncClient(**given), "event_hook", "event_hooks"),
    ("Client.get", lambda **given: Client().get("/", **given), "parms", "params"),
    ("Client.request", lambda **given: Client().request("GET", "/", **given), "timeot", "timeout"),
    ("Client.stream", lambda **given: Client().stream("GET", "/", **given), "header", "headers"),
    ("Client.download", lambda **given: Client().download("/", "x", **given), "overwite", "overwrite"),
    ("AsyncClient.download", lambda **given: asyncio.run(downloaded(**given)), "progres", "progress"),
    ("FakeServer.on", lambda **given: with_server(lambda server: server.on("GET", "/", **given)), "staus", "status"),
    ("FakeTransport.on", lambda **given: with_transport(lambda fake: fake.on("GET", "/", **given)), "staus", "status"),
    ("Client.build_request", lambda **given: Client().build_request("GET", "/", **given), "jsn", "json"),
    ("Client.batch", lambda **given: Client().batch([], **given), "retrys", "retries"),
    ("Client.set_limits", lambda **given: Client().set_limits(**given), "perhost", "per_host"),
    ("AsyncClient.post", lambda **given: AsyncClient().post("/", **given), "contents", "content"),
    ("AsyncClient.stream", lambda **given: AsyncClient().stream("GET", "/", **given), "header", "headers"),
    ("Request", lambda **given: Request("http://h/", **given), "methd", "method"),
    ("batch", lambda **given: batch(len, [], **given), "retry_onn", "retry_on"),
    ("batch_all", lambda **given: batch_all([], **given), "limitt", "limit"),
    ("Batch.set_limits", lambda **given: unrun(batch(len, [])).set_limits(**given), "per_kee", "per_key"),
    ("commands.each", lambda **given: commands.each([], **given), "kill_afer", "kill_after"),
    ("commands.run", lambda **given: commands.run(["true"], **given), "timout", "timeout"),
    ("files.digest", lambda **given: files.digest([], **given), "algoritms", "algorithms"),
    ("files.verify", lambda **given: files.verify([], **given), "ignore_missin", "ignore_missing"),
    ("files.walk", lambda **given: files.walk([], **given), "exclud", "exclude"),
    ("files.each", lambda **given: files.each(len, [], **given), "globs", "glob"),
    ("Limiter", lambda **given: Limiter(**given), "perkey", "per_key"),
    ("retry", lambda **given: retry(retry_on=OSError, **given), "dead_line", "deadline"),
    ("Queue", lambda **given: Queue(**given), "max_sise", "maxsize"),
    ("ThreadPool", lambda **given: ThreadPool(**given), "max_worker", "max_workers"),
    ("ProcessPool", lambda **given: ProcessPool(**given), "start_methode", "start_method"),
    ("Pool", lambda **given: Pool(**given), "initialiser", "initializer"),
    ("spawn", lambda **given: spawn(len, "a", **given), "memory_limits", "memory_limit"),
    ("explain", lambda **given: explain(len, ["a"], **given), "budgets", "budget"),
    ("clusters.connect", lambda **given: clusters.connect("ray", **given), "waits", "wait"),
    ("first", lambda **given: asyncio.run(awaited(first, pause(), **given)), "delays", "delay"),
]


async def downloaded(**given):
    async with AsyncClient() as client:
        return await client.download("/", "x", **given)


def with_server(call):
    with testing.FakeServer() as server:
        return call(server)


def with_transport(call):
    with testing.FakeTransport() as fake:
        return call(fake)


async def pause():
    await asyncio.sleep(0)


async def awaited(function, *given, **keywords):
    return await function(*given, **keywords)


def unrun(made):
    """A batch that is not wanted."""
    made.close()
    return made


def raised_by(call):
    with pytest.raises(UsageError) as raised:
        call()
    return raised.value


def frames_of_ours(error):
    return [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]


@pytest.mark.parametrize(("called", "call", "word", "meant"), MISSPELT, ids=[one[0] for one in MISSPELT])
def test_a_keyword_that_a_function_lacks_is_raised_at_the_call_with_what_was_meant(called, call, word, meant):
    error = raised_by(lambda: call(**{word: 1}))
    assert isinstance(error, ArgumentError)
    assert isinstance(error, TypeError)
    assert str(error) == f"{called}() got an unexpected keyword argument {word!r}: did you mean {meant}=?"
    assert len(frames_of_ours(error)) <= 1
    nothing_near = raised_by(lambda: call(zygomorphic=1))
    assert str(nothing_near) == f"{called}() got an unexpected keyword argument 'zygomorphic'"


def called_of_a_client(**given):
    # Made where it is called: one that the module keeps has its thread for as long as the session lasts.
    with Client() as client:
        return client.get("/", **given)


FOREIGN = [
    (fetch, [[]], "max_retries", "retries=3"),
    (fetch, [[]], "concurrency", "limit=100"),
    (fetch, [[]], "max_workers", "limit=8"),
    (fetch, [[]], "verify_ssl", "verify=False"),
    (fetch, [[]], "allow_redirects", "max_redirects=0"),
    (fetch, [[]], "proxies", "proxy="),
    (fetch, [[]], "limits", "per_host=10"),
    (fetch, [[]], "return_exceptions", "leave it out"),
    (Client, [], "max_connections", "limit=100"),
    (Client, [], "trust_env", "proxy="),
    (called_of_a_client, [], "allow_redirects", "follow_redirects=False"),
    (called_of_a_client, [], "proxies", "unisono.Client(proxy=...)"),
    (batch, [len, []], "processes", 'executor="threads" or "processes"'),
    (batch, [len, []], "max_workers", "limit=8"),
    (batch, [len, []], "chunksize", "leave it out"),
    (batch, [len, []], "max_retries", "retry_on=OSError"),
    (retry, [], "stop", "retries=2"),
    (retry, [], "wait", "base="),
    (retry, [], "exceptions", "retry_on=OSError"),
    (Limiter, [], "max_rate", "rate="),
    (Limiter, [], "max_workers", "limit=8"),
    (ThreadPool, [], "workers", "max_workers=8"),
    (ProcessPool, [], "threads", "workers=8"),
    (Pool, [], "max_workers", "processes=8"),
    (Queue, [], "max_size", "maxsize=100"),
    (spawn, [len], "target", "first argument"),
    (commands.run, [["true"]], "capture_output", "leave it out"),
    (files.walk, [[]], "recursive", "max_depth=1"),
    (files.verify, [[]], "algorithms", 'algorithm="sha256"'),
    (files.digest, [[]], "algorithm", 'algorithms="sha256"'),
    (explain, [len, ["a"]], "workers", "max_workers=8"),
    (clusters.connect, ["ray"], "max_workers", "limit=8"),
    (clusters.connect, ["ray"], "timeout", "wait=30"),
    (lambda **given: asyncio.run(awaited(first, pause(), **given)), [], "timeout", "asyncio.timeout(10)"),
]


@pytest.mark.parametrize(
    ("function", "arguments", "word", "tip"), FOREIGN, ids=[f"{at}-{one[2]}" for at, one in enumerate(FOREIGN)]
)
def test_the_word_of_another_library_is_answered_by_ours(function, arguments, word, tip):
    error = raised_by(lambda: function(*arguments, **{word: 1}))
    assert tip in str(error)


def test_every_tip_stands_where_the_function_has_what_it_names():
    from unisono import _options
    from unisono._keywords import _FOREIGN

    kinds = [one for one in vars(_options).values() if hasattr(one, "__optional_keys__")]
    words = {word for one in kinds for word in one.__annotations__}
    for function in (
        batch,
        clusters.connect,
        commands.run,
        explain,
        fetch,
        first,
        gather,
        retry,
        spawn,
        Limiter,
        Pool,
        ProcessPool,
        Queue,
        ThreadPool,
    ):
        words.update(inspect.signature(function).parameters)
    for tips in _FOREIGN.values():
        for needed, _ in tips:
            assert needed in words, needed


WRONG_VALUES = [
    lambda: fetch([], limit="3x"),
    lambda: fetch([], timeout=[1]),
    lambda: fetch([], rate=100),
    lambda: fetch([], select=".["),
    lambda: fetch([], proxy="nonsense://h"),
    lambda: fetch([], resume=True),
    lambda: fetch("http://h/"),
    lambda: fetch([], on="dask://h:1", unix_socket="/run/x"),
    lambda: batch(len, [], limit="3x"),
    lambda: batch(len, [], deadline="soon"),
    lambda: batch(len, [], executor="trheads"),
    lambda: batch(len, [], out=5),
    lambda: commands.each([], limit=0),
    lambda: commands.each(["echo {}"], items=5),
    lambda: commands.run("true"),
    lambda: files.digest([], algorithms="sha257"),
    lambda: files.verify([], max_depth=-1),
    lambda: files.each(len, [], min_size="big"),
    lambda: Client(timeout="soon"),
    lambda: Client(event_hooks={"request": [5]}),
    lambda: AsyncClient(event_hooks={"retry": None}),
    lambda: Client().download("http://127.0.0.1:9/", "x", progress="yes"),
    lambda: Client().download("http://127.0.0.1:9/", PACKAGE),
    lambda: asyncio.run(downloaded(overwrite=True, progress=5)),
    lambda: with_transport(lambda fake: fake.on("GET", "users")),
    lambda: with_server(lambda server: server.on("GET", "/", rate=5)),
    lambda: Client().get("/", timeout="soon"),
    lambda: AsyncClient().get("/", retries=-1),
    lambda: Client().batch([], limit=True),
    lambda: Limiter(0),
    lambda: retry(retry_on=OSError, retries=-1),
    lambda: Queue("3x"),
    lambda: explain(len, ["a"], budget="long"),
    lambda: explain(len, []),
    lambda: clusters.connect("ray", wait=-1),
    lambda: clusters.connect("nonsense"),
    lambda: asyncio.run(awaited(gather, pause(), timeout="soon")),
    lambda: asyncio.run(awaited(gather, 5)),
    lambda: asyncio.run(awaited(gather, pause(), required=5)),
    lambda: asyncio.run(awaited(first, pause(), delay="soon")),
    lambda: asyncio.run(awaited(first)),
]


@pytest.mark.parametrize("call", WRONG_VALUES, ids=[str(at) for at in range(len(WRONG_VALUES))])
def test_a_value_that_makes_no_sense_is_an_error_at_the_call_with_one_frame_of_ours(call):
    error = raised_by(call)
    assert len(frames_of_ours(error)) <= 1
    assert error.__context__ is None or error.__suppress_context__


def test_what_the_programs_own_function_raises_keeps_its_frames():
    def hook(request):
        raise UsageError("mine")

    with Client(event_hooks={"request": [hook]}) as client:
        error = raised_by(lambda: client.get("http://127.0.0.1:9/"))
    assert traceback.extract_tb(error.__traceback__)[-1].name == "hook"
    assert len(frames_of_ours(error)) > 1

    def broken(request):
        return request + 1

    with Client(auth=broken) as client, pytest.raises(TypeError) as raised:
        client.get("http://127.0.0.1:9/")
    assert not isinstance(raised.value, UsageError)


def test_a_limit_that_is_changed_before_the_start_is_looked_at_then():
    waiting = unrun(batch(len, ["a"]))
    with pytest.raises(UsageError, match="rate"):
        waiting.set_limits(rate=5)


def test_a_timedelta_is_a_time_wherever_one_is_asked_for(server):
    second, hour = timedelta(seconds=1), timedelta(hours=1)
    report = fetch(
        [server.url + "/items/1"],
        timeout=hour,
        connect_timeout=hour,
        deadline=hour,
        stop_after=hour,
        grace=second,
        host_away=hour,
        max_wait=hour,
    ).run()
    assert report.ok == 1
    with Client(timeout=hour, deadline=hour) as client:
        assert client.get(server.url + "/items/1", timeout=hour, deadline=hour).ok
    assert batch(len, ["a"], timeout=hour, key=str, host_away=hour).run().ok == 1
    assert commands.run(["true"], timeout=hour, kill_after=second, grace=second).ok
    retry(retry_on=OSError, deadline=hour, base=second, cap=hour)
    with ThreadPool(1, idle_timeout=hour, warn_after=hour) as pool:
        assert pool.submit(len, "a").result(60) == 1


# What would be silent.


def test_a_batch_that_is_never_run_is_told_with_the_line_that_made_it():
    for make in (
        lambda: batch(len, ["a"]),
        lambda: fetch(["http://127.0.0.1:9/"]),
        lambda: commands.each([["true"]]),
        lambda: files.digest(["a"]),
        lambda: Client().batch(["http://127.0.0.1:9/"]),
    ):
        with pytest.warns(RuntimeWarning, match="was never run") as warned:
            make()
            gc.collect()
        assert [one.filename for one in warned] == [__file__]
        assert "lambda: " in linecache.getline(__file__, warned[0].lineno)


def test_a_batch_that_was_run_or_given_up_is_not_told():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        batch(len, ["a"]).run()
        list(batch(len, ["a"]))
        batch(len, ["a"]).close()
        batch(len, ["a"]).cancel()
        with batch(len, ["a"]):
            pass
        with pytest.raises(UsageError):
            batch(len, ["a"], limit=0)
        gc.collect()
    assert warned == []


def test_what_makes_an_event_loop_wait_is_told_once_for_each_line(server):
    url = server.url + "/items/1"

    async def main():
        with Client() as client:
            for _ in range(3):
                client.get(url)
            with client.stream("GET", url) as response:
                response.read()
        batch(len, ["a"]).run()
        for _ in batch(len, ["a"]):
            pass
        fetch_all([url])
        commands.run(["true"])

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        asyncio.run(main())
    lines = [linecache.getline(one.filename, one.lineno).strip() for one in warned]
    assert lines == [
        "client.get(url)",
        'with client.stream("GET", url) as response:',
        'batch(len, ["a"]).run()',
        'for _ in batch(len, ["a"]):',
        "fetch_all([url])",
        'commands.run(["true"])',
    ]
    assert all(one.filename == __file__ and one.category is RuntimeWarning for one in warned)
    words = ["AsyncClient", "async with", "await batch", "async for", "async for", "run_async"]
    for word, one in zip(words, warned):
        assert word in str(one.message)


def test_no_loop_is_told_of_in_a_notebook_and_in_a_thread_beside_it(server, monkeypatch):
    async def main():
        with Client() as client:
            await asyncio.to_thread(client.get, server.url + "/items/1")
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
        batch(len, ["a"]).run()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["for", "run", "run with out="])
def test_a_report_is_there_after_ctrl_c_has_ended_a_plain_loop(server, tmp_path, how):
    options = {"out": tmp_path / "r.jsonl"} if how == "run with out=" else {}
    held = fetch([server.url + "/held"] * 3 + [server.url + "/items/1"] * 5, limit=3, grace=0, **options)

    def interrupt():
        server.wait_until(lambda: len(server.paths()) >= 3)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=interrupt)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        if how == "for":
            for _ in held:
                pass
        else:
            held.run()
    presser.join()
    assert held.report.total == 8
    assert held.report.cancelled == 8
    assert repr(held).startswith("<Batch of requests, ended")
