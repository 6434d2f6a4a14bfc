"""Jobs in threads that wait for jobs in threads: all threads wait, and none is left for what they wait for.

Run: python examples/stuck/busy_threads.py
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor


def resize(picture: int) -> int:
    return picture // 2


def thumbnail(picture: int, loop: asyncio.AbstractEventLoop) -> int:
    half = asyncio.run_coroutine_threadsafe(asyncio.to_thread(resize, picture), loop)
    return half.result()  # the culprit: it keeps its thread until another one is free


async def main() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(4))
    print(await asyncio.gather(*(asyncio.to_thread(thumbnail, picture, loop) for picture in range(12))))


asyncio.run(main())
