"""Numbers as people read them, and rows of text as columns.

No colours, no terminal width: what is printed looks the same in a log.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

__all__ = ["counted", "seconds", "size", "table", "times", "wrapped"]


def seconds(value: float) -> str:
    """A time with the unit that suits it.

    >>> seconds(0.0123)
    '12.3 ms'
    """
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def size(value: int) -> str:
    """A number of bytes with the unit that suits it.

    >>> size(1536)
    '1.5 KiB'
    """
    if value < 1024:
        return f"{value} B"
    scaled = float(value)
    for unit in ("KiB", "MiB"):
        scaled /= 1024
        if scaled < 1024:
            return f"{scaled:.1f} {unit}"
    return f"{scaled / 1024:.1f} GiB"


def times(value: float) -> str:
    """A factor with as many digits as it deserves.

    >>> times(27.94), times(1.86), times(0.123)
    ('28', '1.9', '0.12')
    """
    if value >= 9.95:
        return f"{value:.0f}"
    if value < 0.01:
        return "<0.01"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "thread"), counted(2, "thread"), counted(2, "process", "processes")
    ('1 thread', '2 threads', '2 processes')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines with columns; the last cell of a row may be longer than its column."""
    widths: dict[int, int] = {}
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths.get(column, 0), len(cell))
    lines = ["  ".join(cell.ljust(widths.get(column, 0)) for column, cell in enumerate(row)).rstrip() for row in rows]
    return "\n".join(lines)


def wrapped(sentence: str) -> str:
    """A sentence as an entry of a list."""
    return textwrap.fill(sentence, 110, initial_indent="- ", subsequent_indent="  ", break_long_words=False)
