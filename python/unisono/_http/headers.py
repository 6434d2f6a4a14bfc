"""Headers of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from unisono import _native


class Headers(Mapping[str, str]):
    """Headers by name, whatever its case; several of one name are joined by commas, as RFC 9110 has it.

    The `repr` shows neither cookies nor passwords in addresses; the values are as they came.

    >>> headers = Headers([("Content-Type", "text/html"), ("Link", "<a>"), ("link", "<b>")])
    >>> headers["content-type"], headers["LINK"], headers.get_list("link")
    ('text/html', '<a>, <b>', ['<a>', '<b>'])
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def __getitem__(self, name: str) -> str:
        # No header is named by anything else, as no key of a `dict` of text is.
        values = self.get_list(name) if isinstance(name, str) else []
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __repr__(self) -> str:
        shown = [(name, _native.shown_header(name, value)) for name, value in self._pairs]
        return f"Headers({shown!r})"

    def get_list(self, name: str) -> list[str]:
        """All values of a name, each as it came."""
        name = name.lower()
        return [value for known, value in self._pairs if known == name]

    def multi_items(self) -> list[tuple[str, str]]:
        """All pairs, in the order in which they came."""
        return list(self._pairs)
