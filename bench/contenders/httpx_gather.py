"""httpx with as many workers as requests in flight."""

import asyncio
import sys

import httpx


async def main(urls: list[str], limit: int) -> int:
    ok = 0
    queue = iter(urls)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=limit)) as client:

        async def worker() -> None:
            nonlocal ok
            for url in queue:
                response = await client.get(url)
                response.json()["id"]
                ok += response.status_code == 200

        await asyncio.gather(*(worker() for _ in range(limit)))
    return ok


print(asyncio.run(main(open(sys.argv[1]).read().split(), int(sys.argv[2]))))
