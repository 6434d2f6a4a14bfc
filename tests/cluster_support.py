"""A real Dask cluster on loopback, for the tests of what runs on one."""

import json
import subprocess
import sys
import time


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
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        self.tcp = json.loads(file.read_text())["address"]
        self.address = self.tcp.replace("tcp://", "dask://")
        return self

    def start_workers(self, *words):
        self.start("worker", self.tcp, "--local-directory", str(self.folder), *words)

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.terminate()
            process.wait(30)


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "what was waited for did not happen"
        time.sleep(0.005)
