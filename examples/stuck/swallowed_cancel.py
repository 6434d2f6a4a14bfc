"""A task that was cancelled, swallows it, and goes on.

Run: python examples/stuck/swallowed_cancel.py
"""

import asyncio


async def poll(wanted: asyncio.Event) -> None:
    while True:
        try:
            await wanted.wait()  # the culprit: `except BaseException` takes the cancellation for an error
            wanted.clear()
        except BaseException as error:
            print("trying again after", type(error).__name__)


async def main() -> None:
    wanted = asyncio.Event()
    task = asyncio.create_task(poll(wanted), name="poll")
    await asyncio.sleep(0.01)
    task.cancel()
    await task


asyncio.run(main())
