"""Results files that are torn, damaged or not ours, read back: as a resume takes them, and never anything but ours raised."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono import UsageError, batch, read_results


@pytest.fixture
def written(tmp_path):
    """A file of three results, with more than ASCII in it."""
    out = tmp_path / "results.jsonl"
    batch(str, ["ä", "日本", "ok"], out=out, limit=1).run()
    return out


def items(path):
    return [line["item"] for line in read_results(path)]


def test_a_file_that_is_torn_at_any_byte_has_its_whole_lines(written):
    whole = written.read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole)):
        written.write_bytes(whole[:cut])
        # What lacks its line feed alone is whole, as for a resume.
        assert items(written) == ["ä", "日本", "ok"][: sum(end <= cut for end in ends)], cut


LINES = [
    b"\xff",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"{}",
    b"[]",
    b'"outcome"',
    b"1",
    b"null",
    b"not JSON",
    b"\xed\xa0\x80",
    b"\0",
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: repr(line[:10]))
def test_a_line_that_is_none_of_ours_is_named_and_one_that_is_torn_is_left_out(written, line):
    whole = written.read_bytes()
    written.write_bytes(whole + line + b"\n" + whole[36:])
    with pytest.raises(UsageError, match=rf"line 4: no result of unisono \(it begins at byte {len(whole)}\)"):
        items(written)
    written.write_bytes(whole + line)
    assert items(written) == ["ä", "日本", "ok"]


@given(st.binary(max_size=200))
def test_any_bytes_are_results_or_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("results") / "results.jsonl"
    path.write_bytes(content)
    try:
        for line in read_results(path):
            json.dumps(line)
    except UsageError:
        pass
