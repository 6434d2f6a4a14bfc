"""A semaphore that is never released: an early return leaves its place taken.

Run: python examples/stuck/unreleased_semaphore.py
"""

import asyncio


async def fetch(places: asyncio.Semaphore, number: int) -> int | None:
    await places.acquire()  # the culprit: `async with` would give it back
    await asyncio.sleep(0.01)
    if number % 2:
        return None
    places.release()
    return number


async def main() -> None:
    places = asyncio.Semaphore(2)
    print(await asyncio.gather(*(fetch(places, number) for number in range(8))))


asyncio.run(main())
