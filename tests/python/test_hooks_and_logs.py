"""What accompanies the attempts of calls: hooks, and what is logged of them."""

import asyncio
import contextlib
import contextvars
import logging

import pytest

import unisono

REQUEST_ID = contextvars.ContextVar("request_id", default="none")


def test_hooks_see_each_attempt_in_order_with_what_came_of_it(server, call):
    seen = []
    hooks = {
        "request": [lambda request: seen.append(("request", request.url))],
        "response": [lambda response: seen.append(("response", response.status_code))],
        "retry": [
            lambda retry: seen.append(("retry", retry.attempt, retry.response.status_code, type(retry.error).__name__))
        ],
        "failure": [lambda error: seen.append(("failure", error))],
    }
    url = server.url + "/flaky/2"
    assert call({"retries": 2, "event_hooks": hooks}, "GET", url).attempts == 3
    again = [("request", url), ("response", 503)]
    assert seen == [
        *again,
        ("retry", 1, 503, "StatusError"),
        *again,
        ("retry", 2, 503, "StatusError"),
        ("request", url),
        ("response", 200),
    ]


def test_an_attempt_without_an_answer_is_a_failure_to_its_hooks(away, call):
    seen = []
    hooks = {
        "failure": [lambda error: seen.append(type(error).__name__)],
        "retry": [lambda retry: seen.append(retry.attempt)],
    }
    with pytest.raises(unisono.ConnectError):
        call({"retries": 1, "event_hooks": hooks}, "GET", f"http://127.0.0.1:{away}/")
    assert seen == ["ConnectError", 1, "ConnectError"]


def test_each_attempt_is_signed_anew_from_what_was_asked_for(server, call):
    signatures = iter("abc")

    def sign(request):
        assert "x-signature" not in dict(request.headers)
        return request.with_headers({"x-signature": next(signatures)})

    url = server.url + "/flaky/2"
    for options, arguments in [({"auth": sign}, {}), ({}, {"auth": sign})]:
        signatures = iter("abc")
        server.counts.clear()
        server.requests.clear()
        assert call({"retries": 2, **options}, "GET", url, **arguments).status_code == 200
        assert [headers["x-signature"] for _, _, headers, _ in server.requests] == ["a", "b", "c"]


def test_a_key_that_a_hook_adds_makes_a_post_one_that_is_repeated(server, call):
    def keyed(request):
        return request.with_headers({"Idempotency-Key": "k"})

    url = server.url + "/flaky/1"
    assert call({"retries": 1}, "POST", url).status_code == 503
    server.counts.clear()
    assert call({"retries": 1, "event_hooks": {"request": [keyed]}}, "POST", url).attempts == 2


def test_what_the_request_expects_that_is_sent_is_a_success_of_its_call(server, call):
    hooks = {"request": [lambda request: request.replace(expect=404)]}
    answer = call({"event_hooks": hooks}, "GET", server.url + "/status/404", expect=200)
    assert (answer.status_code, answer.ok) == (404, True)
    assert not call({"event_hooks": hooks}, "GET", server.url + "/items/1").ok


def test_hooks_run_in_the_context_of_their_caller(server):
    seen = []

    async def look(request):
        await asyncio.sleep(0)
        seen.append((REQUEST_ID.get(), asyncio.current_task().get_name()))

    async def main():
        async with unisono.AsyncClient(event_hooks={"request": [look]}) as client:

            async def one(name):
                REQUEST_ID.set(name)
                await client.get(server.url + "/items/1")

            await asyncio.gather(*(asyncio.create_task(one(name), name=name) for name in "ab"))

    asyncio.run(main())
    assert sorted(seen) == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize("when", ["request", "response", "retry"])
def test_what_a_hook_raises_ends_the_call_and_the_client_goes_on(server, call, when):
    def fail(_):
        raise LookupError(when)

    with pytest.raises(LookupError, match=when):
        call({"retries": 3, "limit": 1, "event_hooks": {when: [fail]}}, "GET", server.url + "/flaky/1")
    assert len(server.requests) == (0 if when == "request" else 1)
    with unisono.Client(limit=1, event_hooks={when: [fail]}) as client:
        for _ in range(3):
            with pytest.raises(LookupError) if when != "retry" else contextlib.nullcontext():
                client.get(server.url + "/items/1")


def test_an_attempt_whose_hook_outlasts_its_timeout_has_sent_nothing(server):
    async def main():
        asked = []

        async def slow(request):
            asked.append(request)
            if len(asked) == 1:
                await asyncio.sleep(0.3)

        async with unisono.AsyncClient(timeout=0.15, retries=1, event_hooks={"request": [slow]}) as client:
            response = await client.post(server.url + "/echo", json={})
        return response.attempts

    assert asyncio.run(main()) == 2
    assert len(server.requests) == 1


