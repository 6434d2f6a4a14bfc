"""`python -m unisono`: what needs Python runs here, everything else is the native command's.

The native command takes the place of this process.
"""

from __future__ import annotations

import os
import sys

from unisono._batches.display import tell
from unisono._command import folders, native
from unisono._watch import running
from unisono.explaining import shell


def main(words: list[str]) -> int:
    """Run the command that these words name; returns its exit status, if it is this process that runs it."""
    if words[:1] == ["explain"]:
        return shell.main(words[1:])
    if words[:1] == ["run"]:
        return running.main(words[1:])
    command = native()
    if command is not None:
        os.execv(command, [str(command), *words])
    tell(f"error: there is no command `unisono` in {folders()[0]}\nhint: install the package again\n")
    return 127


# Worker processes import this module under another name.
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
