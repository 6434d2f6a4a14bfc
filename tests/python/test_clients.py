"""`unisono.Client` and `unisono.AsyncClient`."""

import asyncio
import threading

import pytest

import unisono


def test_a_client_has_the_feel_of_httpx(server):
    with unisono.Client(base_url=server.url, headers={"X-App": "a"}, params={"v": 1}, auth=("me", "pw")) as client:
        response = client.post("/echo", json={"n": 1}, params={"p": 2}, headers={"X-One": "b"})
        seen = response.json()
    assert (response.status_code, response.is_success, response.http_version) == (200, True, "HTTP/1.1")
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/echo?v=1&p=2", '{"n":1}')
    assert (seen["headers"]["x-app"], seen["headers"]["x-one"]) == ("a", "b")
    assert seen["headers"]["authorization"].startswith("Basic ")
    assert response.headers["Content-Type"] == "application/json"
    assert response.content == response.text.encode()
    assert response.attempts == 1
    assert response.elapsed > 0


@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete"])
def test_every_method_is_sent(server, method):
    with unisono.Client() as client:
        assert getattr(client, method)(server.url + "/items/1").status_code == 200
    assert server.requests[0][0] == method.upper()


def test_a_status_is_an_answer_until_the_caller_says_otherwise(server):
    with unisono.Client(retries=0) as client:
        response = client.get(server.url + "/status/500")
        assert response.status_code == 500
        with pytest.raises(unisono.StatusError, match="HTTP 500") as caught:
            response.raise_for_status()
    assert caught.value.response.status_code == 500


def test_a_call_is_retried_like_a_row_of_a_batch(server):
    with unisono.Client(retries=2) as client:
        response = client.get(server.url + "/flaky/2")
    assert (response.status_code, response.attempts) == (200, 3)


def test_what_gets_no_answer_raises(server):
    with unisono.Client(retries=0) as client:
        with pytest.raises(ConnectionError):
            client.get("http://127.0.0.1:1/")
        with pytest.raises(unisono.FetchAmbiguous):
            client.post(server.url + "/drop")
        with pytest.raises(ValueError, match="is not a URL"):
            client.get("nonsense")


def test_redirects_and_cookies_are_followed(server):
    with unisono.Client(cookies=True) as client:
        assert client.get(server.url + "/redirect").url == server.url + "/items/1"
        client.get(server.url + "/cookie")
        assert client.get(server.url + "/cookie").json() == {"cookie": "session=abc"}


def test_event_hooks_see_requests_and_responses(server):
    seen = []
    hooks = {"request": [lambda request: seen.append(request.url)], "response": [lambda r: seen.append(r.status_code)]}
    with unisono.Client(event_hooks=hooks) as client:
        client.get(server.url + "/items/1")
    assert seen == [server.url + "/items/1", 200]


def test_a_body_can_be_taken_as_it_comes(server):
    with unisono.Client() as client:
        with client.stream("GET", server.url + "/stream/1000") as response:
            assert response.status_code == 200
            assert list(response.iter_lines()) == [f"line {n}" for n in range(1000)]
        with client.stream("GET", server.url + "/stream/100000") as response:
            next(response.iter_bytes())
        assert client.get(server.url + "/items/1").status_code == 200


