"""Whether a worker of a cluster is fit for our calls: what runs there is our own code, and the function's pickle.

It says no to another version of unisono, since the two ends would not understand each other, and to another Python,
whose byte code pickled functions are not.
"""

from __future__ import annotations

import sys

from unisono._native import __version__
from unisono.clusters._remote import Greeting

__all__ = ["why_unfit"]


def why_unfit(name: str, greeting: object) -> str | None:
    """Why a process that answered so, such as `the worker web-1`, cannot be used; `None` when it can."""
    if isinstance(greeting, ImportError):
        return f"{name} has no unisono (`pip install unisono=={__version__}` there): {greeting}"
    if not isinstance(greeting, Greeting):
        return f"{name} did not answer as it should: {greeting!r}"
    if greeting.version != __version__:
        return f"{name} has unisono {greeting.version}, and here is {__version__}: install the same"
    if greeting.python != sys.version_info[:2]:
        theirs, ours = (".".join(map(str, version)) for version in (greeting.python, sys.version_info[:2]))
        return f"{name} runs Python {theirs}, and here is {ours}: run the same"
    return None
