"""What tells the items of a batch apart in a results file: the same in every process and every Python, and never for two."""

import dataclasses
import datetime
import decimal
import io
import ipaddress
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import uuid
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisono import UsageError, batch, read_results
from unisono._functions import identity as _identity
from unisono._functions.identity import encoded, fingerprint

# Everything that has an identity, each unlike all others. As text, since other processes make it from that.
VALUES = """
import datetime, decimal, enum, fractions, ipaddress, pathlib, typing, uuid, zoneinfo
from dataclasses import dataclass, field

@dataclass(frozen=True)
class Host:
    name: str
    tags: frozenset = frozenset()
    seen: object = field(default=None, compare=False)

@dataclass
class Other:
    name: str
    tags: frozenset = frozenset()

class Point(typing.NamedTuple):
    x: int
    y: int

class Pair(typing.NamedTuple):
    x: int
    y: int

Colour = enum.Enum("Colour", ["RED", "BLUE"])
Size = enum.IntEnum("Size", ["RED", "BLUE"])
Name = enum.StrEnum("Name", ["red", "blue"])
May = enum.Flag("May", ["READ", "WRITE"])
words = [f"word-{number}" for number in range(50)]
noon = datetime.datetime(2026, 1, 2, 12)
berlin = zoneinfo.ZoneInfo("Europe/Berlin")
VALUES = [
    None, True, False, 0, 1, -1, 127, 128, 255, 256, -128, -129, 2**64, -(2**70), 10**5000,
    0.0, -0.0, 1.0, 1e300, 5e-324, float("nan"), float("inf"), float("-inf"), 0j, 1 + 0j, complex(0.0, -0.0),
    "", "0", "1", "True", "None", "a", "A", "\\u00e4", "a\\u0308", "\\x00", "\\ud800", "x" * 65, "x" * 66, "[1]", "(1,)",
    b"", b"a", b"1", bytearray(), bytearray(b"a"),
    (), (1,), (1, 2), (12,), ((1,), 2), ((1, 2),), (("a",), "b"), ("a", ("b",)), ("ab",), ("a", "b"),
    [], [1], [1, 2], [12], [[1], 2], [[1, 2]], [[], []], [[[]]], [None] * 5, [float("nan"), *[None] * 5], [(1,)], ([1],),
    {}, {1: "x"}, {"1": "x"}, {True: "x"}, {1.5: "x"}, {(1, 2): "x"}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": {"b": 2}},
    set(), {1}, {"1"}, set(words), frozenset(), frozenset({1}), frozenset(words), {frozenset(words): set(words)},
    range(0), range(3), range(1, 4), range(0, 6, 2), range(2, -1, -1),
    decimal.Decimal("1"), decimal.Decimal("1.0"), decimal.Decimal("NaN"), decimal.Decimal("sNaN"), decimal.Decimal("-0"),
    fractions.Fraction(1), fractions.Fraction(1, 3), fractions.Fraction(-1, 3),
    noon, noon.replace(fold=1), noon.replace(tzinfo=datetime.timezone.utc), noon.replace(tzinfo=berlin),
    noon.date(), noon.time(), datetime.time(12, fold=1), datetime.timedelta(days=1), datetime.timedelta(seconds=1),
    datetime.timedelta(microseconds=-1),
    pathlib.Path("a"), pathlib.Path("a/b"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"),
    uuid.UUID(int=1), uuid.UUID(int=2), ipaddress.ip_address("10.0.0.1"), ipaddress.ip_network("10.0.0.1"),
    Host("a"), Host("b"), Host("a", frozenset(words)), Other("a"), Other("b"), Point(1, 2), Point(2, 1), Pair(1, 2),
    Colour.RED, Colour.BLUE, Size.RED, Size.BLUE, Name.red, Name.blue, May.READ, May.WRITE, May.READ | May.WRITE, May(0),
]
"""


def made():
    """All values, of classes that are in no module that has them twice."""
    there = {"__name__": "values"}
    exec(compile(VALUES, "values", "exec", dont_inherit=True), there)
    # Data classes look there for their annotations.
    return there["VALUES"]


@pytest.fixture(autouse=True, scope="module")
def module_of_the_values():
    sys.modules["values"] = type(sys)("values")
    yield
    del sys.modules["values"]


def test_no_two_values_have_the_same_identity_and_each_has_the_same_again():
    first, second = ([encoded(value) for value in made()] for _ in range(2))
    assert first == second
    twice = Counter(first)
    assert [type(value) for value, identity in zip(made(), first) if twice[identity] > 1] == []


