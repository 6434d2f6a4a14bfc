"""What the tests of `unisono-init` share: finding it, watching it, and reading its lines."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from pathlib import Path

from support.processes import PATIENCE, children, until

ROOT = Path(__file__).parents[2]
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "small" / "unisono-init"
# Another build of it, as the static one, is tested by naming it.
INIT = Path(os.environ.get("UNISONO_INIT", BUILT)).absolute()


def namespaces_work() -> bool:
    words = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    with contextlib.suppress(OSError):
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    return False


class Supervised:
    """A running `unisono-init`; `pid` is its own, as seen from here."""

    def __init__(self, process: subprocess.Popen[str], first: bool) -> None:
        self.process, self.read = process, b""
        self.pid = until(lambda: children(process.pid), "the start of unshare's child")[0] if first else process.pid
        # A forked child is a copy until it has become another program.
        until(lambda: Path(f"/proc/{self.pid}/comm").read_text().strip() == "unisono-init", "the start of init")

    def line(self) -> str:
        """The next line of standard output; what comes after its end is an empty one."""
        deadline = time.monotonic() + PATIENCE
        output = self.process.stdout.fileno()
        while b"\n" not in self.read:
            assert select.select([output], [], [], max(0, deadline - time.monotonic()))[0], "no line came"
            piece = os.read(output, 4096)
            if not piece:
                break
            self.read += piece
        line, _, self.read = self.read.partition(b"\n")
        return line.decode()

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        """Wait for it; answers its exit code."""
        return self.process.wait(PATIENCE)

    def errors(self) -> str:
        return self.process.communicate(timeout=PATIENCE)[1]

    def runs(self) -> bool:
        return self.process.poll() is None


# Takes signals one by one, so none is lost and none ends it, and prints their numbers; ends after so many.
LISTENER = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("ready", flush=True)
for _ in range(int(sys.argv[1])):
    print(int(signal.sigwait(signal.valid_signals() - {signal.SIGCHLD})), flush=True)
"""
