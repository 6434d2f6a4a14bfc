"""aiohttp, as its documentation shows it: one session, a semaphore by the connector's limit."""

import asyncio
import sys

import aiohttp


async def main(urls: list[str], limit: int) -> int:
    ok = 0
    queue = iter(urls)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit)) as session:

        async def worker() -> None:
            nonlocal ok
            for url in queue:
                async with session.get(url) as response:
                    (await response.json())["id"]
                    ok += response.status == 200

        await asyncio.gather(*(worker() for _ in range(limit)))
    return ok


def run() -> None:
    urls = open(sys.argv[1]).read().split()
    limit = int(sys.argv[2])
    if len(sys.argv) > 3:
        import uvloop

        print(uvloop.run(main(urls, limit)))
    else:
        print(asyncio.run(main(urls, limit)))


run()
