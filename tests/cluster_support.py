"""A real Dask cluster on loopback, and what the tests over clusters have workers do and look for afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import cloudpickle

from processes import until

# Workers cannot import this.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Cluster:
    """A scheduler and workers, processes each."""

    def __init__(self, folder):
        self.folder, self.started = folder, []

    def start(self, program, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *words, "--host", "127.0.0.1"]
        log = (self.folder / f"{program}.log").open("w")
        with log:
            self.started.append(subprocess.Popen([*command, "--no-dashboard"], stdout=log, stderr=log))

    def __enter__(self):
        file = self.folder / "scheduler.json"
        self.start("scheduler", "--port", "0", "--scheduler-file", str(file))
        until(lambda: file.exists() and file.read_text().endswith("}"))
        self.tcp = json.loads(file.read_text())["address"]
        self.address = self.tcp.replace("tcp://", "dask://")
        return self

    def start_workers(self, *words):
        self.start("worker", self.tcp, "--local-directory", str(self.folder), *words)

    def start_two(self, threads):
        """Two workers with so many threads each, both there; a nanny starts one again that dies."""
        self.start_workers("--nworkers", "2", "--nthreads", str(threads))
        # Those of Ray use this file as well.
        import distributed

        with distributed.Client(self.tcp, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.terminate()
            process.wait(30)


def results(outcomes):
    return [outcome.result for outcome in outcomes]


def begun(notes):
    """How often each item was called for."""
    return Counter(path.name.partition(".")[0] for path in notes.iterdir())


def killing(notes, item):
    """A call that ends its worker the first time that it is made."""
    is_first = not list(notes.glob(f"{item}.*"))
    (notes / f"{item}.{os.getpid()}.{time.monotonic_ns()}").touch()
    if item == "deadly" and is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    return item