def interpreters():
    """Each Python of a version that is supported, as far as it is installed."""
    found = {sys.version_info[:2]: sys.executable}
    for minor in (11, 12, 13):
        path = shutil.which(f"python3.{minor}")
        asked = path and subprocess.run([path, "-c", "import sys; print(sys.version_info[1])"], capture_output=True)
        if asked and asked.stdout.strip() == str(minor).encode():
            found.setdefault((3, minor), path)
    return found.values()


def test_every_process_and_every_version_of_python_has_the_same_identities():
    # The file alone: what is installed is for one version.
    program = """
        import pathlib, sys, types
        errors = types.ModuleType("unisono.errors")
        errors.UsageError = ValueError
        sys.modules |= {"unisono": types.ModuleType("unisono"), "unisono.errors": errors, "values": types.ModuleType("values")}
        ours = {"__name__": "identity"}
        exec(compile(pathlib.Path(sys.argv[1]).read_text(), "identity", "exec"), ours)
        there = {"__name__": "values"}
        exec(compile(sys.stdin.read(), "values", "exec"), there)
        for value in there["VALUES"]:
            print(ours["encoded"](value).hex())
    """
    expected = [encoded(value).hex() for value in made()]
    for python, seed in itertools.product(interpreters(), ("0", "1", "4711")):
        command = [python, "-c", textwrap.dedent(program), _identity.__file__]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, input=VALUES, capture_output=True, text=True, env=environment, timeout=60)
        assert done.stdout.split() == expected, (python, done.stderr)


def scalars():
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.integers(),
        st.floats(),
        st.text(max_size=3),
        st.binary(max_size=3),
        st.decimals(allow_nan=False),
        st.datetimes(),
        st.uuids(),
        st.builds(pathlib.PurePosixPath, st.text("ab/", min_size=1, max_size=4)),
    )


def values():
    hashable = st.recursive(
        scalars(),
        lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
        max_leaves=6,
    )
    return st.recursive(
        hashable,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(hashable, inner, max_size=3),
            st.sets(hashable, max_size=3),
        ),
        max_leaves=10,
    )


def are_the_same(one, other):
    """By definition: what the encoding must agree with."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (one != one and other != other) or (one == other and math.copysign(1, one) == math.copysign(1, other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_the_same, one, other))
    if isinstance(one, dict):
        return are_matched(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return are_matched(list(one), list(other))
    if isinstance(one, decimal.Decimal):
        return str(one) == str(other)
    if isinstance(one, datetime.datetime):
        return one == other and one.fold == other.fold
    return one == other


def are_matched(ones, others):
    left = list(others)
    for one in ones:
        at = next((at for at, other in enumerate(left) if are_the_same(one, other)), None)
        if at is None:
            return False
        del left[at]
    return not left


@given(values(), values())
@settings(max_examples=250)
def test_identities_are_equal_exactly_where_values_are(one, other):
    assert (encoded(one) == encoded(other)) == are_the_same(one, other)
    assert encoded([one, other]) != encoded([[one, other]])
    assert encoded((one, other)) != encoded([one, other])
    assert (encoded([one, other]) == encoded([other, one])) == are_the_same(one, other)


@given(st.dictionaries(st.integers(), st.text()), st.randoms())
def test_the_order_in_which_a_dictionary_was_filled_does_not_count(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert encoded(dict(items)) == encoded(value)


class Plain:
    pass


class Named(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "make",
    [
        object,
        Plain,
        lambda: lambda: None,
        lambda: print,
        lambda: Plain,
        lambda: Plain().__init__,
        threading.Lock,
        io.StringIO,
        lambda: iter([]),
        lambda: memoryview(b"a"),
        lambda: Named("a"),
        lambda: type("Integer", (int,), {})(1),
        lambda: {"a": [Plain()]},
        lambda: dataclasses.make_dataclass("Holder", ["inner"])(Plain()),
    ],
)
def test_what_has_no_value_that_stays_the_same_is_refused_with_the_way_out(make, tmp_path):
    with pytest.raises(UsageError, match="give id="):
        encoded(make())
    called = []
    out = tmp_path / "results.jsonl"
    (outcome,) = batch(called.append, [make()], out=out)
    assert (outcome.kind, outcome.error.kind, called) == ("failed", "input", [])
    assert "give id=" in str(outcome.error)
    options = {"id": lambda _: "the one", "out": out, "overwrite": True}
    assert batch(called.append, [make()], **options).run().ok == 1
    options |= {"resume": True, "overwrite": False}
    assert batch(called.append, [make()], **options).run().kept["ok"] == 1
    assert len(called) == 1


def test_what_is_nested_too_deeply_or_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(UsageError, match="nested too deeply"):
        encoded(endless)


def test_an_open_file_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(UsageError, match="give id="):
        encoded(file)


# Results files.


def work(item):
    CALLED.append(item)


CALLED: list[object] = []


@pytest.fixture(autouse=True)
def called():
    CALLED.clear()
    return CALLED


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1,), [1]),
        ({1: "x"}, {"1": "x"}),
        (True, 1),
        (1, 1.0),
        (0.0, -0.0),
        (b"a", "a"),
        (pathlib.Path("a"), "a"),
        ("a", "b'a'"),
        ({1}, frozenset({1})),
    ],
)
def test_an_item_of_another_type_is_another_item(one, other, tmp_path, called):
    out = tmp_path / "results.jsonl"
    reports = [batch(work, items, out=out, resume=True).run() for items in ([one], [other], [one, other])]
    assert [(report.ok, report.kept["ok"]) for report in reports] == [(1, 0), (2, 1), (2, 2)]
    assert [type(item) for item in called] == [type(one), type(other)]


def test_long_names_of_functions_are_told_apart_to_their_ends():
    assert fingerprint("x" * 64 + "a", encoded(1)) != fingerprint("x" * 64 + "b", encoded(1))
    assert fingerprint("ab", encoded("c")) != fingerprint("a", encoded("bc"))


PROGRAM = """
    import dataclasses, sys, unisono

    @dataclasses.dataclass(frozen=True)
    class Host:
        name: str
        tags: frozenset

    def work(item):
        print(item.name if isinstance(item, Host) else "set", flush=True)

    items = [Host("web", frozenset(f"tag-{n}" for n in range(20))), {f"word-{n}" for n in range(20)}]
    unisono.batch(work, items, limit=1, out=sys.argv[1], resume=True).run()
