"""What a single call, request or row has of its own in place of what holds for its client or batch."""

import asyncio
import hashlib
import json

import pytest

import unisono


def test_the_timeout_of_a_call_goes_before_that_of_its_client(server, call):
    with pytest.raises(unisono.FetchTimeout, match=r"within 150ms"):
        call({"retries": 0}, "GET", server.url + "/held", timeout=0.15)
    server.gate.set()
    assert call({"timeout": 1e-9, "retries": 0}, "GET", server.url + "/items/1", timeout="none").status_code == 200


def test_the_deadline_and_the_repeats_of_a_call_are_its_own(server, call):
    with pytest.raises(unisono.FetchTimeout, match=r"deadline of 200ms"):
        call({}, "GET", server.url + "/held", deadline="200ms", timeout="none")
    assert call({"retries": 0}, "GET", server.url + "/flaky/2", retries=2).attempts == 3
    answer = call({"retries": 5}, "GET", server.url + "/flaky/1000", retries=0)
    assert (answer.attempts, answer.is_success) == (1, False)


def test_what_a_call_expects_is_taken_for_a_success_and_nothing_else_is(server, call):
    gone = call({}, "GET", server.url + "/status/404", expect=404)
    assert gone.raise_for_status() is gone
    found = call({}, "GET", server.url + "/items/1", expect="404")
    with pytest.raises(unisono.StatusError, match="HTTP 200"):
        found.raise_for_status()
    assert call({"retries": 3}, "GET", server.url + "/status/503", expect=[200, "5xx"]).attempts == 1
    with pytest.raises(unisono.StatusError, match="HTTP 200"):
        call({"expect": 201}, "GET", server.url + "/items/1").raise_for_status()


def test_a_call_says_whether_redirects_are_followed(server, call):
    assert call({}, "GET", server.url + "/redirect", follow_redirects=False).status_code == 302
    assert call({"max_redirects": 0}, "GET", server.url + "/redirect").status_code == 302
    assert call({"max_redirects": 0}, "GET", server.url + "/redirect", follow_redirects=True).redirects == 1


def test_the_login_the_cookies_and_the_key_of_a_call_go_along(server, call):
    answer = call(
        {"auth": ("client", "pw"), "cookies": {"theme": "dark", "a": "0"}},
        "POST",
        server.url + "/echo",
        auth=("me", "pw"),
        cookies={"a": 1},
        idempotency_key="key-7",
        json={},
    )
    headers = answer.json()["headers"]
    assert headers["authorization"] == "Basic bWU6cHc="
    assert (headers["cookie"], headers["idempotency-key"]) == ("a=1; theme=dark", "key-7")


def test_a_made_up_key_is_the_same_for_all_attempts_and_another_for_each_call(server, call):
    keys = []
    for _ in range(2):
        assert call({"retries": 2}, "POST", server.url + f"/flaky/{len(keys)}", idempotency_key=True).status_code == 200
        keys.append(
            {headers["idempotency-key"] for _, path, headers, _ in server.requests if path.endswith(str(len(keys)))}
        )
    assert [len(key) for key in keys] == [1, 1]
    assert keys[0] != keys[1]


def test_parameters_that_are_missing_are_left_out_and_truth_is_written_as_in_json(server, call):
    answer = call(
        {"params": {"v": 1}}, "GET", server.url + "/echo", params={"a": True, "b": None, "c": [1, None, False]}
    )
    assert answer.json()["path"] == "/echo?v=1&a=true&c=1&c=false"


def test_only_what_begins_with_a_scheme_leaves_the_base(server):
    with unisono.Client(base_url=server.url + "/echo/") as client:
        for url, path in [
            ("/e?next=https://a/b", "/echo/e?next=https://a/b"),
            ("e:f", "/echo/e:f"),
            ("?q=1", "/echo/?q=1"),
            ("", "/echo/"),
            (server.url + "/echo", "/echo"),
            (server.url.removeprefix("http:") + "/echo", "/echo"),
        ]:
            assert client.get(url).json()["path"] == path, url
    with pytest.raises(unisono.UsageError, match="base_url has a query"):
        unisono.Client(base_url="http://host/?key=1")


