"""An exception lost in `gather`: the consumer has failed, and the producer waits for it for ever.

Run: python examples/stuck/lost_exception.py
"""

import asyncio


async def produce(queue: asyncio.Queue[str]) -> None:
    for row in ["1", "2", "three", "4", "5", "6"]:
        await queue.put(row)


async def consume(queue: asyncio.Queue[str]) -> None:
    total = 0
    while True:
        total += int(await queue.get())  # the culprit: a row that is no number


async def main() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
    await asyncio.gather(produce(queue), consume(queue), return_exceptions=True)


asyncio.run(main())
