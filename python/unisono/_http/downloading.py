"""A body that becomes a file: what is asked for next, and what becomes of each answer.

What comes in lies beside the file, under its name with `.part`, until it is whole; then it gets the name in one step.
So there is never a cut file under that name. Beside the part stands what the server knows its version by
(`.part.json`): an attempt that breaks off goes on where it ended (RFC 9110, section 14), in this call or in a later
one, if the server still has that version (`If-Range`). Where it says nothing that tells versions apart, it is begun
anew.

Both clients drive it; it sends nothing itself.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import fcntl
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from unisono import _native
from unisono.errors import ConnectError, FetchError, FetchTimeout, UsageError

if TYPE_CHECKING:
    from unisono._http.streaming import AsyncStreamedResponse, StreamedResponse

__all__ = ["DownloadProgress", "Part"]

DownloadProgress: TypeAlias = bool | Callable[[int, int | None], object]


class Part:
    """The file that is not whole yet, and what is known of it."""

    def __init__(self, path: str | os.PathLike[str], url: str, *, overwrite: bool, progress: DownloadProgress) -> None:
        if not isinstance(progress, bool) and not callable(progress):
            raise UsageError(
                f"progress must be True, False or a function of what is there and of all, not {progress!r}"
            )
        self.path = Path(path)
        self._url = url
        self._overwrite = overwrite
        self._progress = _Line(self.path.name) if progress is True else progress or None
        self._part = self.path.with_name(self.path.name + ".part")
        self._note = self.path.with_name(self.path.name + ".part.json")
        self._size = 0
        self._total: int | None = None
        self._validator: str | None = None
        # The most that was there at the end of an attempt, and how many since have brought no more.
        self._most = 0
        self._in_vain = 0

    def __enter__(self) -> Self:
        if self.path.is_dir():
            raise UsageError(f"{_shown(self.path)} is a folder: name the file that the body is to become")
        self._refuse_existing()
        self._file = self._opened(self._part, "a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UsageError(f"{_shown(self._part)} is being written by another download: wait for its end") from None
        self._size = self._file.seek(0, os.SEEK_END)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_text())
            if note["address"] == _known_by(self._url):
                self._validator, self._total = str(note["validator"]), note["total"]
        if self._validator is None:
            self._begin_anew()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._part.exists() and (self._validator is None or not self._size):
            # No later call could go on with it.
            self._forget()
            self._part.unlink()
        # What the lock is for ends with it.
        self._file.close()
        if isinstance(self._progress, _Line):
            self._progress.end()

    def headers(self) -> dict[str, str]:
        """What the next request asks for."""
        # Places in a file are those of its own bytes.
        headers = {"Accept-Encoding": "identity"}
        if self._size and self._validator is not None:
            headers |= {"Range": f"bytes={self._size}-", "If-Range": self._validator}
        return headers

    def begin(self, response: StreamedResponse | AsyncStreamedResponse) -> bool:
        """Take the head of an answer.

        Returns:
            Whether its body is what is wanted; otherwise it is to be asked again, or all is there already.

        Raises:
            StatusError: The answer is no success.
        """
        headers, asked = response.headers, self._size
        if response.status_code == 416 and asked:
            total = re.fullmatch(r"bytes \*/(\d+)", headers.get("content-range", ""))
            if total is None or int(total[1]) != asked:
                self._begin_anew()
            else:
                self._total = asked
            return False
        response.raise_for_status()
        if response.status_code == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("content-range", ""))
            if found is None or int(found[1]) != asked:
                # Some other part of it: of no use, and neither is what it would be put behind.
                self._begin_anew()
                return False
            self._total = None if found[2] == "*" else int(found[2])
            return True
        self._begin_anew()
        is_as_stored = "content-encoding" not in headers
        self._validator = _validator(headers) if is_as_stored else None
        length = headers.get("content-length", "")
        self._total = int(length) if is_as_stored and length.isdigit() else None
        if self._validator is not None:
            note = {"address": _known_by(self._url), "validator": self._validator, "total": self._total}
            with self._opened(self._note, "wb") as file:
                file.write(json.dumps(note).encode())
        return True

    def write(self, chunk: bytes) -> None:
        """Put what came next."""
        self._file.write(chunk)
        self._size += len(chunk)
        if self._progress is not None:
            self._progress(self._size, self._total)

    def is_whole(self, was_wanted: bool) -> bool:
        """Whether all is there, at the end of an answer that was whole; `was_wanted` is what `begin` returned."""
        return self._size == self._total if self._total is not None else was_wanted

    def never_whole(self) -> FetchError:
        """The error for answers that are whole and never bring what is missing."""
        origin = _native.redacted(self._url)
        return FetchError(
            f"{origin} answers, but never with what is missing of the file ({self._size} bytes are there)"
        )

    def goes_on(self, error: FetchError | None, retries: int) -> float | None:
        """After how many seconds it is asked again; `None` when it is not.

        Args:
            error: What has broken off the body; `None` for an answer that was whole and not what is wanted.
            retries: How often in a row it may bring nothing.
        """
        if error is not None and not isinstance(error, ConnectError | FetchTimeout):
            return None
        self._file.flush()
        if self._size > self._most:
            self._most, self._in_vain = self._size, 0
            return 0
        self._in_vain += 1
        return None if self._in_vain > retries else min(0.1 * 2**self._in_vain, 10)

    def finish(self) -> Path:
        """Give the file its name.

        Raises:
            UsageError: A file has got that name meanwhile.
        """
        self._file.flush()
        # Before it has its name: after a crash that is a whole file, or none.
        os.fsync(self._file.fileno())
        if self._overwrite:
            self._part.replace(self.path)
        else:
            try:
                # Unlike a rename, it takes the place of nothing.
                os.link(self._part, self.path)
            except FileExistsError:
                self._refuse_existing()
                raise
            self._part.unlink()
        self._forget()
        return self.path

    @staticmethod
    def _opened(path: Path, mode: str) -> Any:
        def without_links(name: str, flags: int) -> int:
            # A link at a name that is made up here leads to a file that is not ours.
            return os.open(name, flags | os.O_NOFOLLOW, 0o666)

        try:
            return open(path, mode, opener=without_links)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UsageError(f"{_shown(path)} is a symbolic link, which is not followed: remove it") from None
            raise

    def _begin_anew(self) -> None:
        self._file.truncate(0)
        self._size, self._total, self._validator = 0, None, None
        self._forget()

    def _forget(self) -> None:
        self._note.unlink(missing_ok=True)

    def _refuse_existing(self) -> None:
        if not self._overwrite and os.path.lexists(self.path):
            raise UsageError(f"{_shown(self.path)} is there already: overwrite=True replaces it")


def _known_by(url: str) -> str:
    """What tells an address apart without saying it: there may be a password in it."""
    return hashlib.sha256(url.encode()).hexdigest()


class _Line:
    """How far it is, on one line of standard error."""

    def __init__(self, name: str) -> None:
        self._name = _native.printable(name)
        self._next = 0.0

    def __call__(self, received: int, total: int | None) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.1
            self._show(received, total)
        self._last = (received, total)

    def end(self) -> None:
        if hasattr(self, "_last"):
            self._show(*self._last)
            print(file=sys.stderr)

    def _show(self, received: int, total: int | None) -> None:
        of = f" of {total / (1 << 20):.1f}" if total is not None else ""
        print(f"\r{self._name}: {received / (1 << 20):.1f}{of} MiB", end="", file=sys.stderr, flush=True)


def _validator(headers: Any) -> str | None:
    """What tells this version from every other for certain (RFC 9110, section 8.8.1)."""
    tag = headers.get("etag", "")
    if tag:
        return None if tag.startswith("W/") else str(tag)
    changed, now = headers.get("last-modified"), headers.get("date")
    if not changed or not now:
        return None
    try:
        age = email.utils.parsedate_to_datetime(now) - email.utils.parsedate_to_datetime(changed)
    except (ValueError, TypeError):
        return None
    # Within the second it may have been changed once more (section 8.8.2.2).
    return str(changed) if age.total_seconds() >= 1 else None


def _shown(path: Path) -> str:
    return f"`{_native.printable(str(path))}`"
