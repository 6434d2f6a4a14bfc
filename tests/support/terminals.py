"""Programs at a terminal: a pseudo-terminal of their own, what is typed there and what it shows, and a shell with job control."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

from support.processes import PATIENCE

# Runs a job in a group of its own, tells how it stops and ends and which process had the terminal then, and continues it in the
# foreground, as every shell does. With `asked`, it continues it when a line is typed.
_SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
asked, words = sys.argv[1] == "asked", sys.argv[2:]
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(words[0], words)
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    owner = "the job's" if os.tcgetpgrp(0) == job else "elsewhere"
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        break
    print("the job stopped, the terminal was", owner, flush=True)
    if asked:
        sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
print("the job ended with", os.waitstatus_to_exitcode(status), flush=True)
print("the terminal was", owner, flush=True)
"""


def job(*words: object, asked: bool = False) -> list[str]:
    """The words that run these as the job of a shell, which continues it at once when it stops, or when a line is typed."""
    return [sys.executable, "-c", _SHELL, "asked" if asked else "at once", *map(str, words)]


class Terminal:
    """A program at a terminal of its own, and everything it was shown."""

    def __init__(
        self, *words: object, cwd: Path, env: Mapping[str, str] | None = None, columns: int | None = None
    ) -> None:
        self.text, self._seen = "", 0
        self._side, theirs = pty.openpty()
        if columns is not None:
            termios.tcsetwinsize(theirs, (24, columns))
        self.process = subprocess.Popen(
            [str(word) for word in words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=env,
            start_new_session=True,
            # Its standard input becomes what controls it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.pid = self.process.pid

    def shows(self, text: str) -> None:
        """Wait until it has been shown behind what was waited for before."""
        while (at := self.text.find(text, self._seen)) < 0:
            assert self._read(), f"{text!r} is not in {self.text[self._seen :]!r}, and the terminal is gone"
        self._seen = at + len(text)

    def types(self, text: str) -> None:
        os.write(self._side, text.encode())

    def ends(self) -> int:
        """Wait for the end of the program, and of all that have its terminal; returns its exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Hang up, which ends what still uses it."""
        os.close(self._side)
        self.process.wait(PATIENCE)

    def _read(self) -> bool:
        """Take in what is shown next; false when nothing can be shown any more."""
        ready = select.select([self._side], [], [], PATIENCE)[0]
        assert ready, f"nothing more was shown: {self.text!r}"
        try:
            piece = os.read(self._side, 1 << 16)
        except OSError:
            return False
        self.text += piece.decode(errors="replace")
        return bool(piece)
