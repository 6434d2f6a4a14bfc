"""What a task leaves in its worker: a child that comes back from a fork, threads that go on, pools of its own."""

import os
import subprocess
import sys
import threading
import zipapp
from pathlib import Path

import pytest

import unisono
from unisono.errors import UnpicklableError

LONG = 60
METHODS = ["zygote", "spawn", "fork"]
# A fork of the program that runs the tests has threads beside it.
pytestmark = pytest.mark.filterwarnings("ignore:This process:RuntimeWarning", "ignore:This process:DeprecationWarning")


def fork_and_come_back(how):
    """Come back twice: in the child, as `how` says, and in the worker with the child's exit status."""
    if os.fork() == 0:
        if how == "raises":
            raise ValueError("this is the child's")
        if how == "exits":
            sys.exit(7)
        return "the child's"
    return os.waitstatus_to_exitcode(os.wait()[1])


def note(folder, number):
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    return number


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("how", "statuses"), [("returns", {0}), ("exits", {7}), ("raises", {1, 70})])
def test_a_child_that_comes_back_from_a_task_is_no_worker(tmp_path, method, how, statuses):
    with unisono.ProcessPool(1, start_method=method) as pool:
        # Its result is the worker's, and the child has ended.
        assert pool.submit(fork_and_come_back, how).result(LONG) in statuses
        # Nothing is done twice, by another process, or lost, though the child had the same memory and socket.
        assert list(pool.map(note, [tmp_path] * 100, range(100))) == [*range(100)]
    names = [entry.name.split("-") for entry in tmp_path.iterdir()]
    assert sorted(int(number) for number, _ in names) == [*range(100)]
    assert len({process for _, process in names}) == 1


def test_a_child_that_comes_back_from_a_job_is_not_the_job():
    assert unisono.spawn(fork_and_come_back, "returns").result(LONG) == 0


def remember_fork():
    global FORKED
    FORKED = fork_and_come_back("returns")


def remembered_fork():
    return FORKED


def test_a_child_that_comes_back_from_an_initializer_is_no_worker():
    with unisono.ProcessPool(1, initializer=remember_fork) as pool:
        assert pool.submit(remembered_fork).result(LONG) == 0


def go_on(folder, is_daemon=False):
    """Start a thread that ends when it may, and says so."""

    def wait():
        pause = threading.Event()
        while not (Path(folder) / "may end").exists():
            pause.wait(0.01)
        (Path(folder) / "ended").touch()

    threading.Thread(target=wait, daemon=is_daemon).start()
    return "returned"


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_that_closes_lets_threads_of_its_tasks_finish(tmp_path, method):
    pool = unisono.ProcessPool(1, start_method=method)
    assert pool.submit(go_on, tmp_path).result(LONG) == "returned"
    pool.shutdown(wait=False)
    (tmp_path / "may end").touch()
    pool.join()
    assert (tmp_path / "ended").exists()


def test_a_worker_that_is_replaced_lets_threads_of_its_tasks_finish(tmp_path):
    with unisono.ProcessPool(1, max_tasks_per_child=1) as pool:
        assert pool.submit(go_on, tmp_path).result(LONG) == "returned"
        (tmp_path / "may end").touch()
        pool.submit(abs, -1).result(LONG)
    assert (tmp_path / "ended").exists()


def test_a_job_has_ended_when_its_threads_have(tmp_path):
    job = unisono.spawn(go_on, tmp_path)
    assert job.result(LONG) == "returned"
    assert not job.join(0)
    (tmp_path / "may end").touch()
    assert job.join(LONG)
    assert (tmp_path / "ended").exists()


def test_daemon_threads_of_tasks_keep_no_pool_open(tmp_path):
    with unisono.ProcessPool(1) as pool:
        pool.submit(go_on, tmp_path, True).result(LONG)
    assert not (tmp_path / "ended").exists()


def test_threads_of_tasks_do_not_outlast_terminate(tmp_path):
    pool = unisono.ProcessPool(1)
    pool.submit(go_on, tmp_path).result(LONG)
    pool.terminate()
    assert not (tmp_path / "ended").exists()


NESTED = """
import sys
import unisono

def double(number):
    return number * 2

def by_pool(number):
    with unisono.ProcessPool(1) as pool:
        return pool.submit(double, number).result(60)

def by_job(number):
    return unisono.spawn(double, number).result(60)

def by_batch(number):
    return next(iter(unisono.batch(double, [number], executor="processes"))).result

def deeper(number):
    with unisono.ProcessPool(1) as pool:
        return pool.submit(by_pool, number).result(60)

def main():
    for method in ("zygote", "spawn", "fork"):
        with unisono.ProcessPool(1, start_method=method) as pool:
            print(*(pool.submit(function, 3).result(60) for function in (by_pool, by_job, by_batch, deeper)))
    print(unisono.spawn(by_job, 4).result(60))

if __name__ == "__main__":
    import warnings
    warnings.simplefilter("ignore")
    main()
"""


@pytest.mark.parametrize("kind", ["script", "module", "archive"])
def test_a_worker_has_workers_for_functions_of_the_main_program(tmp_path, kind):
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text(NESTED)
    if kind == "archive":
        zipapp.create_archive(tmp_path / "program", tmp_path / "program.pyz")
    words = {"script": ["program/__main__.py"], "module": ["-m", "program"], "archive": ["program.pyz"]}[kind]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("6 6 6 6\n" * 3 + "8\n", "")


def generate():
    yield 1


def call(function):
    return function()


@pytest.mark.parametrize("make", [generate, threading.Lock])
def test_a_result_that_cannot_be_pickled_says_that_it_is_the_result(make):
    with unisono.ProcessPool(1) as pool, pytest.raises(UnpicklableError, match="what it returned cannot be sent back"):
        pool.submit(call, make).result(LONG)


@pytest.mark.parametrize("name", ["\0", "é\udc80", "", "x" * 10_000])
def test_workers_start_whatever_they_are_called(name):
    with unisono.ProcessPool(1, name=name) as pool:
        assert pool.submit(abs, -1).result(LONG) == 1


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_program_without_standard_streams_has_workers_that_are_forks_of_it(tmp_path, closed):
    (tmp_path / "program.py").write_text("""
import pathlib, unisono
if __name__ == "__main__":
    with unisono.ProcessPool(1, start_method="fork") as pool:
        pathlib.Path("result").write_text(str(pool.submit(abs, -1).result(60)))
""")
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" program.py {closed}', sys.executable],
        cwd=tmp_path,
        timeout=120,
        check=False,
        stderr=subprocess.PIPE,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "result").read_text() == "1"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": 5}, "name must be text"),
        ({"preload": "numpy"}, r"give \['numpy'\]"),
        ({"read_only_views": "x"}, "read_only_views must be True or False"),
    ],
)
def test_what_an_option_of_a_pool_is_not_is_said_when_it_is_made(options, text):
    with pytest.raises(unisono.UsageError, match=text):
        unisono.ProcessPool(1, **options)
