"""What tells an item of a batch apart from others: a typed encoding of its value, the same in every process.

A results file is resumed by other processes, on other days, perhaps by a newer Python. So an item is known again by its
value alone: nothing here depends on where an object lies, on the order of a set, or on how a pickle happens to be
written. The rules:

- The type counts. `(1,)` is not `[1]`, `{1: "x"}` is not `{"1": "x"}`, `1` is none of `True`, `1.0` and `"1"`, and a
  path is not its text. So does what a function could see in the value: `0.0` is not `-0.0`, `Decimal("1.0")` is not
  `Decimal("1.00")`, and one moment in two time zones is two.
- The order of a dictionary and of a set does not count, since they are equal without it.
- A class of the program's counts by its module and its name: named tuples, enumerations, and data classes, whose fields
  count that are compared.
- Whatever else is given has no value that is known to stay the same, and is refused: objects, functions, open files.
  `id=` says what such an item is called.

Every part begins with its type and its length, so that no two values have the same encoding. `VERSION` is written into
results files; a change of an encoding counts it up, in `functions/mod.rs`.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import hashlib
import math
import pathlib
import struct
import uuid
from collections.abc import Callable
from typing import Any

from unisono.errors import UsageError

__all__ = ["encoded", "fingerprint"]


def fingerprint(name: str, identity: bytes) -> int:
    """What is done with an item and what the item is, in 64 bits.

    >>> fingerprint("work", encoded(1)) == fingerprint("work", encoded(True))
    False
    """
    digest = hashlib.blake2b(_part(b"f", name.encode("utf-8", "surrogatepass")) + identity, digest_size=8).digest()
    return int.from_bytes(digest, "little")


def encoded(value: Any) -> bytes:
    """The value as bytes that are the same for equal values of equal types, and for no others.

    Raises:
        UsageError: When it is, or has within, what has no value that stays the same.

    >>> encoded({"a": (1, 2.0)}) == encoded({"a": (1, 2.0)})
    True
    >>> encoded(print)
    Traceback (most recent call last):
    unisono.errors.UsageError: nothing tells the item apart from others in every run: it has a \
`builtin_function_or_method`, which has no value that stays the same; give id=
    """
    try:
        return _encoded(value)
    except RecursionError:
        raise UsageError("the item is nested too deeply to be told apart from others: give id=") from None


def _encoded(value: Any) -> bytes:
    encode = _EXACT.get(type(value))
    return encode(value) if encode is not None else _of_class(value)


def _part(tag: bytes, content: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(content), content)


def _parts(tag: bytes, parts: list[bytes]) -> bytes:
    return _part(tag, b"".join(parts))


def _text(value: str) -> bytes:
    return _part(b"s", value.encode("utf-8", "surrogatepass"))


def _integer(value: int) -> bytes:
    # Not as digits, of which Python writes no more than some thousands.
    return _part(b"i", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _float(value: float) -> bytes:
    # There is one nan: how it came about says nothing.
    return b"d" + struct.pack(">d", math.nan if value != value else value)


def _complex(value: complex) -> bytes:
    return b"c" + _float(value.real) + _float(value.imag)


def _mapping(value: dict[Any, Any]) -> bytes:
    return _parts(b"m", sorted(_encoded(key) + _encoded(one) for key, one in value.items()))


def _list(value: list[Any]) -> bytes:
    return _parts(b"l", [_encoded(one) for one in value])


def _tuple(value: tuple[Any, ...]) -> bytes:
    return _parts(b"t", [_encoded(one) for one in value])


def _set(value: set[Any]) -> bytes:
    return _parts(b"e", sorted(_encoded(one) for one in value))


def _frozen_set(value: frozenset[Any]) -> bytes:
    return _parts(b"z", sorted(_encoded(one) for one in value))


def _decimal(value: decimal.Decimal) -> bytes:
    return _part(b"D", str(value).encode())


def _fraction(value: fractions.Fraction) -> bytes:
    return b"F" + _integer(value.numerator) + _integer(value.denominator)


def _moment(value: datetime.datetime | datetime.time) -> bytes:
    # With its offset; what a time zone is called differs by how it was made.
    return _parts(b"T", [type(value).__name__.encode(), b" ", value.isoformat().encode(), b"f" if value.fold else b""])


def _date(value: datetime.date) -> bytes:
    return _part(b"Y", value.isoformat().encode())


def _duration(value: datetime.timedelta) -> bytes:
    return b"R" + _integer(value.days) + _integer(value.seconds) + _integer(value.microseconds)


def _path(value: pathlib.PurePath) -> bytes:
    # Its class has another module from Python 3.13 on.
    return _parts(b"P", [_text(type(value).__name__), _text(str(value))])


def _range(value: range) -> bytes:
    # Equal ones have the same members, of which two and their number say all.
    return _parts(b"r", [_integer(one) for one in (len(value), *value[:2])])


_EXACT: dict[type, Callable[[Any], bytes]] = {
    str: _text,
    int: _integer,
    type(None): lambda _: b"n",
    bool: lambda value: b"+" if value else b"-",
    float: _float,
    complex: _complex,
    bytes: lambda value: _part(b"b", value),
    bytearray: lambda value: _part(b"a", value),
    dict: _mapping,
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozen_set,
    range: _range,
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    datetime.datetime: _moment,
    datetime.time: _moment,
    datetime.date: _date,
    datetime.timedelta: _duration,
    uuid.UUID: lambda value: _part(b"U", value.bytes),
    pathlib.PosixPath: _path,
    pathlib.WindowsPath: _path,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
}


def _of_class(value: Any) -> bytes:
    """The encoding of what is of a class of the program's."""
    kind = type(value)
    name = _text(f"{kind.__module__}.{kind.__qualname__}")
    if isinstance(value, enum.Flag):
        # Several together have a name only from some version on.
        return _parts(b"G", [name, _encoded(value.value)])
    if isinstance(value, enum.Enum):
        return _parts(b"E", [name, _text(value.name)])
    if dataclasses.is_dataclass(kind):
        fields = [field.name for field in dataclasses.fields(value) if field.compare]
        return _parts(b"C", [name, *(_text(field) + _encoded(getattr(value, field)) for field in fields)])
    if kind.__module__ == "ipaddress":
        return _parts(b"A", [name, _text(str(value))])
    if isinstance(value, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _parts(b"N", [name, *(_encoded(one) for one in value)])
    raise UsageError(
        f"nothing tells the item apart from others in every run: it has a `{kind.__qualname__}`, which has no value "
        "that stays the same; give id="
    )
