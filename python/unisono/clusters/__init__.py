"""Beyond one machine: the workers of a Dask or Ray cluster as an executor of `unisono.batch`.

An address names a cluster (`dask://host:port`, `ray://host:port`), and so do the objects that a program has of one: a
`distributed.Client` or cluster, or `"ray"` for the connection that `ray.init` made. Outcomes, retries, limits, results
files and resume are the batch's, as everywhere; a cluster only makes the calls, each at most once.

The engines are imported when one is asked for: they take a second, and are extras (`pip install unisono[dask]`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from unisono._keywords import told
from unisono._native import redacted, seconds, whole
from unisono.errors import UsageError

if TYPE_CHECKING:
    from unisono.clusters._cluster import Cluster, Inbox
    from unisono.clusters._executor import ClusterExecutor

__all__ = ["connect", "engine_of", "for_fetching", "withdrawn"]

Connect: TypeAlias = "Callable[[Inbox], Cluster]"


def engine_of(executor: object) -> str | None:
    """Which engine an executor belongs to: `dask`, `ray`, or `None` for one that is not beyond this machine.

    Raises:
        UsageError: When it looks like an address, and is none.

    >>> engine_of("dask://scheduler:8786"), engine_of("ray://head:10001"), engine_of("threads")
    ('dask', 'ray', None)
    """
    if isinstance(executor, str):
        if executor == "ray":
            return "ray"
        scheme = executor.partition("://")[0]
        if scheme == executor or scheme not in ("dask", "ray"):
            return None
        if not _ADDRESS.fullmatch(executor):
            raise UsageError(f'executor: "{redacted(executor)}" is no address: expected {scheme}://host:port')
        return scheme
    ours = sys.modules.get("unisono.clusters._executor")
    if ours is not None and isinstance(executor, ours.ClusterExecutor):
        return str(executor.kind)
    # A program that has an object of Dask has imported it; no other pays for that.
    if "distributed" in sys.modules and _dask().address_of(executor) is not None:
        return "dask"
    return None


@told("clusters.connect")
def connect(to: object, *, limit: int | None = None, wait: float = 30.0) -> ClusterExecutor:
    """Join a cluster; returns an executor for as many batches as are wanted. Leave it with `with` or `shutdown`.

    Args:
        to: `"dask://host:port"`, `"ray://host:port"`, `"ray"`, a `distributed.Client` or a cluster of Dask.
        limit: Most actors on Ray, each of which takes a core; as many as there are cores by default.
        wait: How long to wait for a first worker, in seconds.

    Raises:
        UsageError: When `to` names no cluster, its package is not installed, or its workers are not fit.
        RunError: When it cannot be reached, or has no worker.

    >>> connect("dask://scheduler")
    Traceback (most recent call last):
      ...
    unisono.errors.UsageError: executor: "dask://scheduler" is no address: expected dask://host:port
    """
    return _connect(to, limit, wait, once_per_machine=False)


def for_fetching(on: object) -> tuple[ClusterExecutor, bool]:
    """What sends requests on a cluster's machines, for the option `on`; and whether it was joined for that.

    On Ray it is one actor per machine, since one keeps thousands of requests going.

    Raises:
        UsageError: When `on` names no cluster, its package is not installed, or its workers are not fit.
        RunError: When it cannot be reached, or has no worker.
    """
    ours = sys.modules.get("unisono.clusters._executor")
    if ours is not None and isinstance(on, ours.ClusterExecutor):
        return on, False
    try:
        return _connect(on, None, _LONGEST_WAIT, once_per_machine=True), True
    except UsageError as error:
        # It is joined for this option here, whatever it is called elsewhere.
        raise UsageError(f"on: {str(error).removeprefix('executor: ')}") from error.__cause__


def withdrawn(futures: Iterable[Future[Any]]) -> set[Future[Any]]:
    """Take back what clusters were given and have not begun; returns which of these they were given."""
    ours = sys.modules.get("unisono.clusters._executor")
    return set() if ours is None else ours.withdraw(futures)


def _connect(to: object, limit: int | None, wait: float, *, once_per_machine: bool) -> ClusterExecutor:
    if limit is not None:
        whole("limit", limit)
    wait = seconds("wait", wait)
    engine = engine_of(to)
    if engine is None:
        given = repr(redacted(to)) if isinstance(to, str) else repr(to)
        raise UsageError(f"executor: expected dask://host:port, ray://host:port or a Client, not {given}")
    joins = _to_dask(to) if engine == "dask" else _to_ray(to, limit, once_per_machine)
    # It needs cloudpickle, which comes with the extras.
    from unisono.clusters._executor import ClusterExecutor

    executor = ClusterExecutor(joins)
    try:
        executor.wait_for_workers(wait)
    except BaseException:
        executor.shutdown(cancel_futures=True)
        raise
    return executor


def _to_dask(to: object) -> Connect:
    dask = _dask()
    if isinstance(to, str):
        address, security = to.replace("dask://", "tcp://", 1), None
    else:
        address, security = dask.address_of(to)
    return lambda inbox: dask.DaskCluster(address, security, inbox)


def _to_ray(to: object, limit: int | None, once_per_machine: bool) -> Connect:
    ray = _imported("ray")
    address = None if to == "ray" else to
    return lambda inbox: ray.RayCluster(address, limit, inbox, once_per_machine=once_per_machine)


def _dask() -> Any:
    return _imported("dask")


def _imported(engine: str) -> Any:
    try:
        return import_module(f"unisono.clusters.{engine}")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("unisono"):
            raise
        raise UsageError(f"executor: {engine} is not installed: `pip install unisono[{engine}]`") from error


_ADDRESS = re.compile(r"(dask|ray)://(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+):[0-9]{1,5}/?")
# As `connect`.
_LONGEST_WAIT = 30.0