"""


def test_sets_and_data_classes_are_known_again_by_another_process(tmp_path):
    printed = []
    for seed in ("1", "2", "3"):
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), tmp_path / "results.jsonl"]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.stderr == ""
        printed += done.stdout.split()
    assert printed == ["web", "set"]


def as_an_earlier_version_wrote_it(out):
    """The same file without its version, and so with identities by the first rule."""
    text = out.read_text()
    assert text.count('"identity":2,') == 1
    out.write_text(text.replace('"identity":2,', ""))


def test_a_file_of_an_earlier_version_whose_items_must_not_be_repeated_is_refused_with_the_way_out(tmp_path, called):
    out = tmp_path / "results.jsonl"
    batch(work, [1, 2], out=out).run()
    as_an_earlier_version_wrote_it(out)
    before = out.read_bytes()
    for options in ({"resume": True}, {"retry_failed": True}, {"retry_ambiguous": True}, {"adopt": True}):
        with pytest.raises(UsageError, match=r"by another rule .*start anew with another out="):
            batch(work, [1, 2], out=out, **options).run()
    assert (out.read_bytes(), len(called)) == (before, 2)


def test_a_file_of_an_earlier_version_whose_items_may_be_repeated_is_gone_on_with(tmp_path, called):
    out = tmp_path / "results.jsonl"
    batch(work, [1, 2], out=out, idempotent=True).run()
    as_an_earlier_version_wrote_it(out)
    for _ in range(2):
        batch(work, [1, 2, 3], out=out, idempotent=True, resume=True).run()
    assert sorted(called[2:]) == [3]
    first = json.loads(out.read_text().splitlines()[0])
    assert first["identity"] == 2
    assert all(not line.keys() & {"run", "open", "identity"} for line in read_results(out))


def test_a_name_that_changes_from_run_to_run_is_no_name(tmp_path):
    (outcome,) = batch(work, [1], id=lambda _: object(), out=tmp_path / "results.jsonl")
    assert re.search("id= answered a `object`", str(outcome.error))
    names = [
        7,
        "seven",
        uuid.UUID(int=7),
        ipaddress.ip_address("10.0.0.1"),
        pathlib.Path("a"),
        (1, 2),
        decimal.Decimal(1),
    ]
    report = batch(work, range(len(names)), id=names.__getitem__, out=tmp_path / "others.jsonl").run()
    assert report.ok == len(names)


def test_what_cannot_even_be_shown_is_told_apart_by_its_name(tmp_path):
    class Shy:
        def __repr__(self):
            raise LookupError

    out = tmp_path / "results.jsonl"
    assert batch(work, [Shy(), 10**5000], id=lambda item: type(item).__name__, out=out).run().ok == 2
    assert all("item" in line for line in read_results(out))
