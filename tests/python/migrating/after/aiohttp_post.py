# A body of JSON is sent, and the status looked at.
import asyncio
import sys

import unisono


async def main(url):
    async with unisono.AsyncClient(headers={"X-Client": "shop"}) as session:
        async with session.post(url + "/orders", json={"order": 7}) as response:
            print(response.status_code, response.ok)


asyncio.run(main(sys.argv[1]))
# prints: 201 True
