"""What is handed to workers as they start, and what a result may do when it is read."""

import contextlib
import multiprocessing
import signal
import subprocess
import sys
import threading

import pytest

import unisono
from unisono.errors import RemoteError, UnpicklableError

LONG = 60
PROGRAM = """
import multiprocessing, sys, unisono
def take(*given): globals().update(zip(names, given))
names = ["lock", "queue", "event", "value", "pipe", "simple"]
def count():
    for _ in range(200):
        with lock:
            now = value.value
            value.value = now + 1
    queue.put(("put", event.wait(60)))
    simple.put("simple")
    with lock: pipe.send("sent")
if __name__ == "__main__":
    method = sys.argv[1]
    context = multiprocessing.get_context({"zygote": "forkserver"}.get(method, method))
    value = context.Value("i", lock=False) if method == "fork" else context.Value("i")
    ours, theirs = context.Pipe(duplex=False)
    given = (context.Lock(), context.Queue(), context.Event(), value, theirs, context.SimpleQueue())
    with unisono.ProcessPool(2, start_method=method, initializer=take, initargs=given, max_tasks_per_child=2) as pool:
        futures = [pool.submit(count) for _ in range(6)]
        given[2].set()
        print([given[1].get(timeout=60) for _ in futures])
        for future in futures: future.result()
        print(value.value, [ours.recv() for _ in futures], [given[5].get() for _ in futures])
"""


@pytest.mark.parametrize("method", ["zygote", "spawn", "fork"])
def test_queues_locks_and_values_of_multiprocessing_may_be_arguments_of_the_initializer(method, tmp_path):
    # A program of its own: multiprocessing keeps a process for them until the end of the program.
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    words = [sys.executable, path, method]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False)
    expected = f"{[('put', True)] * 6}\n1200 {['sent'] * 6} {['simple'] * 6}\n"
    assert (done.stdout, done.stderr) == (expected, "")


@pytest.mark.parametrize("method", ["zygote", "spawn"])
def test_so_they_may_when_the_initializer_is_a_function_that_only_cloudpickle_pickles(method, tmp_path):
    pytest.importorskip("cloudpickle")
    path = tmp_path / "program.py"
    path.write_text(
        """
import multiprocessing, socket, sys, unisono
def main():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    mine, yours = socket.socketpair()
    given = {"queue": context.Queue(), "pipe": theirs, "value": context.Value("i", 3), "socket": yours}
    def use(name, then):
        with unisono.ProcessPool(
            1, start_method=sys.argv[1], initializer=lambda given: setattr(sys, "given", given), initargs=(given[name],)
        ) as pool:
            return pool.submit(lambda: then(sys.given)).result(60)
    print(use("queue", lambda queue: queue.put(1)), given["queue"].get(timeout=60))
    print(use("pipe", lambda pipe: pipe.send(2)), ours.poll(60) and ours.recv())
    print(use("value", lambda value: value.value))
    print(use("socket", lambda socket: socket.sendall(b"4")), mine.recv(1))
if __name__ == "__main__":
    main()
"""
    )
    words = [sys.executable, path, method]
    done = subprocess.run(words, capture_output=True, text=True, timeout=2 * LONG, check=False)
    assert (done.stdout, done.stderr) == ("None 1\nNone 2\n3\nNone b'4'\n", "")


def test_what_only_the_pool_still_holds_is_there_for_each_new_worker(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        """
import multiprocessing, unisono
def take(given): globals()["lock"] = given
def use(number):
    with lock: return number
if __name__ == "__main__":
    given = (multiprocessing.get_context("spawn").Lock(),)
    pool = unisono.ProcessPool(1, initializer=take, initargs=given, max_tasks_per_child=1)
    del given
    print([pool.submit(use, number).result() for number in range(3)])
    pool.shutdown()
"""
    )
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.stdout, done.stderr) == ("[0, 1, 2]\n", "")


def test_a_lock_that_only_forks_inherit_is_refused_and_it_is_said_what_to_do():
    lock = multiprocessing.get_context("fork").Lock()
    with pytest.raises(UnpicklableError, match=r"fork context.*get_context\(.spawn.\).*start_method=.fork."):
        unisono.ProcessPool(initializer=print, initargs=(lock,))


