"""On every event loop there is: asyncio's own, and uvloop."""

import asyncio

import pytest
import uvloop

import unisono

RUNS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture(params=RUNS)
def run(request):
    return RUNS[request.param]


def test_a_batch_is_iterated_over(run, server):
    async def main():
        return [outcome.row async for outcome in unisono.fetch(f"{server.url}/items/{n}" for n in range(400))]

    assert sorted(run(main())) == list(range(400))


def test_a_batch_is_awaited(run, server):
    async def main():
        return await unisono.fetch([f"{server.url}/items/{n}" for n in range(50)])

    assert run(main()).ok == 50


def test_a_client_gathers_and_streams(run, server):
    async def main():
        async with unisono.AsyncClient(base_url=server.url) as client:
            responses = await asyncio.gather(*(client.get(f"/items/{n}") for n in range(100)))
            async with client.stream("GET", "/stream/100") as response:
                lines = [line async for line in response.aiter_lines()]
            return len(responses), len(lines)

    assert run(main()) == (100, 100)


def test_two_batches_at_once_do_not_mix(run, server):
    async def take(start):
        batch = unisono.fetch(f"{server.url}/items/{n}" for n in range(start, start + 100))
        return {outcome.result.json()["id"] async for outcome in batch}

    async def main():
        return await asyncio.gather(take(0), take(1000))

    assert run(main()) == [set(range(100)), set(range(1000, 1100))]


def test_cancelling_the_task_stops_the_batch(run, server):
    async def main():
        async def consume():
            async with unisono.fetch((f"{server.url}/held/{n}" for n in range(1000)), limit=3, grace=0) as batch:
                async for _ in batch:
                    pass

        task = asyncio.ensure_future(consume())
        while len(server.requests) < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert len(server.requests) == 3


def test_a_loop_may_end_with_a_batch_under_way(run, server):
    async def main():
        batch = unisono.fetch(f"{server.url}/items/{n}" for n in range(100_000))
        await anext(aiter(batch))
        return batch

    run(main()).close()
