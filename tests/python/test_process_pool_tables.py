"""Tables of arrow and pandas: their columns travel as arrays do, and so are private, and as writable as they were."""

import pytest

import unisono

numpy = pytest.importorskip("numpy")
pandas = pytest.importorskip("pandas")
arrow = pytest.importorskip("pyarrow")

LONG = 60
ROWS = 100_000


@pytest.fixture
def pool():
    pool = unisono.ProcessPool(2)
    yield pool
    pool.terminate()


def table():
    """Columns of a fixed width, of a varying one, with gaps, and of numbers that stand for texts."""
    texts = arrow.array([f"row {number}" for number in range(ROWS)])
    gaps = arrow.array([None if number % 3 else number for number in range(ROWS)])
    kinds = arrow.array(["even", "odd"] * (ROWS // 2)).dictionary_encode()
    return arrow.table({"number": numpy.arange(ROWS), "text": texts, "gaps": gaps, "kind": kinds})


def frame():
    kinds = pandas.Categorical(["even", "odd"] * (ROWS // 2))
    times = pandas.date_range("2020-01-01", periods=ROWS, freq="s", tz="UTC")
    texts = [f"row {number}" for number in range(ROWS)]
    frame = pandas.DataFrame({"number": numpy.arange(ROWS), "text": texts, "kind": kinds, "time": times})
    frame["gaps"] = pandas.array([None if number % 3 else number for number in range(ROWS)], dtype="Int64")
    frame["arrow"] = pandas.array(numpy.arange(ROWS), dtype="int64[pyarrow]")
    return frame


def same(value):
    return value


TABLES = {
    "table": table,
    "batch": lambda: table().to_batches()[0],
    "chunks": lambda: arrow.concat_tables([table(), table()])["text"],
    "array": lambda: table()["number"].chunk(0),
    "slice": lambda: table().slice(1000, ROWS // 2),
    "few rows": lambda: table().slice(7, 3),
    "no rows": lambda: table().slice(0, 0),
    "structs": lambda: arrow.array([{"number": number, "all": [number]} for number in range(ROWS)]),
    "schema": lambda: table().schema,
}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_what_arrow_has_goes_and_comes_back_as_it_was_and_outlives_its_pool(make, read_only):
    value = make()
    with unisono.ProcessPool(1, read_only_views=read_only) as pool:
        back = pool.submit(same, {"in": [value]}).result(LONG)["in"][0]
    assert type(back) is type(value) and back.equals(value)


def is_mutable(buffer):
    return buffer.is_mutable, memoryview(buffer).readonly


def written(buffer):
    memoryview(buffer).cast("B")[0] = 7
    return buffer


@pytest.mark.parametrize("size", [100, ROWS])
def test_a_buffer_of_arrows_can_be_written_to_if_it_could_be_before_and_is_the_workers_own(pool, size):
    for data, mutable in [(b"x" * size, False), (bytearray(size), True)]:
        assert pool.submit(is_mutable, arrow.py_buffer(data)).result(LONG) == (mutable, not mutable)
        assert is_mutable(pool.submit(same, arrow.py_buffer(data)).result(LONG)) == (mutable, not mutable)
    ours = arrow.py_buffer(bytearray(size))
    back = pool.submit(written, ours).result(LONG)
    assert (written(back).to_pybytes()[0], ours.to_pybytes()) == (7, bytes(size))


def test_columns_are_read_only_views_by_choice():
    with unisono.ProcessPool(1, read_only_views=True) as pool:
        assert pool.submit(is_mutable, arrow.py_buffer(bytearray(ROWS))).result(LONG) == (False, True)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_frame_of_pandas_with_columns_of_every_kind_comes_back_as_it_was(read_only):
    with unisono.ProcessPool(1, read_only_views=read_only) as pool:
        pandas.testing.assert_frame_equal(pool.submit(same, frame()).result(LONG), frame())


def first_row_changed(frame):
    for name in frame.columns:
        frame.loc[0, name] = frame.loc[3, name]
    return frame


def test_a_frame_of_pandas_can_be_changed_in_the_worker_and_when_it_is_back_and_nobody_else_sees_it(pool):
    ours = frame()
    back = pool.submit(first_row_changed, ours).result(LONG)
    pandas.testing.assert_frame_equal(back, first_row_changed(frame()))
    back.loc[1, "number"] = -1
    back["more"] = back["number"] + 1
    assert back["more"].iloc[:2].tolist() == [4, 0]
    pandas.testing.assert_frame_equal(ours, frame())


def numbers_doubled(frame):
    values = frame["number"].array
    values *= 2
    return int(values[-1])


def test_many_frames_at_once_keep_to_themselves(pool):
    frames = [frame().assign(number=number) for number in range(20)]
    assert list(pool.map(numbers_doubled, frames)) == [2 * number for number in range(20)]
    assert [int(each["number"].iloc[-1]) for each in frames] == list(range(20))
