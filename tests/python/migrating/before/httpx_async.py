# Several calls at once on an event loop.
import asyncio
import sys

import httpx


async def main(url):
    async with httpx.AsyncClient(base_url=url) as client:
        responses = await asyncio.gather(*(client.get(f"/items/{number}") for number in range(3)))
        print([response.json()["id"] for response in responses])


asyncio.run(main(sys.argv[1]))
# prints: [0, 1, 2]
