"""A lock that is held over an await which never ends: all others wait for it.

Run: python examples/stuck/held_lock.py
"""

import asyncio


class Connection:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.replies: asyncio.Queue[str] = asyncio.Queue()

    async def ask(self, question: str) -> str:
        async with self.lock:
            return await self.reply()

    async def reply(self) -> str:
        return await self.replies.get()  # the culprit: nothing puts a reply there


async def main() -> None:
    connection = Connection()
    print(await asyncio.gather(*(connection.ask(f"question {number}") for number in range(5))))


asyncio.run(main())
