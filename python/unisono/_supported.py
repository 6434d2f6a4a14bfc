"""Refuses an interpreter on which the module would be unsound, before it is loaded.

The queues, pools and callbacks of the module rely on the interpreter lock. A free-threaded CPython (PEP 703) loads
modules of its own tag only, and this says so better than its `ModuleNotFoundError`.
"""

import sys

if "t" in getattr(sys, "abiflags", ""):
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise ImportError(
        f"unisono does not support free-threaded CPython yet, and this is one ({sys.executable}): "
        f"use python{version} instead of python{version}t"
    )
