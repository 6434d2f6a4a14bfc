"""Real clusters of Dask and Ray on loopback, and what the tests over clusters have workers do and look for afterwards."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cloudpickle

from support.host_servers import free_port
from support.processes import until

# Before ray is imported: it would call home, and write a token into the user's home.
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")

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


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def ray_head():
    """A head of Ray with three cores: its own port, and that for clients."""
    # Short, since there are sockets within.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    head, ports = _started_head(folder)
    with head:
        try:
            yield ports
        finally:
            head.terminate()
    shutil.rmtree(folder, ignore_errors=True)


def _started_head(folder):
    """A head ends by itself when one of the ports that were free has been taken meanwhile; then others are tried."""
    for _ in range(5):
        own, clients = free_port(), free_port()
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=3"]
        command += ["--node-ip-address=127.0.0.1", f"--port={own}", f"--ray-client-server-port={clients}"]
        command += ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=80000000"]
        # Workers on any ports: by default ten thousand are theirs, of which ours may not be one.
        command += ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={folder}"]
        said = Path(folder, "said")
        with said.open("w") as log:
            head = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda head=head, port=clients: is_listening(port) or head.poll() is not None)
        if head.poll() is None:
            return head, (own, clients)
    raise AssertionError(f"Ray does not start: {said.read_text()[-2000:]}")


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
