# The first program of its readme.
import asyncio
import sys

import aiohttp


async def main(url):
    async with aiohttp.ClientSession() as session:
        async with session.get(url + "/items/1") as response:
            body = await response.json()
            print(response.headers["content-type"], body["name"])


asyncio.run(main(sys.argv[1]))
# prints: application/json item
