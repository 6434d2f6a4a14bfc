"""Files, many at once: digests of trees, their verification, and walks.

The words, defaults and outcomes are those of the command `unisono sum`. Files are read by native threads, several at
once on each core; nothing here holds the interpreter's lock while it reads or walks.

A path is text, bytes or an `os.PathLike`. Names that are not UTF-8 come back as Python has them everywhere, with
surrogates; `os.fsencode` makes bytes of them.

Left out: calling a function of Python for each file, which is for worker pools.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar, Unpack

from unisono import _native
from unisono._batches.batch import Batch, BatchWork
from unisono._batches.display import Progress
from unisono._batches.given import many, refuse_own_output
from unisono._functions.batch import batch
from unisono._keywords import told
from unisono._native import FileOutcome, Found, FunctionOutcome
from unisono._options import AnyPath, FileCallOptions, FileOptions, VerifyOptions, WalkOptions

ResultT = TypeVar("ResultT")

__all__ = ["Found", "digest", "each", "verify", "walk"]


@told("files.digest", FileOptions)
def digest(
    paths: AnyPath | Iterable[AnyPath] | AsyncIterable[AnyPath],
    *,
    progress: Progress = False,
    **options: Unpack[FileOptions],
) -> Batch[FileOutcome]:
    """Digest many files; one outcome per file, as each is done.

    A file that cannot be read is an outcome, not an exception: one bad file never hides the rest. What is no regular
    file is `skipped` where it is found in a folder, and so is the results file of the run. A FIFO or block device that
    is named is read to its end, and a FIFO is waited for; any other is `failed`. Paths are pulled lazily, and folders
    are walked by the engine, as far ahead as it needs.

    Args:
        paths: Files, and folders, which stand for all that is in them; the outcome's `item` is what was given here.
        progress: `True` shows a line on standard error; a callable gets the numbers.
        **options: As on the command line.

    Raises:
        UsageError: When an option is not what it should be.

    >>> batch = digest([folder], glob="*.txt")
    >>> for outcome in batch:
    ...     print(outcome.path.name, outcome.result.size, outcome.result.hex[:16])
    a.txt 2 87428fc522803d31
    >>> batch.report.ok
    1
    >>> digest(folder / "a.txt", algorithms=["md5", "crc32c"]).run().outcomes[0].result.digests
    {'md5': '60b725f10c9c85c70d97880dfe8191b3', 'crc32c': '09bde29b'}
    """
    return Batch(_DIGEST, _several(paths), progress=progress, options=options)


@told("files.each", FileCallOptions)
def each(
    function: Callable[[Path], ResultT],
    paths: AnyPath | Iterable[AnyPath],
    *,
    executor: str | Executor | None = None,
    progress: Progress = False,
    **options: Unpack[FileCallOptions],
) -> Batch[FunctionOutcome[ResultT]]:
    r"""Call a function of yours with the path of each file; one outcome per file, as each is done.

    What is no regular file is passed over where it is found in a folder; what is named is given to the function. A
    folder that cannot be read is given to the function as it is, so that whatever comes of that is an outcome.

    Args:
        function: A plain function or a coroutine function, as for `unisono.batch`.
        paths: Files, and folders, which stand for all that is in them; pulled lazily.
        executor: `"threads"` (the default), `"processes"` for what keeps a core busy, or any executor.
        progress: `True` shows a line on standard error; a callable gets the numbers.
        **options: Those of `walk`, and those of `unisono.batch`.

    Raises:
        UsageError: When an option is not what it should be.

    >>> def count_lines(path):
    ...     return path.read_text().count("\n")
    >>> [(outcome.item.name, outcome.result) for outcome in each(count_lines, folder, glob="*.txt")]
    [('a.txt', 1)]
    """
    given: dict[str, Any] = dict(options)
    # Before anything of it is pulled, which is only when the batch runs.
    paths = many(_several(paths), "paths")
    refuse_own_output(paths, "paths", (), given)
    walked: Any = {name: given.pop(name) for name in WalkOptions.__annotations__ if name in given}
    found = (found.path for found in _walk_named(paths, **walked))
    # Which of its two kinds the function is does not matter here.
    call: Any = batch
    made: Batch[FunctionOutcome[ResultT]] = call(function, found, executor=executor, progress=progress, **given)
    return made


@told("files.verify", VerifyOptions)
def verify(
    manifests: AnyPath | Iterable[AnyPath],
    *,
    extra: AnyPath | Iterable[AnyPath] = (),
    progress: Progress = False,
    **options: Unpack[VerifyOptions],
) -> Batch[FileOutcome]:
    r"""Check the files of manifests; one outcome per entry, as each is done.

    Manifests are those of sha256sum and its like, with `--tag` or without, of b3sum and hashdeep, and results files of
    ours. `report.malformed` counts the lines that are none of these. A manifest without an entry is a failure of the
    whole: `report.failures` says so, and `report.raise_for_failures()` raises it.

    Args:
        manifests: Their paths.
        extra: Folders in which each file should be in a manifest; one that is not has an outcome of its own.
        progress: `True` shows a line on standard error; a callable gets the numbers.
        **options: As on the command line.

    Raises:
        UsageError: When an option is not what it should be; as the batch starts, when a manifest cannot be read.

    >>> manifest = folder / "SHA256SUMS"
    >>> digests = [f"{outcome.result.hex}  {outcome.path}\n" for outcome in digest(folder, glob="*.txt")]
    >>> _ = manifest.write_text("".join(digests))
    >>> report = verify(manifest, extra=folder, exclude="SHA256SUMS", keep_order=True).run()
    >>> [(outcome.path.name, outcome.kind) for outcome in report.outcomes]
    [('a.txt', 'ok'), ('b.bin', 'failed')]
    >>> report.outcomes[1].error
    FileUnlisted('.../b.bin: it is in no manifest')
    """
    reads = tuple(many(_several(manifests), "manifests"))
    folders = list(many(_several(extra), "extra"))
    start = functools.partial(_native.verify, list(reads), extra=folders)
    check = functools.partial(_native.check_verify, extra=folders)
    work = BatchWork(
        start=start, check=check, noun="manifests", counted=False, limit=_THREADS, reads=reads, logger=_LOGGER
    )
    return Batch(work, (), progress=progress, options=options)


@told("files.walk", WalkOptions)
def walk(paths: AnyPath | Iterable[AnyPath], **options: Unpack[WalkOptions]) -> Iterator[Found]:
    """Tell what is in folders, by name, and what cannot be looked at.

    What is found can be given where a path can. A plain iterator: nothing of it is run, retried or resumed.

    Args:
        paths: Files, which stand for themselves, and folders; pulled lazily.
        **options: As on the command line.

    Raises:
        UsageError: When an option is not what it should be.

    >>> [(found.path.name, found.kind) for found in walk(folder, glob=["*.txt", "*.bin"])]
    [('a.txt', 'file'), ('b.bin', 'file')]
    """
    return _native.Walk(many(_several(paths), "paths"), **options)


def _walk_named(paths: AnyPath | Iterable[AnyPath], **walked: Unpack[WalkOptions]) -> Iterator[Found]:
    """Files, what cannot be looked at, and of all else what was named."""
    # Options are looked at now, and not with the first item that is pulled.
    walk((), **walked)

    def given() -> Iterator[Found]:
        for path in _several(paths):
            for found in walk(path, **walked):
                is_named = not isinstance(path, Found) and os.fsencode(found) == os.fsencode(path)
                if found.kind in ("file", "unreadable") or is_named:
                    yield found

    return given()


_Paths = TypeVar("_Paths")


def _several(paths: AnyPath | _Paths) -> list[AnyPath] | _Paths:
    """A path stands for itself, though text could be iterated over."""
    return [paths] if isinstance(paths, str | bytes | os.PathLike) else paths


_THREADS = _native.default_threads()
_LOGGER = logging.getLogger("unisono.files")
_DIGEST = BatchWork(
    start=_native.digest, check=_native.check_digest, noun="paths", counted=False, limit=_THREADS, logger=_LOGGER
)
