"""Code that was written for executors, pools and queues of the standard library, and the page that says what becomes of it."""

import asyncio
import concurrent.futures
import json
import multiprocessing
import multiprocessing.pool
import os
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import drop_in
import pytest

import unisono
from unisono import Pool, ProcessPool, Queue, ThreadPool, UsageError

LONG = 60


def records():
    return json.loads(drop_in.RECORDS.read_text())


def test_the_page_says_what_comparing_the_classes_finds():
    assert drop_in.PAGE.read_text() == drop_in.page(records()), (
        f"`{sys.executable} {drop_in.__file__} --write` makes it"
    )


@pytest.mark.parametrize("version", sorted(records()))
def test_the_record_of_each_interpreter_is_what_it_has(version):
    if version == drop_in.VERSION:
        assert json.loads(json.dumps(drop_in.record())) == records()[version]
        return
    pyenv = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")
    pythons = [*map(str, pyenv), shutil.which(f"python{version}") or "false"]
    python = next((one for one in pythons if not subprocess.run([one, "-c", ""], check=False).returncode), None)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    done = subprocess.run([python, drop_in.__file__], capture_output=True, check=True, timeout=LONG)
    assert json.loads(done.stdout) == records()[version]


def test_a_page_that_is_not_true_is_not_made(monkeypatch):
    newest = records()
    newest["3.13"]["queue.Queue"]["peek"] = "attribute"
    with pytest.raises(LookupError, match=r"queue.Queue.peek is absent, and NOTES does not say why"):
        drop_in.page(newest)
    changed = records()
    changed["3.13"]["queue.Queue"]["put_nowait"]["parameters"].append(["timeout", "KEYWORD_ONLY", "None"])
    with pytest.raises(LookupError, match=r"queue.Queue.put_nowait: `timeout` is not taken by name"):
        drop_in.page(changed)
    moved = records()
    moved["3.13"]["concurrent.futures.ThreadPoolExecutor"]["()"].reverse()
    with pytest.raises(LookupError, match=r"ThreadPoolExecutor.*is at another place"):
        drop_in.page(moved)


# What became the same.


def remember(value):
    os.environ["UNISONO_TEST_REMEMBERED"] = value


def recall(_=None):
    return os.environ.get("UNISONO_TEST_REMEMBERED")


def pids(_):
    return os.getpid()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_executor_of_processes_takes_its_arguments_by_position(method):
    context = multiprocessing.get_context(method)
    with ProcessPool(2, context, remember, ("a",)) as pool:
        assert pool.submit(recall).result(LONG) == "a"
        assert repr(pool).startswith("<ProcessPool workers=2 start_method=")
    with pytest.raises(UsageError, match="mp_context is what multiprocessing"):
        ProcessPool(2, "spawn")
    with pytest.raises(UsageError, match="same option"):
        ProcessPool(2, context, context=context)


def test_a_pool_takes_its_arguments_by_position():
    with Pool(1, remember, ("b",), 5, multiprocessing.get_context("forkserver")) as pool:
        assert pool.map(recall, range(2)) == ["b", "b"]


def fail_at_two(number):
    if number == 2:
        raise TimeoutError(number)
    return number


@pytest.fixture(params=["Pool", "ThreadPool"])
def pool(request):
    made = Pool(2) if request.param == "Pool" else ThreadPool(processes=2)
    with made:
        yield made


@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_iterator_of_imap_waits_as_long_as_it_is_told_and_goes_on_behind_an_error(pool, chunksize):
    results = pool.imap(fail_at_two, range(5), chunksize=1)
    assert [results.next(LONG), next(results)] == [0, 1]
    with pytest.raises(TimeoutError) as raised:
        results.next(timeout=LONG)
    # That was its own error, and no wait that was too long.
    assert not isinstance(raised.value, multiprocessing.TimeoutError)
    assert list(results) == [3, 4]
    for ended in (results.next, results.__next__):
        with pytest.raises(StopIteration):
            ended()
    assert list(pool.imap(abs, range(-5, 0), chunksize)) == [5, 4, 3, 2, 1]
    assert sorted(pool.imap_unordered(abs, range(-5, 0), chunksize)) == [1, 2, 3, 4, 5]


def wait_for(path):
    while not os.path.exists(path):
        os.sched_yield()
    return path


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_a_wait_that_was_too_long_loses_no_result(pool, name, tmp_path):
    path = str(tmp_path / "go")
    results = getattr(pool, name)(wait_for, [path])
    for _ in range(2):
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(0.001)
    (tmp_path / "go").touch()
    assert results.next(LONG) == path


