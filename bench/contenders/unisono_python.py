"""unisono from Python: `for`, `async for`, and `await client.get`, each reading a member of the JSON."""

import asyncio
import sys

import unisono


def by_for(urls: list[str], limit: int) -> int:
    return sum(outcome.ok and outcome.result.json()["id"] > 0 for outcome in unisono.fetch(urls, limit=limit))


async def by_async_for(urls: list[str], limit: int) -> int:
    ok = 0
    async for outcome in unisono.fetch(urls, limit=limit):
        ok += outcome.ok and outcome.result.json()["id"] > 0
    return ok


async def by_await(urls: list[str], limit: int) -> int:
    ok = 0
    queue = iter(urls)
    async with unisono.AsyncClient(limit=limit) as client:

        async def worker() -> None:
            nonlocal ok
            for url in queue:
                response = await client.get(url)
                ok += response.json()["id"] > 0

        await asyncio.gather(*(worker() for _ in range(limit)))
    return ok


def run() -> None:
    urls, limit, how = open(sys.argv[1]).read().split(), int(sys.argv[2]), sys.argv[3]
    if how == "for":
        print(by_for(urls, limit))
    else:
        print(asyncio.run({"async-for": by_async_for, "await": by_await}[how](urls, limit)))


run()
