"""A queue of asyncio that a thread fills: the item is there, and the loop sleeps on.

Run: python examples/stuck/wrong_loop.py
"""

import asyncio
import threading
import time


def read_sensor(queue: asyncio.Queue[float]) -> None:
    time.sleep(0.2)
    queue.put_nowait(21.5)


async def main() -> None:
    queue: asyncio.Queue[float] = asyncio.Queue()
    threading.Thread(target=read_sensor, args=[queue]).start()
    print(await queue.get())  # the culprit: what the thread puts there does not wake this loop


asyncio.run(main())
