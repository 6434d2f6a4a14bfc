"""What a run came to."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from unisono import _native
from unisono._native import Outcome
from unisono._wording import counted, seconds, size, span
from unisono.errors import Error

OutcomeT = TypeVar("OutcomeT", bound=Outcome[Any])

KINDS = ("ok", "failed", "timed_out", "ambiguous", "cancelled", "skipped")
_NOT_WELL = ("failed", "timed_out", "ambiguous", "cancelled")


class Report(Generic[OutcomeT]):
    """The account of a run: every item that was pulled is in exactly one of its counts.

    Attributes:
        ok, failed, timed_out, ambiguous, cancelled, skipped: How many ended in this way, kept ones included.
        kept: Of these, those of an earlier run, by outcome.
        passing: Of those that failed, how many the next run with `resume=True` runs again, by kind: what the absence of
            a host (`connect`, `away`) or a limit (`rate_limited`, `retry_budget`) decided, and may be repeated.
        pending: Items that have no outcome; `None` when the input did not come to its end and it is not known how many
            there are. As far as it was not read, it is taken to have the items that are kept.
        retries: Attempts beyond the first.
        bytes: Bytes of bodies as they came over the wire, or of files.
        seconds: From the start of the run to its end.
        latency: The 50th, 95th and 99th percentile, in seconds.
        errors: The most frequent errors: kind, message, count, and an example.
        first_failures: The outcomes that did not end well, in the order in which they came: the first hundred of them.
            None of an earlier run, and none where outcomes went to a file untaken (`run` and `await` with `out=`);
            `unisono.read_results` has all.
        failures: What failed outside of any item: the output, or a check that checked nothing.
        warnings: What is no failure but worth knowing.
        malformed: Lines of manifests that are no entries.
        stopped: Why the run stopped before its input was finished, if it did.
        key: What `by_key` tells apart: `host` for requests, `key` where the caller says what it is, empty for none.
        outcomes: The outcomes themselves, unless they went to a file or were iterated over.
        exit_code: What the command would exit with.

    >>> report = unisono.batch(int, ["1", "2", "x"], retries=0).run()
    >>> report.ok, report.failed, report.exit_code
    (2, 1, 1)
    """

    def __init__(
        self,
        numbers: Mapping[str, Any],
        outcomes: list[OutcomeT],
        failures: Sequence[OutcomeT] = (),
        key: str = "",
    ) -> None:
        counts = numbers["counts"]
        self.ok: int = counts["ok"]
        self.failed: int = counts["failed"]
        self.timed_out: int = counts["timed_out"]
        self.ambiguous: int = counts["ambiguous"]
        self.cancelled: int = counts["cancelled"]
        self.skipped: int = counts["skipped"]
        self.kept: dict[str, int] = numbers["kept"]
        self.passing: dict[str, int] = numbers["passing"]
        self.pending: int | None = numbers["pending"]
        self.retries: int = numbers["retries"]
        self.bytes: int = numbers["bytes"]
        self.seconds: float = numbers["seconds"]
        self.latency: tuple[float | None, float | None, float | None] = numbers["latency"]
        self.errors: list[tuple[str, str, int, str]] = numbers["errors"]
        self.failures: list[str] = numbers["failures"]
        self.warnings: list[str] = numbers["warnings"]
        self.malformed: int = numbers["malformed"]
        self.stopped: str | None = numbers["stopped"]
        self.exit_code: int = numbers["exit_code"]
        self.outcomes = outcomes
        self.key = key
        self._keys: dict[str, dict[str, Any]] = numbers["keys"]
        self.first_failures: list[OutcomeT] = list(failures)

    @property
    def total(self) -> int:
        """How many outcomes there are."""
        return sum(getattr(self, kind) for kind in KINDS)

    def raise_for_failures(self) -> None:
        """Raise what went wrong, all of it together, if anything did.

        Raises:
            ExceptionGroup: With the exceptions of the items that did not end well: the first hundred of them, and where
                no outcome was taken, one for each of the most frequent errors. Of items that an earlier run ended
                there is a count; what it raised is in the results file, as text. What failed outside of any item is
                among them: an output that was lost, a manifest without an entry.
        """
        count = sum(getattr(self, kind) for kind in _NOT_WELL)
        if count == 0 and not self.failures:
            return
        errors = [error for failure in self.first_failures if (error := getattr(failure, "error", None)) is not None]
        if not errors:
            errors = [
                Error(f"{message} ({times} times, as for {example})") for _, message, times, example in self.errors
            ]
        earlier = sum(count for kind, count in self.kept.items() if kind in _NOT_WELL)
        of_earlier = f", {earlier} of them in an earlier run" if earlier else ""
        errors += [Error(failure) for failure in self.failures]
        message = f"{count} of {self.total} items did not end well{of_earlier}"
        if count == 0:
            message = f"the run as a whole did not end well: {self.failures[0]}"
        raise BaseExceptionGroup(message, errors or [Error("see the counts, and the results that were kept")])

    def by_key(self) -> dict[str, dict[str, Any]]:
        """Counts per outcome for each key, and its `throttled_seconds` and `away_seconds`."""
        return {key: dict(counts) for key, counts in self._keys.items()}

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary per key, ready for a data frame; the key is the member that `key` names."""
        return [{self.key: key, **counts} for key, counts in self._keys.items()]

    def __bool__(self) -> bool:
        """Whether all went well."""
        return self.exit_code == 0

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(_aligned(cell, width, at) for at, (cell, width) in enumerate(zip(row, widths))) for row in rows
        ]
        lines.append(self._numbers())
        said = [f"{key}: away for {span(away)}" for key, away in self._away()]
        said += [f"{count} x {kind}: {message} (first: {example})" for kind, message, count, example in self.errors]
        if self.passing:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.passing.items())
            said.append(
                f"note: resume=True runs {kinds} again: decided by a host's absence or a limit, not by the item"
            )
        said += [f"note: {warning}" for warning in self.warnings]
        said += [f"error: {failure}" for failure in self.failures]
        # Messages are those of strangers, and this is for a terminal.
        return "\n".join(line.rstrip() for line in [*lines, *map(_native.printable, said)])

    def __repr__(self) -> str:
        counts = ", ".join(f"{kind}={getattr(self, kind)}" for kind in KINDS if getattr(self, kind))
        return f"<Report {counts or 'empty'}>"

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"

    def _numbers(self) -> str:
        parts = [f"{counted(self.total, 'outcome')} in {self.seconds:.1f} s"]
        latency = zip(("p50", "p95", "p99"), self.latency)
        named = [f"{name} {seconds(value)}" for name, value in latency if value is not None]
        parts += [" ".join(named)] if named else []
        parts += [size(self.bytes)] if self.bytes else []
        parts += [counted(self.retries, "retry", "retries")] if self.retries else []
        return " · ".join(parts)

    def _away(self) -> list[tuple[str, float]]:
        """Keys that were away, and for how many seconds."""
        return [(key, counts["away_seconds"]) for key, counts in sorted(self._keys.items()) if counts["away_seconds"]]

    def _rows(self) -> list[list[str]]:
        shown = [kind for kind in KINDS if getattr(self, kind)] or ["ok"]
        rows = [[self.key if self._keys else "", *shown]]
        rows += [
            [_native.printable(key), *(str(counts[kind]) for kind in shown)]
            for key, counts in sorted(self._keys.items())
        ]
        rows.append(["all", *(str(getattr(self, kind)) for kind in shown)])
        return rows


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)
