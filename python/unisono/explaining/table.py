"""Factors as people read them, and rows of text as columns.

No colours, no terminal width: what is printed looks the same in a log.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

__all__ = ["table", "times", "wrapped"]


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
