"""Threads that are joined with a limit, and what becomes of daemon threads when the program ends.

    python examples/join_with_limit.py

`join(timeout=...)` returns in either case and raises nothing: whether the thread has ended is what `is_alive` says. A
thread cannot be stopped from outside, so a stop is something that it is asked for and looks at. Daemon threads are
left where they stand when the program ends: their `finally` and `with` blocks do not run, and what they were writing
stays half written. So a daemon is right only for what will not be missed.
"""

import sys
import threading
from pathlib import Path


class Worker(threading.Thread):
    """Works in small steps, and looks after each whether it shall stop."""

    def __init__(self, hears):
        super().__init__(name="that hears" if hears else "that is deaf", daemon=not hears)
        self.stop = threading.Event()
        self.begun = threading.Event()
        self.hears = hears

    def run(self):
        self.begun.set()
        if self.hears:
            self.stop.wait()
        else:
            # As a call that has no timeout would.
            threading.Event().wait()


def end(worker, limit):
    """Ask it to stop, and say whether it did within `limit` seconds."""
    worker.stop.set()
    worker.join(timeout=limit)
    return "still runs" if worker.is_alive() else "has ended"


def write(path, begun):
    """Begins a file that it never finishes."""
    try:
        with path.open("w") as file:
            file.write("begun, ")
            file.flush()
            begun.set()
            threading.Event().wait()
    finally:
        path.with_suffix(".cleaned").touch()


def main(folder):
    """Print how the workers end, and leave a daemon behind."""
    for worker, limit in ((Worker(hears=True), 10), (Worker(hears=False), 0.1)):
        worker.start()
        worker.begun.wait()
        print(f"the thread {worker.name}: {end(worker, limit)}")
    begun = threading.Event()
    threading.Thread(target=write, args=(folder / "report.txt", begun), daemon=True).start()
    begun.wait()
    print("the program ends while a daemon thread writes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/join_with_limit.py FOLDER")
    main(Path(sys.argv[1]))
