"""For the tests of queues: threads that cannot stop the suite, and waiting until something waits at a queue."""

import asyncio
import os
import threading
import time
from concurrent.futures import Future

import pytest

# Only against hanging: nothing here takes as long.
BOUND = 30


class Threads:
    """Runs functions in threads. They are daemons, so that one that hangs fails a test and does not stop the suite."""

    def __init__(self):
        self.started = []

    def submit(self, function, *arguments):
        future = Future()

        def body():
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self.started.append(threading.Thread(target=body, daemon=True))
        self.started[-1].start()
        return future


@pytest.fixture
def threads():
    """Starts threads; all have ended when the test does."""
    threads = Threads()
    yield threads
    for thread in threads.started:
        thread.join(BOUND)
        assert not thread.is_alive()


def run(main):
    return asyncio.run(asyncio.wait_for(main, BOUND))


def until(holds):
    """Lets others run until it holds."""
    deadline = time.monotonic() + BOUND
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


def parked(pool, queue, function, *arguments):
    """Starts a function in a thread, and returns when it waits at the queue."""
    before = sum(queue.waiting())
    future = pool.submit(function, *arguments)
    until(lambda: sum(queue.waiting()) > before)
    return future


async def waiting_task(queue, coroutine):
    """Starts a coroutine, and returns when it waits at the queue."""
    before = sum(queue.waiting())
    task = asyncio.create_task(coroutine)
    while sum(queue.waiting()) == before:
        await asyncio.sleep(0)
    return task
