"""`unisono.fetch`: a batch from Python."""

import asyncio
import json
import threading

import pytest

import unisono


def urls(server, count, path="items"):
    return [f"{server.url}/{path}/{n}" for n in range(count)]


def test_a_for_loop_takes_every_outcome_once_with_its_item(server):
    requests = urls(server, 300)
    seen = {outcome.item: outcome.result.json()["id"] for outcome in unisono.fetch(requests, limit=20)}
    assert seen == {url: n for n, url in enumerate(requests)}
    assert server.most_in_flight <= 20


def test_an_async_for_loop_takes_every_outcome_once(server):
    async def main():
        return [outcome.row async for outcome in unisono.fetch(urls(server, 300))]

    assert sorted(asyncio.run(main())) == list(range(300))


def test_awaiting_a_batch_answers_its_report(server):
    async def main():
        return await unisono.fetch([*urls(server, 5), server.url + "/status/404"])

    report = asyncio.run(main())
    assert (report.ok, report.failed, report.total) == (5, 1, 6)
    assert not report
    assert len(report.outcomes) == 6


def test_running_a_batch_answers_its_report_and_prints_as_a_table(server):
    report = unisono.fetch(urls(server, 3)).run()
    assert (report.ok, bool(report)) == (3, True)
    host = server.url.removeprefix("http://")
    assert report.by_key()[host]["ok"] == 3
    assert report.to_dicts()[0]["host"] == host
    assert str(report).splitlines()[1].split() == [host, "3"]
    assert "<td>3</td>" in report._repr_html_()


def test_fetch_all_answers_in_the_order_of_the_requests(server):
    outcomes = unisono.fetch_all([server.url + "/flaky/1", *urls(server, 10)])
    assert [outcome.row for outcome in outcomes] == list(range(11))


def test_a_request_may_be_a_url_a_request_or_a_mapping(server):
    outcomes = unisono.fetch_all(
        [
            server.url + "/echo",
            unisono.Request(
                server.url + "/echo",
                method="PUT",
                json={"n": 1},
                headers={"X-A": "b"},
                params={"p": [1, 2]},
                id="second",
            ),
            {"url": server.url + "/echo", "method": "PATCH", "content": b"raw"},
        ]
    )
    first, second, third = (outcome.result.json() for outcome in outcomes)
    assert first["method"] == "GET"
    assert (second["method"], second["path"], json.loads(second["body"])) == ("PUT", "/echo?p=1&p=2", {"n": 1})
    assert second["headers"]["x-a"] == "b"
    assert outcomes[1].id == "second"
    assert (third["method"], third["body"]) == ("PATCH", "raw")


def test_what_is_no_request_is_an_outcome_and_stops_nothing(server):
    outcomes = unisono.fetch_all([17, "not a url", {"headers": 3}, server.url + "/items/1"])
    assert [outcome.kind for outcome in outcomes] == ["failed", "failed", "failed", "ok"]
    assert all(isinstance(outcome.error, unisono.FetchInputError) for outcome in outcomes[:3])
    with pytest.raises(ValueError, match="found int"):
        outcomes[0].check()


def test_ctrl_c_in_a_mapping_is_no_fault_of_the_request(server):
    class Interrupted(dict):
        def items(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), unisono.fetch([Interrupted(url=server.url)]) as batch:
        next(batch)
    assert (batch.report.total, batch.report.pending) == (0, 1)


def test_a_generator_is_pulled_lazily(server):
    pulled = []

    def requests():
        for n in range(100_000):
            pulled.append(n)
            yield f"{server.url}/items/{n}"

    with unisono.fetch(requests(), limit=2) as batch:
        next(batch)
    assert len(pulled) < 10_000
    # How many would have come is not known.
    assert batch.report.pending is None


def test_an_async_generator_of_requests_is_taken(server):
    async def requests():
        for n in range(500):
            yield f"{server.url}/items/{n}"
            if n % 100 == 0:
                await asyncio.sleep(0)

    async def main():
        return [outcome.row async for outcome in unisono.fetch(requests())]

    assert sorted(asyncio.run(main())) == list(range(500))


def test_requests_that_raise_in_the_middle_are_accounted_for_and_the_exception_is_shown(server):
    def requests():
        yield from urls(server, 7)
        raise LookupError("the database is gone")

    outcomes = []
    batch = unisono.fetch(requests())
    with pytest.raises(LookupError, match="the database is gone"):
        outcomes.extend(batch) or [outcomes.append(outcome) for outcome in batch]
    assert batch.report.ok == 7
    assert "the database is gone" in batch.report.failures[0]