def test_an_argument_of_a_task_is_refused_as_before_and_fails_its_task_alone():
    lock = multiprocessing.get_context("fork").Lock()
    with unisono.ProcessPool(1) as pool:
        with pytest.raises(UnpicklableError, match="through inheritance"):
            pool.submit(print, lock).result(LONG)
        assert pool.submit(abs, -1).result(LONG) == 1


def raise_here(kind):
    raise kind("when it is read")


class Odd:
    """Read in the program, it raises."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return raise_here, (self.kind,)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, LookupError])
def test_whatever_a_result_raises_when_it_is_read_fails_its_own_task_and_nothing_else(kind):
    with unisono.ProcessPool(1) as pool:
        future = pool.submit(Odd, kind)
        with pytest.raises(UnpicklableError, match="when it is read") as caught:
            future.result(LONG)
        assert isinstance(caught.value.__cause__, kind)
        with pytest.raises(UnpicklableError):
            list(pool.map(Odd, [kind]))
        told = threading.Event()
        called = []
        watched = pool.submit(Odd, kind)
        watched.add_done_callback(lambda future: (called.append(future.exception()), told.set()))
        assert told.wait(LONG)
        assert isinstance(called[0], UnpicklableError)
        assert pool.submit(abs, -1).result(LONG) == 1


def raise_odd(kind):
    raise OddRaised(kind)


class OddRaised(Exception):
    def __init__(self, kind):
        super().__init__(kind)

    def __reduce__(self):
        return make_or_raise, (multiprocessing.current_process().name, self.args[0])


def make_or_raise(made_in, kind):
    if multiprocessing.current_process().name != made_in:
        raise kind("when it is read")
    return OddRaised(kind)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_error_that_raises_when_it_is_read_comes_as_its_text(kind):
    with unisono.ProcessPool(1) as pool:
        with pytest.raises(RemoteError, match="OddRaised"):
            pool.submit(raise_odd, kind).result(LONG)
        assert pool.submit(abs, -1).result(LONG) == 1


class TwoArguments(Exception):
    """Pickled it cannot be read."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class OddInAGroup(OddRaised):
    """Read in the worker, and not in the program."""

    def __reduce__(self):
        return make_or_raise, (multiprocessing.current_process().name, SystemExit)


def raise_a_group(kind):
    odd = kind(1, 2) if kind is TwoArguments else kind("odd")
    odd.add_note("the odd one")
    good = LookupError("the good one")
    good.add_note("has a note")
    group = BaseExceptionGroup("both", [good, odd, ExceptionGroup("inner", [ValueError("deep")])])
    group.add_note("of the group")
    raise group


class Forgetful(Exception):
    """Its own pickle leaves its notes out."""

    def __reduce__(self):
        return Forgetful, self.args


def raise_forgetful():
    error = Forgetful("what was it")
    error.add_note("a note")
    raise error


@pytest.mark.parametrize(("kind", "read_as"), [(TwoArguments, RemoteError), (OddInAGroup, RemoteError)])
def test_of_a_group_with_a_member_that_cannot_be_read_the_rest_is_kept_and_all_notes(kind, read_as):
    with unisono.ProcessPool(1) as pool:
        group = pool.submit(raise_a_group, kind).exception(LONG)
        forgetful = pool.submit(raise_forgetful).exception(LONG)
    assert (type(group), group.message, group.__notes__) == (ExceptionGroup, "both", ["of the group"])
    good, odd, inner = group.exceptions
    assert (type(good), good.__notes__, str(inner.exceptions[0])) == (LookupError, ["has a note"], "deep")
    assert (type(odd), odd.__notes__) == (read_as, ["the odd one"])
    assert (type(forgetful), forgetful.__notes__) == (Forgetful, ["a note"])


class Interrupted:
    """Ctrl-C is pressed while it is read."""

    def __reduce__(self):
        return press, ()


def press():
    if multiprocessing.current_process().name == "MainProcess":
        signal.raise_signal(signal.SIGINT)
    return "read"


def test_ctrl_c_while_a_result_is_read_is_not_taken_for_the_results_own():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with unisono.ProcessPool(1) as pool:
            future = pool.submit(Interrupted)
            # It comes as soon as code of Python's runs again.
            with pytest.raises(KeyboardInterrupt), contextlib.suppress(UnpicklableError):
                future.result(LONG)
            assert isinstance(future.exception(LONG), UnpicklableError)
            assert pool.submit(abs, -1).result(LONG) == 1
    finally:
        signal.signal(signal.SIGINT, before)
