"""Arrays that travel through shared memory: whose they are when they arrive, and that nothing else sees what is done to them."""

import ctypes
import gc
import os
import subprocess
import sys
import warnings
from array import array as standard_array

import pytest

import unisono
from unisono.errors import UnpicklableError, WorkerDied

numpy = pytest.importorskip("numpy")

LONG = 60
# In bytes: the smallest that does not travel within its pickle, what is copied page by page, and what neither side keeps.
LARGE = 64 << 10
MAPPED = 5 << 20
HUGE = 65 << 20
# As many whole numbers.
MANY = MAPPED // 8


@pytest.fixture
def pool():
    pool = unisono.ProcessPool(2)
    yield pool
    pool.terminate()


def double(array):
    array *= 2
    return array


def same(value):
    return value


def write_through(views):
    """What is nested is written to as well; the sum says that all of it arrived."""
    for view in views["all"]:
        view[:] = 1
    return views, sum(int(view.sum()) for view in views["all"])


def flags(*arrays):
    return [(array.flags.writeable, array.ctypes.data % 64) for array in arrays]


def fail_after_writing(array, path):
    found = int(array[0]), int(array[-1])
    array[:] = 9
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < 3:
        raise ValueError("once more")
    return found


def die_after_writing(array, path):
    found = int(array[0]), int(array[-1])
    array[:] = 9
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < 3:
        os._exit(3)
    return found


