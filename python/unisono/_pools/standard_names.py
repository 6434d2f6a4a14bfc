"""The names under which the standard pools know the options of `unisono.ProcessPool`.

`ProcessPoolExecutor` says `max_workers` and `mp_context`, `multiprocessing.Pool` says `processes`, `maxtasksperchild`
and `context`. Code that was written for either runs when its import is changed, so these are taken and become our
names. An option that is given by two names is refused. `forkserver` means a fresh interpreter that forks, which is what
our zygote is.

Leaves out what a context is besides its start method: its queues and locks are the standard library's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.context import BaseContext
from typing import Any, TypedDict

from unisono.errors import UsageError


class StandardNames(TypedDict, total=False):
    """What `ProcessPool` takes besides its own options."""

    max_workers: int | None
    processes: int | None
    maxtasksperchild: int | None
    context: BaseContext | None


def translate(options: dict[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """`options` with what was given by the names of the standard pools; and as what each that was given was given.

    Args:
        options: By our own names, `None` for what was not given: `workers`, `max_tasks_per_child`, `start_method`.
        given: By the other names; `None` is the same as not given there as well.

    Raises:
        TypeError: A name is of neither.
        UsageError: An option is given by two names, or a context is none.
    """
    said_as = {ours: ours for ours, value in options.items() if value is not None}
    translated = dict(options)
    for name, value in given.items():
        if name not in _OURS:
            raise TypeError(f"ProcessPool got an unexpected keyword argument {name!r}")
        if value is None:
            continue
        ours = _OURS[name]
        if ours in said_as:
            raise UsageError(f"{name} and {said_as[ours]} are the same option; give one of them")
        said_as[ours] = name
        translated[ours] = start_method(name, value) if ours == "start_method" else value
    return translated, said_as


def start_method(name: str, context: object) -> str | None:
    """What we call the way in which processes of a `multiprocessing` context start; `None` when it has not chosen one.

    Raises:
        UsageError: It is no context.
    """
    if not isinstance(context, BaseContext):
        raise UsageError(f"{name} is what multiprocessing.get_context() answers, not {context!r}")
    method: str | None = context.get_start_method(allow_none=True)
    return "zygote" if method == "forkserver" else method


_OURS = {
    "max_workers": "workers",
    "processes": "workers",
    "maxtasksperchild": "max_tasks_per_child",
    "mp_context": "start_method",
    "context": "start_method",
}
