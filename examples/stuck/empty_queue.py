"""A queue that nobody fills any more: the workers were never told that there is nothing left.

Run: python examples/stuck/empty_queue.py
"""

import asyncio


async def worker(queue: asyncio.Queue[int], squares: list[int]) -> None:
    while True:
        number = await queue.get()  # the culprit: nothing ends this loop
        squares.append(number * number)


async def main() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    squares: list[int] = []
    workers = [asyncio.create_task(worker(queue, squares), name=f"worker-{number}") for number in range(3)]
    for number in range(10):
        await queue.put(number)
    await asyncio.gather(*workers)
    print(sum(squares))


asyncio.run(main())
