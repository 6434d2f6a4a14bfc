"""A coroutine that is never awaited: what it would have done is not done.

Run: python examples/stuck/never_awaited.py
"""

import asyncio


async def warm_up(ready: asyncio.Event) -> None:
    await asyncio.sleep(0.01)
    ready.set()


async def main() -> None:
    ready = asyncio.Event()
    warm_up(ready)  # type: ignore[unused-coroutine]  # the culprit: `await` is missing
    await ready.wait()
    print("warm")


asyncio.run(main())
