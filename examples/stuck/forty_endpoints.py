"""Forty slow requests to functions that are no coroutines: a web framework gives each a thread, and there are forty.

FastAPI and Starlette call a `def` endpoint as this one does, by anyio. Its callers are here as well, so that it is one
program.

Run: python examples/stuck/forty_endpoints.py
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
import uvicorn

release = threading.Event()


def report() -> bytes:
    release.wait()  # the culprit: a slow call, in the only threads that there are
    return b"done"


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] == "http":
        body = await anyio.to_thread.run_sync(report)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


async def call(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return await reader.read()


async def main() -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error"))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(), name="server")
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        for number in range(50):
            group.create_task(call(port), name=f"caller-{number}")


asyncio.run(main())
