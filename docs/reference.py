"""Write the Python reference as one HTML page per module, from the docstrings themselves."""

from __future__ import annotations

import contextlib
import io
import pydoc
import sys
from pathlib import Path

import unisono

MODULES = [
    "unisono",
    "unisono._batches.batch",
    "unisono._http.clients",
    "unisono.clusters",
    "unisono.commands",
    "unisono.errors",
    "unisono.explaining",
    "unisono.files",
    "unisono._pools.futures",
    "unisono._http.headers",
    "unisono._pools.pool",
    "unisono._pools.process_pool",
    "unisono._batches.report",
]


def main() -> None:
    """Write the pages into the folder that is the first argument."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODULES:
        __import__(name)
        with contextlib.redirect_stdout(io.StringIO()):
            page = pydoc.HTMLDoc().page(name, pydoc.HTMLDoc().document(sys.modules[name], name))
        (folder / f"{name}.html").write_text(page)
    print(f"the reference of unisono {unisono.__version__} is in {folder}")


main()