@pytest.mark.parametrize("size", [8, LARGE - 8, LARGE, MAPPED, HUGE])
def test_an_array_can_be_written_to_in_the_worker_and_when_it_is_back_whatever_its_size(pool, size):
    array = numpy.arange(size // 8)
    back = pool.submit(double, array).result(LONG)
    assert (back[0], back[-1]) == (0, 2 * (size // 8 - 1))
    back += 1
    assert (back[1:2].tolist(), array[-1]) == ([3] * (size > 8), size // 8 - 1)


@pytest.mark.parametrize("make", [unisono.ProcessPool, unisono.Pool])
def test_a_map_gives_arrays_that_can_be_written_to(make):
    with make(2) as pool:
        for array in pool.map(double, [numpy.ones(LARGE) for _ in range(20)]):
            array -= 2
            assert not array.any()


def test_what_one_worker_writes_into_its_argument_no_other_sees_and_not_the_caller(pool):
    array = numpy.zeros(LARGE)
    results = list(pool.map(double, [array + 1] * 8))
    assert all((result == 2).all() for result in results) and not array.any()


@pytest.mark.parametrize("size", [LARGE, MANY])
@pytest.mark.parametrize("work", [fail_after_writing, die_after_writing])
def test_a_task_that_is_tried_again_gets_its_arguments_as_they_were(pool, work, size, tmp_path):
    path = tmp_path / "tries"
    assert pool.task(retries=5).submit(work, numpy.arange(size), path).result(LONG) == (0, size - 1)
    assert path.read_text() == "xxx"


@pytest.mark.parametrize("size", [LARGE, MANY])
def test_results_that_are_written_to_stay_as_they_are_while_others_come(pool, size):
    kept = [pool.submit(numpy.full, size, n).result(LONG) for n in range(20)]
    for array in kept:
        array[: size // 2] += 1000
    more = [pool.submit(numpy.full, size, -1).result(LONG) for _ in range(20)]
    assert [(int(a[0]), int(a[-1])) for a in kept] == [(1000 + n, n) for n in range(20)]
    assert all((array == -1).all() for array in more)


@pytest.mark.parametrize("size", [LARGE, MAPPED])
def test_arrays_within_other_things_can_be_written_to_and_none_runs_into_the_next(pool, size):
    arrays = [numpy.full(size + n, 5, dtype=numpy.uint8) for n in range(5)]
    (views, total), again = pool.submit(write_through, {"all": arrays}).result(LONG), arrays
    assert total == sum(len(array) for array in arrays)
    views["all"][2][:] = 7
    assert [numpy.unique(view).tolist() for view in views["all"]] == [[1], [1], [7], [1], [1]]
    assert all((array == 5).all() for array in again)


def test_they_lie_where_numpy_wants_them(pool):
    arrays = [numpy.ones(LARGE + n, dtype=numpy.uint8) for n in range(3)]
    assert pool.submit(flags, *arrays).result(LONG) == [(True, 0)] * 3
    assert flags(*pool.submit(same, arrays).result(LONG)) == [(True, 0)] * 3


@pytest.mark.parametrize("size", [100, LARGE])
def test_what_was_read_only_stays_so_and_what_could_be_written_to_can(pool, size):
    frozen = numpy.ones(size, dtype=numpy.uint8)
    frozen.flags.writeable = False
    for value, is_read_only in [
        (memoryview(b"x" * size), True),
        (memoryview(bytearray(size)), False),
        (memoryview(frozen), True),
    ]:
        assert memoryview(pool.submit(same, value).result(LONG)).readonly == is_read_only
    assert not pool.submit(same, frozen).result(LONG).flags.writeable
    assert type(pool.submit(same, bytearray(size)).result(LONG)) is bytearray


VIEWS = {
    "numbers": lambda: memoryview(standard_array("d", [1.5, 2.5])),
    "long": lambda: memoryview(standard_array("d", [1.5] * LARGE)),
    "table": lambda: memoryview(numpy.arange(12).reshape(3, 4)),
    "by columns": lambda: memoryview(numpy.asfortranarray(numpy.arange(12).reshape(3, 4))),
    "long by columns": lambda: memoryview(numpy.arange(LARGE).reshape(2, -1).T),
    "every other": lambda: memoryview(b"abcdef")[::2],
    "long every other": lambda: memoryview(bytearray(LARGE * 2))[::2],
    "of ctypes": lambda: memoryview((ctypes.c_int * 3)(1, 2, 3)),
    "one number": lambda: memoryview(numpy.array(5.5)),
    "truths": lambda: memoryview(numpy.array([True, False])),
    "nothing": lambda: memoryview(standard_array("d")),
}


def view_facts(view):
    # The order of bytes that ctypes names is that of this machine, and the views that it gives have no `tolist`.
    kind = view.format.removeprefix("<" if sys.byteorder == "little" else ">")
    return type(view), kind, view.shape, view.readonly, numpy.asarray(view).tolist()


@pytest.mark.parametrize("make", VIEWS.values(), ids=VIEWS)
def test_a_view_of_memory_keeps_the_kind_the_shape_and_the_order_of_its_items(pool, make):
    view = make()
    assert pool.submit(view_facts, view).result(LONG) == view_facts(view)
    assert view_facts(pool.submit(same, [view]).result(LONG)[0]) == view_facts(view)


@pytest.mark.parametrize("array", [numpy.zeros(3, dtype=">i4"), numpy.zeros(3, dtype="i4,f8"), numpy.zeros((0, 3))])
def test_a_view_that_cannot_be_made_from_bytes_is_refused_with_what_to_send(pool, array):
    with pytest.raises(
        UnpicklableError, match=r"a memoryview of the shape .* send what it is a view of, or its `tobyt"
    ):
        pool.submit(same, memoryview(array)).result(LONG)
    assert (pool.submit(same, array).result(LONG) == array).all()


def test_views_arrive_so_from_a_program_that_no_other_process_can_import():
    program = """
import array, unisono
with unisono.ProcessPool(1) as pool:
    for count in (3, 100_000):
        view = pool.submit(lambda view: (view.format, view)[1], memoryview(array.array("d", [1.5] * count))).result(60)
        print(view.format, view.shape, view[0], view.readonly)
"""
    words = [sys.executable, "-"]
    done = subprocess.run(words, input=program, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.stdout, done.stderr) == ("d (3,) 1.5 False\nd (100000,) 1.5 False\n", "")


@pytest.mark.parametrize("method", ["zygote", "spawn", "fork"])
def test_read_only_views_are_to_be_had_by_choice(method, tmp_path):
    code = f"""
import numpy, unisono
def flags(array): return array.flags.writeable, array
if __name__ == "__main__":
    with unisono.ProcessPool(1, start_method={method!r}, read_only_views=True) as pool:
        print(*((there, back.flags.writeable) for there, back in pool.map(flags, [numpy.ones({LARGE})] * 2)))
    with unisono.Pool(1, read_only_views=True) as pool:
        print(pool.apply(numpy.ones, ({LARGE},)).flags.writeable)
"""
    path = tmp_path / "program.py"
    path.write_text(code)
    # Numpy's own threads would have us warn of a fork.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("(False, False) (False, False)\nFalse\n", "")


@pytest.mark.parametrize("size", [LARGE, MANY])
def test_arrays_outlive_their_pool(size):
    with unisono.ProcessPool(1) as pool:
        array = pool.submit(numpy.full, size, 3).result(LONG)
    array += 1
    assert (array == 4).all()


def test_an_array_that_a_pool_brought_can_be_sent_on_after_it_was_written_to(pool):
    array = pool.submit(numpy.zeros, LARGE).result(LONG)
    array += 1
    again = pool.submit(double, array).result(LONG)
    assert (again == 2).all() and (array == 1).all()


@pytest.mark.parametrize(("size", "count"), [(LARGE, 200), (MANY, 70)])
def test_nothing_is_left_of_arrays_that_nobody_holds(pool, size, count):
    for _ in range(2):
        # More than a worker keeps slots for.
        arrays = [pool.submit(numpy.ones, size).result(LONG) for _ in range(count)]
        assert sum(int(array[0] + array[-1]) for array in arrays) == 2 * count
        del arrays
    gc.collect()
    before = _mapped(), len(os.listdir("/proc/self/fd"))
    for _ in range(count):
        double(pool.submit(numpy.ones, size).result(LONG))
    now = _mapped(), len(os.listdir("/proc/self/fd"))
    assert now[0] <= before[0] and now[1] <= before[1]


@pytest.mark.parametrize("size", [LARGE // 8, MANY])
def test_holding_many_arrays_costs_no_descriptors(pool, size):
    pool.submit(numpy.ones, size).result(LONG)
    before = len(os.listdir("/proc/self/fd"))
    arrays = [pool.submit(numpy.full, size, n, numpy.int64).result(LONG) for n in range(200)]
    # Two workers lend 64 places each at most; what comes beyond those is only mapped.
    assert len(os.listdir("/proc/self/fd")) <= before + 2 * 64
    assert [int(array[0]) for array in arrays] == list(range(200))


def _mapped():
    with open("/proc/self/maps") as maps:
        return sum("unisono-slot" in line for line in maps)


def address_space(_):
    """In bytes; numpy, which comes with the argument, is part of it."""
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[0]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("read_only", [False, True])
def test_memory_that_is_missing_is_the_tasks_error_and_the_worker_lives(read_only):
    small, large = numpy.ones(MANY), numpy.zeros(200 << 20, dtype=numpy.uint8)
    with unisono.ProcessPool(1) as pool:
        limit = pool.submit(address_space, small).result(LONG) + (100 << 20)
    with unisono.ProcessPool(1, memory_limit=limit, read_only_views=read_only) as pool:
        process = pool.submit(os.getpid).result(LONG)
        for function, argument in [(numpy.ones, large.shape), (len, large)]:
            # In the call, and before it.
            with pytest.raises(MemoryError):
                pool.submit(function, argument).result(LONG)
        assert pool.submit(len, small).result(LONG) == MANY
        assert pool.submit(os.getpid).result(LONG) == process


@pytest.mark.parametrize(("size", "options"), [(LARGE, {"read_only_views": True}), (MANY, {})])
def test_a_fork_keeps_the_arrays_that_it_was_born_with_as_they_were(size, options):
    """Neither does it give the place of its parent's back, nor is its own written over when the parent has."""
    with unisono.ProcessPool(1, **options) as pool:

        def full(number):
            return pool.submit(numpy.full, size, number).result(LONG)

        arrays = [full(n) for n in range(4)]
        to_child, from_parent = os.pipe()
        to_parent, from_child = os.pipe()
        child = fork()
        if child == 0:
            code = 1
            try:
                os.close(from_parent)
                del arrays[1]
                gc.collect()
                os.write(from_child, b"x")
                os.read(to_child, 1)
                code = 0 if [numpy.unique(array).tolist() for array in arrays] == [[0], [2], [3]] else 2
            finally:
                os._exit(code)
        for end in (to_child, from_child):
            os.close(end)
        assert os.read(to_parent, 1) == b"x"
        # The child has let one go; its place is still ours.
        assert [int(full(50)[0]) for _ in range(20)] == [50] * 20
        assert [numpy.unique(array).tolist() for array in arrays] == [[0], [1], [2], [3]]
        del arrays
        gc.collect()
        # Each of these would lie where one of the first lay.
        others = [full(60) for _ in range(20)]
        os.close(from_parent)
        os.close(to_parent)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert all((array == 60).all() for array in others)


@pytest.mark.parametrize(("size", "options"), [(LARGE, {"read_only_views": True}), (MANY, {})])
def test_a_fork_of_a_worker_keeps_the_arguments_that_it_was_born_with(size, options, tmp_path):
    gate, said = tmp_path / "gate", tmp_path / "said"
    os.mkfifo(gate)
    with unisono.ProcessPool(1, **options) as pool:
        child = pool.submit(fork_with, numpy.full(size, 5), os.fspath(gate), os.fspath(said)).result(LONG)
        # Each of these would lie where the first one lay.
        for n in range(10, 30):
            assert pool.submit(first_and_last, numpy.full(size, n)).result(LONG) == (n, n)
        with open(gate, "w"):
            pass
        pool.submit(os.waitpid, child, 0).result(LONG)
        assert said.read_text() == "[5]"


def first_and_last(array):
    return int(array[0]), int(array[-1])


def fork_with(array, gate, said):
    child = fork()
    if child == 0:
        try:
            with open(gate):
                pass
            with open(said, "w") as file:
                file.write(str(numpy.unique(array).tolist()))
        finally:
            os._exit(0)
    return child


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def test_a_worker_that_dies_with_an_array_in_its_hands_costs_its_own_task_alone(pool, tmp_path):
    array = numpy.arange(MANY)
    with pytest.raises(WorkerDied):
        pool.submit(die_after_writing, array, tmp_path / "tries").result(LONG)
    assert (pool.submit(double, array).result(LONG) == 2 * array).all()