def test_async_requests_that_raise_in_the_middle_do_the_same(server):
    async def requests():
        for url in urls(server, 7):
            yield url
        raise LookupError("the database is gone")

    async def main():
        batch = unisono.fetch(requests())
        with pytest.raises(LookupError):
            async for _ in batch:
                pass
        return batch.report.ok

    assert asyncio.run(main()) == 7


def test_errors_are_exceptions_with_the_base_that_a_caller_would_guess(server):
    ended = unisono.fetch_all([server.url + "/status/404", "http://127.0.0.1:1/"], retries=0)
    # A time that is to be over is that of nothing else.
    held = unisono.fetch_all([server.url + "/held"], retries=0, timeout=0.2)
    status, refused, slow = (outcome.error for outcome in [*ended, *held])
    assert isinstance(status, unisono.StatusError)
    assert status.response.status_code == 404
    assert isinstance(refused, ConnectionError)
    assert isinstance(slow, TimeoutError)
    assert all(isinstance(error, unisono.Error) for error in (status, refused, slow))
    assert (status.kind, refused.kind, slow.kind) == ("status", "connect", "timeout")


def test_an_unknown_option_and_a_bad_value_are_named(server):
    with pytest.raises(TypeError, match="limits"):
        list(unisono.fetch([], limits=3))
    with pytest.raises(unisono.UsageError, match="rate: `fast` is not a rate"):
        list(unisono.fetch([], rate="fast"))
    with pytest.raises(ValueError, match="timeout"):
        list(unisono.fetch([], timeout=-1))


def test_an_empty_batch_ends_at_once_and_well():
    assert list(unisono.fetch([])) == []
    assert unisono.fetch(iter(())).run()


def test_results_in_a_file_are_those_of_the_command(server, tmp_path, unisono_command=None):
    out = tmp_path / "r.jsonl"
    report = unisono.fetch(urls(server, 5), out=out).run()
    assert (report.ok, report.outcomes) == (5, [])
    with pytest.raises(unisono.UsageError, match="exists already"):
        unisono.fetch(urls(server, 5), out=out).run()
    again = unisono.fetch(urls(server, 8), out=out, resume=True).run()
    assert (again.ok, again.kept["ok"]) == (8, 5)
    assert sorted(json.loads(line)["row"] for line in out.read_text().splitlines()) == list(range(8))


def test_the_command_goes_on_with_results_of_python(server, tmp_path, unisono, lines):
    import unisono as package

    out = tmp_path / "r.jsonl"
    package.fetch(urls(server, 3), out=out).run()
    assert unisono("fetch", server.url + "/items/{0..4}", "-o", out, "--resume").returncode == 0
    assert len(lines(out)) == 5
    assert server.counts["/items/0"] == 1


def test_cancelling_accounts_for_everything_that_was_pulled(server):
    batch = unisono.fetch(urls(server, 100, "held"), limit=3)
    taken = []
    worker = threading.Thread(target=lambda: taken.extend(batch))
    worker.start()
    server.wait_until(lambda: len(server.requests) == 3)
    batch.cancel()
    server.gate.set()
    worker.join(30)
    assert not worker.is_alive()
    assert batch.report.ok == 3
    assert batch.report.ok + batch.report.cancelled == len(taken)
    assert len(taken) + batch.report.pending == 100


def test_leaving_a_block_early_lets_finish_what_runs(server):
    async def main():
        async with unisono.fetch(urls(server, 1000), limit=5) as batch:
            async for _ in batch:
                break
        return batch

    batch = asyncio.run(main())
    assert batch.report.ok >= 1
    assert batch.report.failed == 0


def test_a_limit_may_be_changed_while_running(server):
    batch = unisono.fetch(urls(server, 50, "held"), limit=2)
    worker = threading.Thread(target=lambda: list(batch))
    worker.start()
    server.wait_until(lambda: server.in_flight == 2)
    batch.limit = 10
    server.wait_until(lambda: server.in_flight == 10)
    assert batch.progress["in_flight"] == 10
    server.gate.set()
    worker.join(30)
    assert server.most_in_flight == 10


def test_progress_goes_to_a_callable(server):
    numbers = []
    unisono.fetch(urls(server, 10), progress=numbers.append).run()
    assert numbers[-1]["done"] == 10


def test_a_token_callable_is_asked_again_when_its_token_is_refused(server):
    tokens = iter(["t1", "t2", "t3"])
    outcomes = unisono.fetch_all([f"{server.url}/private/t2?{n}" for n in range(30)], token=lambda: next(tokens))
    assert all(outcome.ok for outcome in outcomes)
    assert next(tokens) == "t3"


def test_several_loops_at_once_have_their_own_batches(server):
    results = []

    async def main():
        results.append(len([outcome async for outcome in unisono.fetch(urls(server, 100))]))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [100] * 4
