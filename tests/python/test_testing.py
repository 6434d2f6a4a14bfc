"""`unisono.testing.FakeTransport`: programs are tested without a network, and by the real engine."""

import asyncio
import json
import threading

import pytest

import unisono
from unisono.testing import FakeTransport, UnexpectedRequest


@pytest.fixture
def fake():
    fake = FakeTransport()
    yield fake
    fake.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_any_host_is_answered_by_rules_and_what_was_asked_is_recorded(fake, scheme):
    users = fake.on("GET", f"{scheme}://api.example/users/*", json={"name": "ann"}, headers={"X-Page": 1})
    orders = fake.on("post", "/orders", status=201, content="made")
    with unisono.Client(base_url=f"{scheme}://api.example", transport=fake, auth=("u", "p")) as client:
        response = client.get("/users/7", params={"full": True})
        assert (response.json(), response.headers["x-page"]) == ({"name": "ann"}, "1")
        assert client.post("https://other.example:8443/orders", json={"id": 1}).status_code == 201
        with client.stream("GET", "/users/8") as streamed:
            assert json.loads(streamed.read()) == {"name": "ann"}
    first, second, _ = fake.requests
    assert (first.method, first.url) == ("GET", f"{scheme}://api.example/users/7?full=true")
    assert first.headers["authorization"] == "Basic dTpw"
    assert (second.url, second.json()) == ("https://other.example:8443/orders", {"id": 1})
    assert (len(users.requests), orders.requests) == (2, [second])
    fake.check()


def test_rules_with_times_are_a_sequence_and_repeats_are_those_of_the_engine(fake):
    fake.on("GET", "/x", status=503, headers={"Retry-After": 0}, times=1)
    fake.on("GET", "/x", error="reset", times=1)
    fake.on("GET", "/x", content="at last")
    with unisono.Client(base_url="http://a.example", transport=fake) as client:
        response = client.get("/x")
    assert response.text == "at last"
    assert [request.url for request in fake.requests] == ["http://a.example/x"] * 3


def test_faults_are_what_the_engine_says_they_are(fake):
    fake.on("POST", "/orders", error="reset")
    fake.on("GET", "/cut", json=list(range(100)), error="cut")
    fake.on("GET", "/silent", error="silence")
    with unisono.Client(base_url="http://a.example", transport=fake, retries=0) as client:
        with pytest.raises(unisono.FetchAmbiguous) as lost:
            client.post("/orders", json={})
        assert lost.value.effect == "maybe"
        with pytest.raises(unisono.ConnectError):
            client.get("/cut")
        with pytest.raises(unisono.FetchTimeout):
            client.get("/silent", timeout=0.1)


def test_what_no_rule_is_for_fails_loudly_and_says_what_was_asked(fake):
    fake.on("GET", "/users", json=[])
    said = r"no rule is for GET http://a.example/posts \(rules: GET /users\)"
    with (
        unisono.Client(base_url="http://a.example", transport=fake) as client,
        pytest.raises(UnexpectedRequest, match=said),
    ):
        client.get("/posts")
    assert isinstance(UnexpectedRequest(), AssertionError)
    with pytest.raises(UnexpectedRequest, match="/nothing"), FakeTransport() as other:
        (outcome,) = unisono.fetch_all(["http://a.example/nothing"], transport=other)
        assert outcome.result.status_code == 501
    assert len(fake.requests) == 1


def test_a_batch_and_an_async_client_connect_to_it_as_well(fake):
    fake.on("GET", "/items/*", json={})
    report = unisono.fetch((f"https://host-{n % 3}.example/items/{n}" for n in range(30)), transport=fake).run()
    assert report.ok == 30
    assert sorted(report.by_key()) == ["host-0.example", "host-1.example", "host-2.example"]

    async def main():
        async with unisono.AsyncClient(base_url="https://a.example", transport=fake) as client:
            page = await unisono.gather(a=client.get("/items/1"), b=client.get("/items/2"))
            with pytest.raises(UnexpectedRequest):
                await client.get("/other")
            async with client.batch(["/items/3"]) as batch:
                (outcome,) = [outcome async for outcome in batch]
            return page.a.ok, page.b.ok, outcome.ok

    assert asyncio.run(main()) == (True, True, True)


def test_an_earlier_run_can_be_answered_from_its_results(server, tmp_path):
    out = tmp_path / "results.jsonl"
    rows = [f"{server.url}/items/1", f"{server.url}/items/2?x=1", f"{server.url}/pages/1", f"{server.url}/missing"]
    unisono.fetch(rows, out=out, include_headers=True, retries=0).run()
    before = {outcome.url: outcome.result for outcome in unisono.fetch(rows, retries=0)}
    server.requests.clear()
    with FakeTransport.of_results(out) as fake:
        again = {outcome.url: outcome.result for outcome in unisono.fetch(rows, retries=0, transport=fake)}
    assert server.requests == []
    for url, response in before.items():
        assert (again[url].status_code, again[url].json()) == (response.status_code, response.json())
    assert 'rel="next"' in again[rows[2]].headers["link"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"json": 1, "content": "x"}, "an answer has one body"),
        ({"error": "refused"}, 'error is "reset", "cut" or "silence", not \'refused\''),
        ({"status": 99}, "status"),
        ({"times": 0}, "times"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(fake, arguments, said):
    with pytest.raises(unisono.UsageError, match=said):
        fake.on("GET", "/", **arguments)


def test_a_closed_one_is_refused_and_leaves_nothing(fake):
    before = threading.active_count()
    with FakeTransport() as other:
        pass
    with pytest.raises(unisono.UsageError, match="closed"):
        unisono.Client(transport=other)
    with pytest.raises(unisono.UsageError, match="closed"):
        unisono.fetch([], transport=other)
    assert threading.active_count() <= before