def note(path):
    with open(path, "x"):
        pass


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_leaving_an_iterator_of_imap_early_cancels_nothing(pool, name, tmp_path):
    paths = [str(tmp_path / str(number)) for number in range(50)]
    for _ in getattr(pool, name)(note, paths):
        break
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 50


def test_what_an_iterable_raises_comes_behind_the_results():
    def items():
        yield 1
        yield 2
        raise LookupError("the input has ended early")

    with Pool(1) as pool:
        for call in (pool.imap, pool.imap_unordered):
            for chunksize in (1, 2):
                results = call(abs, items(), chunksize)
                assert sorted([next(results), next(results)]) == [1, 2]
                with pytest.raises(LookupError, match="ended early"):
                    next(results)
                with pytest.raises(StopIteration):
                    next(results)


def test_an_executor_of_threads_has_the_calls_of_a_pool_of_threads():
    told = []
    with ThreadPool(processes=2) as pool:
        assert pool.apply(divmod, (7, 2)) == (3, 1)
        assert pool.apply(int, ("ff",), {"base": 16}) == 255
        assert pool.starmap(pow, [(2, 3), (3, 2)], 1) == [8, 9]
        assert pool.map_async(abs, [-1, -2], None, told.append).get(LONG) == [1, 2]
        result = pool.apply_async(int, ("x",), error_callback=told.append)
        with pytest.raises(ValueError, match="invalid literal"):
            result.get(LONG)
        assert (result.ready(), result.successful()) == (True, False)
        assert pool.starmap_async(pow, [(2, 2)]).get(LONG) == [4]
        assert told[0] == [1, 2]
        assert isinstance(told[1], ValueError)
        pool.close()
        for call in (pool.apply, pool.apply_async):
            # As an executor has it, and as `multiprocessing.pool` does.
            for kind in (RuntimeError, ValueError):
                with pytest.raises(kind):
                    call(abs, (1,))
        pool.join()
    with pytest.raises(UsageError, match="processes and max_workers are the same option"):
        ThreadPool(2, processes=2)


def test_a_pool_of_threads_that_is_terminated_begins_nothing_more():
    begun, leave = threading.Event(), threading.Event()
    pool = ThreadPool(1)
    running = pool.apply_async(lambda: begun.set() or leave.wait(LONG))
    begun.wait(LONG)
    waiting = pool.submit(abs, 1)
    pool.terminate()
    assert waiting.cancelled()
    leave.set()
    assert running.get(LONG)


# Subclasses with hooks.


@pytest.mark.parametrize("hook", ["_init", "_put", "_get", "_qsize"])
@pytest.mark.parametrize("bases", [(Queue,), (Queue, dict)], ids=["alone", "with another class"])
def test_a_queue_whose_subclass_has_hooks_of_the_standard_one_is_refused(hook, bases):
    with pytest.raises(UsageError, match=rf"Mine.{hook} would never be called: items lie in a line"):
        type("Mine", bases[:1], {hook: lambda self, *_: None, "__qualname__": "Mine"})


@pytest.mark.parametrize("standard", [queue.PriorityQueue, asyncio.LifoQueue])
def test_a_hook_that_is_mixed_in_is_refused_as_well(standard):
    mixed = type("Mixed", (), {"_put": standard._put})
    with pytest.raises(UsageError, match="would never be called"):
        type("Mine", (mixed, Queue), {})


@pytest.mark.parametrize(
    ("base", "hook"),
    [
        (Pool, "Process"),
        (ProcessPool, "_spawn_process"),
        (ProcessPool, "_adjust_process_count"),
        (ThreadPool, "_adjust_thread_count"),
    ],
)
def test_a_pool_whose_subclass_makes_its_own_workers_is_refused(base, hook):
    with pytest.raises(UsageError, match="would never be called"):
        type("Mine", (base,), {hook: lambda self: None})


def test_other_subclasses_are_as_good_as_ever():
    class Counting(Queue):
        def put(self, item, block=True, timeout=None):
            super().put((item, self.qsize()), block, timeout)

    class Named(ThreadPool):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(fn, *args, **kwargs)

    counting = Counting()
    counting.put("a")
    assert counting.get() == ("a", 0)
    with Named(1) as pool:
        assert isinstance(pool, concurrent.futures.ThreadPoolExecutor)
        assert list(pool.map(abs, [-1])) == [1]


def test_a_queue_says_that_it_is_shut_down_by_both_names():
    items = Queue()
    assert not items.is_shutdown
    items.shutdown()
    assert items.is_shutdown
    assert items.closed
    assert unisono.Queue is Queue
