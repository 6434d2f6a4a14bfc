"""ry, the fastest Python client we know: one await per request."""

import asyncio
import sys

import ry


async def main(urls: list[str], limit: int) -> int:
    ok = 0
    queue = iter(urls)
    client = ry.Client()

    async def worker() -> None:
        nonlocal ok
        for url in queue:
            response = await client.get(url)
            (await response.json())["id"]
            ok += response.status == 200

    await asyncio.gather(*(worker() for _ in range(limit)))
    return ok


print(asyncio.run(main(open(sys.argv[1]).read().split(), int(sys.argv[2]))))