def test_a_client_that_is_closed_while_a_hook_runs_ends_the_call(server):
    async def main():
        begun, never = asyncio.Event(), asyncio.Event()

        async def hang(request):
            begun.set()
            await never.wait()

        client = unisono.AsyncClient(event_hooks={"request": [hang]})
        task = asyncio.create_task(client.get(server.url + "/items/1"))
        await begun.wait()
        await client.aclose()
        never.set()
        with pytest.raises(unisono.FetchCancelled) as caught:
            await task
        return caught.value.effect

    assert asyncio.run(main()) == "none"
    assert server.requests == []


def test_streams_have_the_same_hooks(server):
    seen = []
    hooks = {
        "request": [lambda request: request.with_headers({"x-a": "1"})],
        "response": [lambda r: seen.append(r.status_code)],
    }
    with unisono.Client(event_hooks=hooks) as client, client.stream("GET", server.url + "/echo") as response:
        assert b'"x-a": "1"' in response.read()
    assert seen == [200]


def test_hooks_for_other_times_and_of_other_kinds_are_refused():
    for hooks, said in [
        ({"before": [print]}, "none for 'before'"),
        ({"request": print}, "must be a list of functions"),
    ]:
        with pytest.raises(unisono.UsageError, match=said):
            unisono.Client(event_hooks=hooks)


def records_of(caplog, name):
    return [record for record in caplog.records if record.name == name]


def test_retries_of_calls_are_logged_with_item_key_and_attempt(server, call, caplog):
    caplog.set_level(logging.INFO, logger="unisono.http")
    call({"retries": 1}, "GET", server.url + "/flaky/1")
    [record] = records_of(caplog, "unisono.http")
    assert (record.levelname, record.attempt) == ("INFO", 1)
    assert "retry after attempt 1" in record.getMessage()
    assert "HTTP 503" in record.getMessage()


def test_attempts_of_calls_are_logged_at_debug_alone_and_without_passwords(server, call, caplog):
    caplog.set_level(logging.DEBUG, logger="unisono.http")
    url = server.url.replace("//", "//ann:hunter2@")
    call({}, "GET", url + "/items/1")
    assert [record.attempt for record in records_of(caplog, "unisono.http")] == [1]
    assert "hunter2" not in caplog.text + str([vars(record) for record in caplog.records])
    caplog.clear()
    caplog.set_level(logging.WARNING, logger="unisono.http")
    call({"retries": 1}, "GET", server.url + "/flaky/1")
    assert records_of(caplog, "unisono.http") == []


def test_batches_log_under_the_name_of_their_kind(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    unisono.fetch([{"id": "one", "url": server.url + "/flaky/1"}], retries=1).run()
    unisono.commands.each([["sh", "-c", "test -e made || { touch made; exit 1; }"]], retries=1, cwd=tmp_path).run()
    failing = iter([ValueError("odd"), None])

    def odd(item):
        if error := next(failing):
            raise error

    unisono.batch(odd, ["x"], retries=1).run()
    for name, said in [("unisono.http", "HTTP 503"), ("unisono.commands", "exit"), ("unisono.batch", "odd")]:
        attempts = [record.attempt for record in records_of(caplog, name) if record.levelno == logging.DEBUG]
        [retry] = [record for record in records_of(caplog, name) if record.levelno == logging.INFO]
        assert (attempts, retry.attempt) == ([1, 2], 1), name
        assert said in retry.getMessage()
    assert {record.item for record in records_of(caplog, "unisono.http")} == {"one"}
    assert {record.key for record in records_of(caplog, "unisono.http")} == {server.url.removeprefix("http://")}


@pytest.mark.parametrize("keeps", [True, False])
def test_a_host_that_is_away_is_a_warning_and_one_that_is_back_is_told(away, tmp_path, caplog, keeps):
    from support.server import back

    caplog.set_level(logging.INFO, logger="unisono.http")
    told = []

    class Handler(logging.Handler):
        def emit(self, record):
            told.append(record.getMessage())
            if "away" in record.getMessage() and len(told) == 1:
                stack.append(back(away))
                stack[-1].__enter__()

    stack, handler = [], Handler()
    logging.getLogger("unisono.http").addHandler(handler)
    options = {} if keeps else {"out": tmp_path / "r.jsonl"}
    try:
        report = unisono.fetch([f"http://127.0.0.1:{away}/items/1"], host_away="60s", **options).run()
    finally:
        logging.getLogger("unisono.http").removeHandler(handler)
        for server in stack:
            server.__exit__(None, None, None)
    assert report.ok == 1
    assert any("away; what is for it waits" in text for text in told)
    assert any(": back, after" in text for text in told)
