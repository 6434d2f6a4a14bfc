# A scan of many hosts: so many at once, and what fails is no end of it.
import asyncio
import sys

import unisono

PATHS = [f"/items/{number}" for number in range(30)] + ["/status/500", "/missing"]


async def check(session, slots, path):
    async with slots:
        async with session.get(path) as response:
            return response.status_code


async def main(url):
    slots = asyncio.Semaphore(10)
    async with unisono.AsyncClient(base_url=url) as session:
        found = await asyncio.gather(*(check(session, slots, path) for path in PATHS), return_exceptions=True)
    print({status: found.count(status) for status in sorted(set(found))})


asyncio.run(main(sys.argv[1]))
# prints: {200: 30, 404: 1, 500: 1}
