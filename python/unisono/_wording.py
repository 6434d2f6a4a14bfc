"""Times, sizes and counts as people read them.

Three digits are what a reader takes in; a reader who wants more has the number itself.
"""

from __future__ import annotations

__all__ = ["counted", "seconds", "size", "span"]


def seconds(value: float) -> str:
    """A time with the unit that suits it.

    >>> seconds(0.0123)
    '12.3 ms'
    """
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def span(value: float) -> str:
    """A time in seconds that is waited for, in no more detail than that needs.

    >>> span(9.7), span(125), span(7265)
    ('9s', '2m5s', '2h1m')
    """
    minutes, left = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


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


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "thread"), counted(2, "thread"), counted(2, "process", "processes")
    ('1 thread', '2 threads', '2 processes')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"
