"""A client that is closed while calls run: each of them ends, and says what may have become of its request."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import threading
import weakref
from pathlib import Path

import pytest
import uvloop

import unisono
from support.processes import PATIENCE

RUNS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture(params=RUNS)
def run(request):
    return RUNS[request.param]


async def until(server, condition):
    await asyncio.to_thread(server.wait_until, condition)


def clients():
    """How many engines of clients there are in this process."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += (task / "comm").read_text() == "unisono-client\n"
    return found


def descriptors():
    return len(os.listdir("/proc/self/fd"))


# What a call may be doing when its client is closed.

WAITING = {
    "an_answer": ("/held", {}),
    "a_slot": ("/held", {"limit": 1}),
    "a_slot_at_its_host": ("/held", {"per_host": 1}),
    "a_rate": ("/items/1", {"rate": "1/h"}),
    "another_attempt": ("/status/503", {"retries": 50}),
    "the_time_that_a_server_asks_for": ("/throttled/30", {}),
    "another_attempt_after_a_cut_body": ("/cut", {"retries": 50}),
}


@pytest.mark.parametrize("name", WAITING)
def test_every_call_raises_when_its_client_is_closed(run, server, name):
    path, options = WAITING[name]

    async def main():
        client = unisono.AsyncClient(base_url=server.url, **options)
        calls = [asyncio.ensure_future(client.get(path)) for _ in range(5)]
        await until(server, lambda: server.requests)
        await client.aclose()
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)

    ends = run(main())
    # Some are answered at once, in the cases of a rate and of a server that asks one of them to wait.
    ends = [end for end in ends if not isinstance(end, unisono.Response)]
    assert ends
    assert {type(end) for end in ends} == {unisono.FetchCancelled}
    assert all("the client was closed" in str(end) for end in ends)
    server.wait_until(lambda: not clients())


@pytest.mark.parametrize("name", WAITING)
def test_every_call_of_other_threads_raises_when_their_client_is_closed(server, name):
    path, options = WAITING[name]
    client = unisono.Client(base_url=server.url, **options)
    ends = []

    def call():
        try:
            ends.append(client.get(path))
        except unisono.Error as error:
            ends.append(error)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    server.wait_until(lambda: server.requests)
    client.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(ends) == 5
    ends = [end for end in ends if not isinstance(end, unisono.Response)]
    # A thread that came only after the close was refused.
    assert {type(end) for end in ends} <= {unisono.FetchCancelled, unisono.UsageError}
    server.wait_until(lambda: not clients())


def test_leaving_the_block_of_a_client_ends_the_calls_that_run(run, server):
    async def main():
        async with unisono.AsyncClient(base_url=server.url) as client:
            calls = [asyncio.ensure_future(client.get("/held")) for _ in range(5)]
            await until(server, lambda: server.in_flight == 5)
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)

    assert [type(end) for end in run(main())] == [unisono.FetchCancelled] * 5


def test_a_client_may_be_closed_from_another_loop_than_that_of_its_calls(run, server):
    client = unisono.AsyncClient(base_url=server.url)
    ends = []

    async def calls():
        ends.extend(await asyncio.gather(*(client.get("/held") for _ in range(5)), return_exceptions=True))

    thread = threading.Thread(target=lambda: run(calls()), daemon=True)
    thread.start()
    server.wait_until(lambda: server.in_flight == 5)
    run(client.aclose())
    thread.join(PATIENCE)
    assert [type(end) for end in ends] == [unisono.FetchCancelled] * 5


def test_what_a_close_leaves_of_a_request_is_said_by_its_effect(run, server):
    async def main():
        client = unisono.AsyncClient(base_url=server.url, limit=2)
        sent = asyncio.ensure_future(client.post("/held"))
        asked = asyncio.ensure_future(client.get("/held"))
        await until(server, lambda: server.in_flight == 2)
        waiting = asyncio.ensure_future(client.post("/held"))
        await asyncio.sleep(0)
        await client.aclose()
        return await asyncio.gather(sent, asked, waiting, return_exceptions=True)

    sent, asked, waiting = run(main())
    assert (type(sent), sent.outcome, sent.effect) == (unisono.FetchAmbiguousCancelled, "ambiguous", "maybe")
    assert isinstance(sent, unisono.FetchCancelled)
    assert isinstance(sent, unisono.FetchAmbiguous)
    assert (type(asked), asked.outcome, asked.effect) == (unisono.FetchCancelled, "cancelled", "maybe")
    assert (type(waiting), waiting.outcome, waiting.effect) == (unisono.FetchCancelled, "cancelled", "none")
    assert [method for method, *_ in server.requests].count("POST") == 1


def test_a_body_that_is_being_read_breaks_off_when_its_client_is_closed(run, server):
    async def main():
        client = unisono.AsyncClient(base_url=server.url)
        async with client.stream("GET", "/stream/1000000") as response:
            chunks = response.aiter_bytes()
            await anext(chunks)
            await client.aclose()
            with pytest.raises(unisono.FetchCancelled, match="the client was closed"):
                await asyncio.wait_for(_all(chunks), 20)

    run(main())


async def _all(chunks):
    return [chunk async for chunk in chunks]


def test_a_body_that_a_thread_reads_breaks_off_when_its_client_is_closed(server):
    client = unisono.Client(base_url=server.url)
    begun, ends = threading.Event(), []

    def read():
        try:
            with client.stream("GET", "/stream/1000000") as response:
                for _ in response.iter_bytes():
                    begun.set()
                    closed.wait(PATIENCE)
        except unisono.Error as error:
            ends.append(error)

    closed = threading.Event()
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert begun.wait(PATIENCE)
    client.close()
    closed.set()
    thread.join(PATIENCE)
    assert [type(end) for end in ends] == [unisono.FetchCancelled]


