# The first program of its readme.
import asyncio
import sys

import unisono


async def main(url):
    async with unisono.AsyncClient() as session:
        async with session.get(url + "/items/1") as response:
            body = response.json()
            print(response.headers["content-type"], body["name"])


asyncio.run(main(sys.argv[1]))
# prints: application/json item
