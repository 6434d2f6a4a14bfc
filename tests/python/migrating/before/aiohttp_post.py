# A body of JSON is sent, and the status looked at.
import asyncio
import sys

import aiohttp


async def main(url):
    async with aiohttp.ClientSession(headers={"X-Client": "shop"}) as session:
        async with session.post(url + "/orders", json={"order": 7}) as response:
            print(response.status, response.ok)


asyncio.run(main(sys.argv[1]))
# prints: 201 True