def test_a_stream_that_ends_with_its_client_or_its_block_says_what_may_have_become_of_its_request(run, server):
    async def main(method):
        client = unisono.AsyncClient(base_url=server.url)
        async with client.stream(method, "/stream/1000000") as left:
            pass
        with pytest.raises(unisono.FetchCancelled, match="the block of the stream was left") as of_block:
            await left.aread()
        async with client.stream(method, "/stream/1000000") as response:
            await anext(response.aiter_bytes())
            await client.aclose()
            with pytest.raises(unisono.FetchCancelled, match="the client was closed") as of_client:
                await asyncio.wait_for(response.aread(), 20)
        return [(type(error), error.outcome, error.effect) for error in (of_block.value, of_client.value)]

    assert run(main("GET")) == [(unisono.FetchCancelled, "cancelled", "maybe")] * 2
    assert run(main("POST")) == [(unisono.FetchAmbiguousCancelled, "ambiguous", "maybe")] * 2


def test_a_stream_whose_head_is_waited_for_ends_when_its_client_is_closed(run, server):
    async def main():
        client = unisono.AsyncClient(base_url=server.url)

        async def read():
            async with client.stream("GET", "/held") as response:
                return await response.aread()

        call = asyncio.ensure_future(read())
        await until(server, lambda: server.in_flight == 1)
        await client.aclose()
        with pytest.raises(unisono.FetchCancelled):
            await asyncio.wait_for(call, 20)

    run(main())


def test_the_rest_of_a_body_whose_block_was_left_is_not_its_end(run, server):
    async def main():
        async with unisono.AsyncClient(base_url=server.url) as client:
            async with client.stream("GET", "/stream/1000000") as response:
                pass
            with pytest.raises(unisono.FetchCancelled, match="the block of the stream was left"):
                await response.aread()

    run(main())
    with unisono.Client(base_url=server.url) as client:
        with client.stream("GET", "/stream/1000000") as response:
            pass
        with pytest.raises(unisono.FetchCancelled, match="the block of the stream was left"):
            response.read()


def test_calls_that_begin_after_the_close_are_refused(run, server):
    seen = []
    hooks = {"request": [seen.append]}

    async def main():
        client = unisono.AsyncClient(base_url=server.url, event_hooks=hooks)
        await client.aclose()
        await client.aclose()
        with pytest.raises(unisono.UsageError, match="the client is closed"):
            await client.get("/items/1")
        with pytest.raises(unisono.UsageError, match="the client is closed"):
            async with client.stream("GET", "/items/1"):
                pass

    run(main())
    client = unisono.Client(base_url=server.url, event_hooks=hooks)
    client.close()
    client.close()
    with pytest.raises(unisono.UsageError, match="the client is closed"):
        client.get("/items/1")
    assert (seen, server.requests) == ([], [])


def test_a_hook_may_close_its_client(run, server):
    async def main():
        client = unisono.AsyncClient(base_url=server.url)
        client.event_hooks["response"] = [lambda _: client.aclose()]
        other = asyncio.ensure_future(client.get("/held"))
        await until(server, lambda: server.in_flight == 1)
        assert (await asyncio.wait_for(client.get("/items/1"), 20)).status_code == 200
        with pytest.raises(unisono.FetchCancelled):
            await asyncio.wait_for(other, 20)

    run(main())


def test_a_close_that_is_cancelled_can_be_made_again(run, server):
    async def main():
        client = unisono.AsyncClient(base_url=server.url)
        call = asyncio.ensure_future(client.get("/held"))
        await until(server, lambda: server.in_flight == 1)
        closing = asyncio.ensure_future(client.aclose())
        closing.cancel()
        await asyncio.wait([closing])
        await client.aclose()
        with pytest.raises(unisono.FetchCancelled):
            await asyncio.wait_for(call, 20)

    run(main())


def test_a_loop_that_ends_takes_its_calls_along_and_leaves_the_client(run, server):
    client = unisono.AsyncClient(base_url=server.url, limit=1)

    async def leave():
        call = asyncio.ensure_future(client.get("/held"))
        await until(server, lambda: server.in_flight == 1)
        return call

    assert run(leave()).cancelled()

    async def main():
        return (await client.get("/items/1")).status_code

    assert run(main()) == 200
    run(client.aclose())


def test_a_client_that_nobody_has_any_more_leaves_nothing(run, server):
    gc.collect()
    gc.disable()

    async def main():
        before = descriptors()
        for _ in range(50):
            client = unisono.AsyncClient(base_url=server.url)
            gone = weakref.ref(client)
            assert (await client.get("/items/1")).status_code == 200
            del client
            assert gone() is None
            await until(server, lambda: not clients())
        # The connections of the server's side are in this process as well, and end a moment later.
        await until(server, lambda: descriptors() <= before + 3)

    try:
        run(main())
    finally:
        gc.enable()


def test_a_client_that_cannot_begin_says_why_at_once(tmp_path):
    for kind in (unisono.Client, unisono.AsyncClient):
        with pytest.raises(unisono.Error, match=r"missing\.pem"):
            kind(cacert=tmp_path / "missing.pem")


def _close_in_child(client, queue):
    client.close()
    try:
        client.get("/items/1")
    except unisono.UsageError as error:
        queue.put(str(error))


def test_a_child_of_fork_may_close_its_copy(server):
    client = unisono.Client(base_url=server.url)
    client.get("/items/1")
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()
    child = fork.Process(target=_close_in_child, args=[client, told])
    child.start()
    child.join(PATIENCE)
    assert "the client is closed" in told.get()
    assert client.get("/items/1").status_code == 200
    client.close()
