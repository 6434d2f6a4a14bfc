"""Coroutines that hand what they compute to a pool of processes.

    python examples/hand_over_work.py

A coroutine that computes for a second is a loop that does not answer for a second. `run_in_executor` gives the work to
a worker process and the loop goes on; threads would not do, since what computes in Python holds the interpreter lock.
The pool is made once, for all requests: starting processes costs more than most of the work that they do.
"""

import asyncio
import hashlib

import unisono

ROUNDS = 100_000


def derive(password):
    """Some work for a CPU, in Python."""
    key = password.encode()
    for _ in range(ROUNDS):
        key = hashlib.sha256(key).digest()
    return key.hex()[:8]


async def answer(loop, pool, password):
    """One request: what waits is awaited here, what computes goes to the pool."""
    await asyncio.sleep(0)
    return await loop.run_in_executor(pool, derive, password)


async def main():
    """Answer some requests at once, and see that the loop was free meanwhile."""
    loop = asyncio.get_running_loop()
    beats = 0
    with unisono.ProcessPool(2) as pool:
        answers = asyncio.gather(*(answer(loop, pool, f"password {number}") for number in range(6)))
        while not answers.done():
            beats += 1
            await asyncio.sleep(0.001)
        print(*await answers)
    print("the loop was free meanwhile" if beats > 5 else f"the loop was blocked: {beats}")


if __name__ == "__main__":
    asyncio.run(main())