def signed(request):
    return request.with_headers({"X-Signature": hashlib.sha256(request.content or b"").hexdigest()})


def test_a_callable_signs_each_request_of_a_client_or_of_a_call(server, call):
    digest = hashlib.sha256(b"{}").hexdigest()
    for options, arguments in [({"auth": signed}, {}), ({"auth": ("a", "b")}, {"auth": signed})]:
        answer = call(options, "POST", server.url + "/echo", json={}, **arguments)
        assert answer.json()["headers"]["x-signature"] == digest
    with pytest.raises(unisono.UsageError, match=r"auth returned None, not a request.*with_headers"):
        call({"auth": lambda request: None}, "GET", server.url + "/echo")


def test_an_auth_of_none_is_as_if_it_were_not_there(server, call):
    digest = hashlib.sha256(b"").hexdigest()
    assert call({"auth": signed}, "GET", server.url + "/echo", auth=None).json()["headers"]["x-signature"] == digest
    login = call({"auth": ("a", "b")}, "GET", server.url + "/echo", auth=None).json()["headers"]["authorization"]
    assert login == "Basic YTpi"
    request = unisono.Request(server.url + "/echo", auth=None)
    with unisono.Client(auth=signed) as client:
        assert client.send(request).json()["headers"]["x-signature"] == digest
        assert [
            page.json()["headers"]["x-signature"] for page in client.pages(request.url, next=".none", auth=None)
        ] == [digest]
        (outcome,) = client.batch([{"url": request.url, "auth": None}])
        assert outcome.result.json()["headers"]["x-signature"] == digest

    async def sent():
        async with unisono.AsyncClient(auth=signed) as client:
            return await client.send(request)

    assert asyncio.run(sent()).json()["headers"]["x-signature"] == digest


def test_a_hook_may_have_another_request_sent(server):
    def traced(request):
        return request.with_headers({"traceparent": "00-1"})

    with unisono.Client(event_hooks={"request": [traced, lambda request: None]}) as client:
        assert client.get(server.url + "/echo").json()["headers"]["traceparent"] == "00-1"
    with unisono.Client(event_hooks={"request": [lambda request: "x"]}) as client, pytest.raises(unisono.UsageError):
        client.get(server.url + "/echo")


def test_a_request_that_was_built_can_be_changed_and_sent(server):
    with unisono.Client(base_url=server.url, params={"v": 1}) as client:
        request = client.build_request("POST", "/echo", json={"n": 1}, headers={"X-A": "1"})
        changed = request.replace(content=b"text", headers={"X-B": "2"})
        seen = client.send(changed).json()
        assert (seen["path"], seen["body"], seen["headers"]["x-b"]) == ("/echo?v=1", "text", "2")
        assert "x-a" not in seen["headers"]
        assert client.send(request).json()["body"] == '{"n":1}'
        assert client.send(unisono.Request("/echo", method="PUT")).json()["method"] == "PUT"


def test_the_cookies_that_servers_set_can_be_read_and_forgotten(server):
    with unisono.Client(cookies={"session": "old"}) as client:
        assert client.get(server.url + "/cookie").json() == {"cookie": "session=old"}
        assert client.get(server.url + "/cookie").json() == {"cookie": "session=abc"}
        assert (dict(client.cookies), len(client.cookies)) == ({"session": "abc"}, 1)
        [cookie] = client.cookies.jar
        assert (cookie.name, cookie.value, cookie.domain, cookie.secure) == ("session", "abc", "127.0.0.1", False)
        assert "abc" not in repr(client.cookies) + repr(cookie)
        client.cookies.clear()
        assert "session" not in client.cookies