def test_many_threads_share_a_client(server):
    with unisono.Client(limit=8) as client:
        answers = []
        threads = [
            threading.Thread(target=lambda n=n: answers.append(client.get(f"{server.url}/items/{n}").json()["id"] == n))
            for n in range(40)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert answers == [True] * 40
    assert server.most_in_flight <= 8


def test_an_async_client_gathers(server):
    async def main():
        async with unisono.AsyncClient(base_url=server.url, limit=10) as client:
            responses = await asyncio.gather(*(client.get(f"/items/{n}") for n in range(200)))
            return [response.json()["id"] for response in responses]

    assert asyncio.run(main()) == list(range(200))
    assert server.most_in_flight <= 10


def test_an_async_client_streams(server):
    async def main():
        async with unisono.AsyncClient() as client, client.stream("GET", server.url + "/stream/500") as response:
            return [line async for line in response.aiter_lines()]

    assert asyncio.run(main()) == [f"line {n}" for n in range(500)]


def ends_of(error):
    """All that an exception says, but for the answer's length so far."""
    return (type(error), error.kind, error.outcome, error.effect, error.url, error.attempts, str(error))


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_stream_that_breaks_off_raises_what_a_call_raises_whose_answer_does(server, method):
    url, ends = server.url + "/cut", []
    with unisono.Client(retries=0) as client:
        with pytest.raises(unisono.FetchError) as raised:
            client.request(method, url)
        ends.append(ends_of(raised.value))
        with client.stream(method, url) as response, pytest.raises(unisono.FetchError) as raised:
            response.read()
        ends.append(ends_of(raised.value))
        with pytest.raises(unisono.FetchError) as raised:
            response.read()
        ends.append(ends_of(raised.value))

    async def main():
        async with unisono.AsyncClient(retries=0) as client:
            with pytest.raises(unisono.FetchError) as raised:
                await client.request(method, url)
            ends.append(ends_of(raised.value))
            async with client.stream(method, url) as response:
                with pytest.raises(unisono.FetchError) as raised:
                    await response.aread()
            ends.append(ends_of(raised.value))

    asyncio.run(main())
    assert len(set(ends)) == 1
    kind, _, outcome, effect, *_ = ends[0]
    expected = (unisono.FetchAmbiguous, "ambiguous") if method == "POST" else (unisono.ConnectError, "failed")
    assert (kind, outcome, effect) == (*expected, "maybe")


def test_a_stream_whose_answer_came_and_cannot_be_read_says_that_its_request_was_carried_out(server):
    url, ends = server.url + "/torn-gzip", []
    with unisono.Client(retries=0) as client:
        with pytest.raises(unisono.DecodeError) as raised:
            client.post(url)
        ends.append(ends_of(raised.value))
        with client.stream("POST", url) as response, pytest.raises(unisono.DecodeError) as raised:
            response.read()
        ends.append(ends_of(raised.value))
    assert len(set(ends)) == 1
    assert (raised.value.outcome, raised.value.effect) == ("failed", "done")


def test_a_cancelled_call_is_stopped_and_frees_its_slot(server):
    async def main():
        async with unisono.AsyncClient(base_url=server.url, limit=1) as client:
            task = asyncio.create_task(client.get("/held"))
            while not server.requests:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return (await client.get("/items/1")).status_code

    assert asyncio.run(main()) == 200


def test_an_async_client_raises_what_its_sync_twin_raises(server):
    async def main():
        async with unisono.AsyncClient(retries=0) as client:
            with pytest.raises(ConnectionError):
                await client.get("http://127.0.0.1:1/")
            with pytest.raises(unisono.FetchAmbiguous):
                await client.post(server.url + "/drop")

    asyncio.run(main())


def test_one_async_client_serves_one_loop_after_the_other(server):
    client = unisono.AsyncClient(base_url=server.url)

    async def main():
        return (await client.get("/items/3")).json()["id"]

    assert [asyncio.run(main()) for _ in range(3)] == [3, 3, 3]
    asyncio.run(client.aclose())


def test_a_closed_client_says_so(server):
    client = unisono.Client()
    client.get(server.url + "/items/1")
    client.close()
    for _ in range(20):
        with pytest.raises(unisono.Error):
            client.get(server.url + "/items/1")


def test_closing_a_client_answers_everybody_who_waits(server):
    client = unisono.Client(limit=2)
    errors = []

    def call():
        try:
            client.get(server.url + "/held")
        except unisono.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    server.wait_until(lambda: server.in_flight == 2)
    client.close()
    for thread in threads:
        thread.join(30)
    assert len(errors) == 10


def test_limits_may_be_changed_while_running(server):
    with unisono.Client(limit=1) as client:
        client.set_limits(limit=3)
        threads = [threading.Thread(target=client.get, args=(server.url + "/held",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        server.wait_until(lambda: server.in_flight == 3)
        server.gate.set()
        for thread in threads:
            thread.join(30)
    assert server.most_in_flight == 3
