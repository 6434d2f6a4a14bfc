"""A child of a `TaskGroup` that hangs: it reads from a server that has nothing to say.

Run: python examples/stuck/hanging_child.py
"""

import asyncio


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def profile(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"profile of user 7\n")
    return await reader.readline()  # the culprit: without a time limit


async def settings() -> str:
    await asyncio.sleep(0.01)
    return "dark"


async def main() -> None:
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.TaskGroup() as group:
        group.create_task(settings(), name="settings")
        group.create_task(profile(port), name="profile")


asyncio.run(main())