def test_a_batch_of_a_client_has_its_options(server):
    def rows():
        yield "/echo"
        yield {"url": "/echo", "json": 1, "params": {"p": 2}}
        yield unisono.Request("/echo", method="PUT")

    with unisono.Client(base_url=server.url, headers={"X-App": "a"}, params={"v": 1}, auth=signed) as client:
        outcomes = list(client.batch(rows(), keep_order=True))
    seen = [outcome.result.json() for outcome in outcomes]
    assert [one["method"] for one in seen] == ["GET", "POST", "PUT"]
    assert [one["path"] for one in seen] == ["/echo?v=1", "/echo?v=1&p=2", "/echo"]
    assert all(one["headers"]["x-app"] == "a" and one["headers"]["x-signature"] for one in seen)


def test_rows_of_a_batch_have_options_of_their_own(server):
    rows = [
        {"url": server.url + "/flaky/1", "retries": 1, "id": "repeated"},
        {"url": server.url + "/status/404", "expect": 404, "id": "expected"},
        unisono.Request(server.url + "/held", timeout=0.1, id="late"),
        unisono.Request(server.url + "/echo", method="POST", auth=("me", "pw"), cookies={"a": 1}, id="login"),
        {"url": server.url + "/items/1", "timeout": "soon"},
    ]
    ends = {outcome.id: outcome for outcome in unisono.fetch(rows, retries=0)}
    assert {name: outcome.kind for name, outcome in ends.items()} == {
        "repeated": "ok",
        "expected": "ok",
        "late": "timed_out",
        "login": "ok",
        "r4": "failed",
    }
    assert "timeout" in str(ends["r4"].error)
    headers = ends["login"].result.json()["headers"]
    assert (headers["authorization"], headers["cookie"]) == ("Basic bWU6cHc=", "a=1")


def test_rows_of_the_command_have_options_of_their_own(server, unisono, tmp_path, lines):
    rows = [
        {"id": "a", "url": server.url + "/flaky/1", "retries": 1},
        {"id": "b", "url": server.url + "/status/404", "expect": "404"},
        {"id": "c", "url": server.url + "/held", "timeout": "100ms"},
        {"id": "d", "url": server.url + "/redirect", "follow_redirects": False, "expect": 302},
        {"id": "e", "url": server.url + "/items/1", "cookies": 7},
        {"id": "f", "url": server.url + "/items/1", "timeout": None, "auth": None},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = unisono("fetch", "--from", "rows.jsonl", "--retries", "0", "-k")
    found = lines(ended.stdout)
    assert [line["outcome"] for line in found] == ["ok", "ok", "timed_out", "ok", "failed", "ok"]
    assert "`cookies` must be an object" in found[4]["error"]["message"]
    assert found[2]["error"]["message"].endswith("within 100ms")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timeout": "soon"}, "timeout"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"expect": "fine"}, "`fine` is not a status"),
        ({"auth": "ann:pw"}, "auth must be a user name and a password"),
        ({"cookies": {"a": "1;b=2"}}, "value of a cookie cannot be sent"),
        ({"json": 1, "content": "x"}, "one body"),
    ],
)
def test_a_mistake_in_a_call_is_said_before_anything_is_sent(server, call, wrong, said):
    with pytest.raises(unisono.UsageError, match=said):
        call({}, "POST", server.url + "/echo", **wrong)
    assert server.requests == []


def test_many_calls_with_times_of_their_own_end_when_each_says(server):
    async def main():
        async with unisono.AsyncClient(limit=50, retries=0) as client:

            async def late(milliseconds):
                with pytest.raises(unisono.FetchTimeout, match=f"within {milliseconds}ms"):
                    await client.get(server.url + "/held", timeout=milliseconds / 1000)
                return milliseconds

            calls = [asyncio.ensure_future(late(milliseconds)) for milliseconds in (400, 100, 300, 200)]
            order = [await done for done in asyncio.as_completed(calls)]
            server.gate.set()
            return order

    assert asyncio.run(main()) == [100, 200, 300, 400]
