"""A pipeline that ends by closing its queue, and the one with sentinels that hangs.

    python examples/pipeline.py

With sentinels each producer puts a `None` at its end and each consumer stops at the first it gets. That holds as long
as there are as many of one as of the other: here two producers feed three consumers, and the third waits for ever. A
queue that is closed ends every consumer, however many there are, and after it has given out all that is in it.
"""

import queue
import threading

import unisono

PRODUCERS, CONSUMERS, EACH = 2, 3, 100


def with_sentinels():
    """Answers how many consumers still wait when all is done."""
    items, stopped = queue.Queue(), []

    def produce():
        for number in range(EACH):
            items.put(number)
        items.put(None)

    def consume():
        while items.get() is not None:
            items.task_done()
        stopped.append(threading.current_thread())
        items.task_done()

    # Daemons, or this program would never end: the threading module waits for all others.
    consumers = [threading.Thread(target=consume, daemon=True) for _ in range(CONSUMERS)]
    run(produce, consumers)
    # Everything that was put has been taken; what has not stopped by now waits for what never comes.
    items.join()
    return CONSUMERS - len(stopped)


def with_closing():
    """Answers what the consumers added up, after all of them have ended."""
    items, sums = unisono.Queue(maxsize=10), unisono.Queue()

    def produce():
        for number in range(EACH):
            # Waits when the consumers do not keep up, so memory stays small.
            items.put(number)

    def consume():
        sums.put(sum(items))

    consumers = [threading.Thread(target=consume) for _ in range(CONSUMERS)]
    run(produce, consumers)
    items.close()
    for consumer in consumers:
        consumer.join()
    sums.close()
    return sum(sums)


def run(produce, consumers):
    """Start all, and wait until the producers have ended."""
    producers = [threading.Thread(target=produce) for _ in range(PRODUCERS)]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join()


def main():
    """Print how both end."""
    print(f"sentinels: {with_sentinels()} of {CONSUMERS} consumers wait for ever")
    print(f"closing: all consumers have ended, the sum is {with_closing()}")


if __name__ == "__main__":
    main()
