"""The memory that a program takes, and not that of what measures it.

The kernel counts a process's peak from its start (`ru_maxrss`, getrusage(2)), and a process that is forked or spawned starts
with the pages of its parent: what `wait4` says of a small program that a large Python has started is the peak of that
Python (`exec_mmap` in the kernel keeps it). So a program of one megabyte stands between, which starts the one that is measured:
what the peaks of its own children began with is that megabyte. GNU time(1) does the same, and is not everywhere.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WRAPPER = r"""
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    pid_t child = vfork();
    if (child == 0) { execvp(argv[2], argv + 2); _exit(127); }
    int status;
    while (waitpid(child, &status, 0) < 0) {}
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    FILE *file = fopen(argv[1], "w");
    fprintf(file, "%ld", usage.ru_maxrss);
    fclose(file);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
"""


def peak_of(words: list[str], **options: Any) -> float:
    """Runs a program to its end; answers the peak of the largest of its processes, in MB. Options are those of `Popen`."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run([_wrapper(), file.name, *words], check=True, **options)
        return int(file.read()) * 1024 / 1e6


def _wrapper() -> str:
    """The program that stands between, made once."""
    if not _made:
        folder = tempfile.TemporaryDirectory()
        path = Path(folder.name)
        (path / "peak.c").write_text(WRAPPER)
        subprocess.run(["cc", "-O2", "-o", path / "peak", path / "peak.c"], check=True, stdout=sys.stderr)
        _made.append(folder)
    return f"{_made[0].name}/peak"


_made: list[tempfile.TemporaryDirectory[str]] = []
