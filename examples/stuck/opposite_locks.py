"""Two locks that are taken in opposite order.

Run: python examples/stuck/opposite_locks.py
"""

import asyncio


class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance
        self.lock = asyncio.Lock()


async def transfer(source: Account, target: Account, amount: int) -> None:
    async with source.lock:
        await asyncio.sleep(0.01)
        async with target.lock:  # the culprit: the other transfer has it, and waits for ours
            source.balance -= amount
            target.balance += amount


async def main() -> None:
    ann, bob = Account(100), Account(100)
    async with asyncio.TaskGroup() as group:
        group.create_task(transfer(ann, bob, 10), name="ann-to-bob")
        group.create_task(transfer(bob, ann, 20), name="bob-to-ann")


asyncio.run(main())
