"""Blocking reads from a coroutine: what they do to the event loop, and what to do instead.

    python examples/read_from_coroutine.py

A file on a network disk, a pipe or a device may keep `read` waiting, and asyncio cannot await a file. Read in the
coroutine, nothing else on the loop runs meanwhile: a heartbeat stands still. Read in a thread, the heart beats on.
The slow files are named pipes here, whose writers come late.
"""

import asyncio
import os
import tempfile
import threading
from pathlib import Path

import unisono

BEATS = 5


class Heart:
    """Counts how often its event loop was free."""

    def __init__(self):
        self.beats = 0
        self.beaten = threading.Event()

    async def beat(self):
        """Beat every millisecond."""
        while True:
            self.beats += 1
            if self.beats >= BEATS:
                self.beaten.set()
            await asyncio.sleep(0.001)


async def in_the_coroutine(paths):
    """Wrong: the loop stands still until the writers have come."""
    return [path.read_text() for path in paths]


async def in_threads(paths):
    """Right: threads wait, the loop does not."""
    outcomes = [outcome async for outcome in unisono.batch(Path.read_text, paths, executor="threads", keep_order=True)]
    return [outcome.check() for outcome in outcomes]


async def beats_during(read, paths, patience):
    """The texts, and how often the heart beat while they were read."""
    heart = Heart()
    writers = [threading.Thread(target=write_late, args=(path, heart, patience)) for path in paths]
    for writer in writers:
        writer.start()
    beating = asyncio.create_task(heart.beat())
    texts = await read(paths)
    beats = heart.beats
    beating.cancel()
    for writer in writers:
        writer.join()
    return texts, beats


def write_late(path, heart, patience):
    """Let a reader wait until the heart has beaten, or for so many seconds."""
    heart.beaten.wait(patience)
    path.write_text(path.name)


async def main():
    """Print how often the heart beat during each way."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a", "b")]
        for path in paths:
            os.mkfifo(path)
        for read, patience in ((in_the_coroutine, 0.2), (in_threads, 30)):
            texts, beats = await beats_during(read, paths, patience)
            print(f"{read.__name__}: {' '.join(texts)}, {'the heart beat' if beats >= BEATS else 'no heartbeat'}")


if __name__ == "__main__":
    asyncio.run(main())
