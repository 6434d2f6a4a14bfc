"""A counter that eight threads share: wrong, wrong but lucky, with a lock, and with a queue.

    python examples/shared_counter.py

`count += 1` is a read, an addition and a write, and a thread may lose its turn between them. Where it may is a matter
of the interpreter. Run on CPython 3.8 and 3.9, the bare `+= 1` lost half of its updates and more; on 3.10 to 3.13 it
lost none, since these look for the end of a turn only where a function is called and where a loop begins anew. That
is luck and no promise: with a call in between, as a property or a `max()` brings it, every version lost updates. The
counts that this prints are those of this run.
"""

import sys
import threading

import unisono

THREADS, TIMES = 8, 200_000


class Counter:
    """One number, and the lock that belongs to it."""

    def __init__(self):
        self.count = 0
        self.lock = threading.Lock()

    def bare(self):
        """Wrong, though it may come out right."""
        for _ in range(TIMES):
            self.count += 1

    def with_a_call(self):
        """Wrong: the call comes between reading and writing."""
        for _ in range(TIMES):
            self.count = self.count + one()

    def locked(self):
        """Right: no other thread reads or writes meanwhile."""
        for _ in range(TIMES):
            with self.lock:
                self.count = self.count + one()


def one():
    """What to add."""
    return 1


def by_threads(work):
    """Run it in all threads, to its end."""
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def queued():
    """Right as well: one thread owns the number, the others send it what to add."""
    queue, total = unisono.Queue(maxsize=1000), []
    owner = threading.Thread(target=lambda: total.append(sum(queue)))
    owner.start()

    def send():
        # One sum for each thread is enough, and cheaper than an item for each step.
        queue.put(sum(one() for _ in range(TIMES)))

    by_threads(send)
    queue.close()
    owner.join()
    return total[0]


def counted(method):
    """What the counter says after all threads have used this method."""
    counter = Counter()
    by_threads(lambda: method(counter))
    return counter.count


def main():
    """Print what each way counts."""
    # More turns than the usual 5 ms, so that a short program shows what a long one meets.
    sys.setswitchinterval(1e-5)
    print(f"expected     {THREADS * TIMES}")
    print(f"bare         {counted(Counter.bare)}")
    print(f"with a call  {counted(Counter.with_a_call)}")
    print(f"with a lock  {counted(Counter.locked)}")
    print(f"with a queue {queued()}")


if __name__ == "__main__":
    main()
