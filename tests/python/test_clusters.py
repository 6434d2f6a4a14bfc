"""What `unisono.batch` promises on every kind of cluster: on a Dask and a Ray cluster, both real, on loopback.

What only one of them can, or does otherwise, is in its own file.
"""

import asyncio
import json
import os
import sys
import threading
import time
from array import array
from collections import Counter

import cloudpickle
import pytest

from support.clusters import Cluster, begun, killing, ray_head, results
from support.processes import PATIENCE, until
from unisono import FunctionAmbiguous, RemoteError, batch, clusters
from unisono.clusters import _executor

# Workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module", params=["dask", "ray"])
def executor(request, tmp_path_factory):
    """Two workers, which are replaced when they die; those of Dask have two threads each."""
    if request.param == "dask":
        with Cluster(tmp_path_factory.mktemp("dask")) as cluster:
            cluster.start_two(threads=2)
            with clusters.connect(cluster.address) as executor:
                yield executor
    else:
        with ray_head() as (_, port), clusters.connect(f"ray://127.0.0.1:{port}", limit=2) as executor:
            yield executor


@pytest.fixture
def notes(tmp_path):
    """Where calls on any worker of this machine note that they have begun."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def triple(number):
    return 3 * number


# Where calls run.


def test_calls_are_made_by_the_workers_and_every_outcome_comes_back(executor):
    report = batch(lambda number: (number, os.getpid()), range(200), executor=executor, keep_order=True).run()
    assert [outcome.result[0] for outcome in report.outcomes] == list(range(200))
    assert os.getpid() not in {outcome.result[1] for outcome in report.outcomes}


def test_it_works_on_an_event_loop(executor):
    async def main():
        return [outcome.result async for outcome in batch(triple, range(5), executor=executor, keep_order=True)]

    assert asyncio.run(main()) == [0, 3, 6, 9, 12]


def test_quick_calls_travel_together_and_a_slow_one_holds_back_only_itself(executor, notes):
    release = notes / "release"

    def work(number):
        if number == 150:
            while not release.exists():
                time.sleep(0.01)
        return number

    outcomes = batch(work, range(300), executor=executor, limit=300)
    first = [next(outcomes).result for _ in range(299)]
    # All but the one that is held, whatever it travelled with.
    assert sorted(first) == [number for number in range(300) if number != 150]
    release.touch()
    assert next(outcomes).result == 150


# How calls end.


def test_what_a_function_raises_comes_back_with_its_notes_and_the_frames_of_the_worker(executor):
    def fail(number):
        error = LookupError(f"no host {number}")
        error.add_note("look into the inventory")
        raise error

    (outcome,) = batch(fail, [7], executor=executor)
    assert (outcome.kind, type(outcome.error), str(outcome.error)) == ("failed", LookupError, "no host 7")
    assert outcome.error.__notes__ == ["look into the inventory"]
    assert "in fail" in str(outcome.error.__cause__)


def test_a_view_of_memory_is_one_on_the_worker_and_when_it_is_back(executor):
    given = memoryview(array("d", [1.5, 2.5]))
    (outcome,) = batch(lambda view: (view.format, view), [given], executor=executor)
    kind, back = outcome.result
    assert (kind, type(back), back) == ("d", memoryview, given)


def test_what_cannot_travel_is_the_outcome_of_its_own_item_alone(executor):
    def work(item):
        return threading.Lock() if item == "lock" else item

    items = ["a", "lock", threading.Lock(), "b"]
    good, answered, given, other = batch(work, items, executor=executor, keep_order=True)
    assert (good.result, other.result) == ("a", "b")
    assert "cannot be sent back" in str(answered.error)
    assert "cannot be sent to a worker" in str(given.error)


HERE = os.getpid()


def text_instead():
    return "no exception"


def raise_when_read(kind, everywhere):
    if everywhere or os.getpid() == HERE:
        raise kind("as it is read")
    return LookupError("read by a worker")


class Hostile(Exception):
    """What is raised or answered does this when it is pickled, read or shown."""

    def __init__(self, how, kind=SystemExit):
        super().__init__(how)
        self.how, self.kind = how, kind

    def __reduce__(self):
        if self.how == "pickled":
            raise self.kind("as it is pickled")
        if self.how == "text":
            return text_instead, ()
        if self.how == "shown":
            return super().__reduce__()
        return raise_when_read, (self.kind, self.how == "read everywhere")

    def __str__(self):
        if self.how == "shown":
            raise self.kind("as it is shown")
        return f"hostile: {self.how}"


class TwoArguments(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


HOW = ["pickled", "text", "read here", "read everywhere", "shown"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, LookupError])
def test_an_end_that_cannot_be_told_of_or_read_fails_its_own_item_and_nothing_else(executor, kind):
    def work(item):
        if isinstance(item, int):
            return item
        what, how = item
        if how == "two arguments":
            raise TwoArguments(1, 2)
        hostile = Hostile(how, kind)
        if what == "raise":
            raise hostile
        return hostile

    items = [*range(10), *((what, how) for what in ("raise", "answer") for how in HOW), ("raise", "two arguments")]
    outcomes = {outcome.item: outcome for outcome in batch(work, items, executor=executor, limit=8)}
    assert len(outcomes) == len(items)
    assert [outcomes[number].result for number in range(10)] == list(range(10))
    for item in items[10:]:
        outcome = outcomes[item]
        if item == ("answer", "text"):
            assert outcome.result == "no exception"
        elif item[0] == "raise" or item[1] != "shown":
            assert (outcome.kind, isinstance(outcome.error, Exception)) == ("failed", True), item
    assert "1 and 2" in str(outcomes["raise", "two arguments"].error)
    # And the next program finds it as it was.
    assert results(batch(triple, range(3), executor=executor, keep_order=True)) == [0, 3, 6]


def test_of_a_group_with_a_member_that_cannot_be_read_the_rest_is_kept_and_all_notes(executor):
    def work(_):
        odd = TwoArguments(1, 2)
        odd.add_note("the odd one")
        good = LookupError("the good one")
        good.add_note("has a note")
        group = ExceptionGroup("both", [good, odd, ExceptionGroup("inner", [ValueError("deep")])])
        group.add_note("of the group")
        raise group

    (outcome,) = batch(work, [1], executor=executor)
    group = outcome.error
    assert (type(group), group.message, group.__notes__) == (ExceptionGroup, "both", ["of the group"])
    good, odd, inner = group.exceptions
    assert (type(good), good.__notes__) == (LookupError, ["has a note"])
    assert (type(odd), odd.__notes__, "1 and 2" in str(odd)) == (RemoteError, ["the odd one"], True)
    assert str(inner.exceptions[0]) == "deep"
    assert "in work" in str(group.__cause__)


def test_a_module_that_workers_lack_is_one_error_for_each_call(executor, tmp_path, monkeypatch):
    name = f"only_here_{executor.kind}"
    (tmp_path / f"{name}.py").write_text("def work(item):\n    return item\n")
    monkeypatch.syspath_prepend(tmp_path)
    work = __import__(name).work
    outcomes = list(batch(work, range(12), executor=executor))
    assert {(outcome.kind, type(outcome.error), str(outcome.error)) for outcome in outcomes} == {
        ("failed", ModuleNotFoundError, f"No module named '{name}'")
    }
    assert len(outcomes) == 12
    # Once it is there, it is used.
    cloudpickle.register_pickle_by_value(sys.modules[name])
    assert results(batch(lambda item: work(item), [1], executor=executor)) == [1]


def test_retries_are_ours_and_see_the_exception(executor, notes):
    def work(item):
        attempt = len(list(notes.glob(f"{item}.*")))
        (notes / f"{item}.{attempt}").touch()
        if attempt < 2:
            raise ConnectionError
        return attempt

    options = {"executor": executor, "retries": 5, "retry_on": ConnectionError}
    (outcome,) = batch(work, ["flaky"], **options)
    assert (outcome.result, outcome.attempts) == (2, 3)


# Stopping.


@pytest.fixture
def patient(monkeypatch):
    """A worker that is not heard of may begin what it has; one of these is busy at most."""
    monkeypatch.setattr(_executor, "_LONGEST_WITHDRAWAL", PATIENCE)


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_nothing_begins_after_a_cancel_and_what_has_begun_ends(executor, patient, notes, on_a_loop):
    release = notes.parent / "release"

    def work(number):
        (notes / f"{number}").touch()
        while not release.exists():
            time.sleep(0.01)

    outcomes = batch(work, range(200), executor=executor, limit=200)
    reports = []

    def run():
        reports.append(asyncio.run(wait()) if on_a_loop else outcomes.run())

    async def wait():
        return await outcomes

    thread = threading.Thread(target=run)
    thread.start()
    # As many as can: all others wait for one of them to end.
    until(lambda: len(begun(notes)) == executor.width)
    outcomes.cancel()
    release.touch()
    thread.join(120)
    (report,) = reports
    assert (report.ok, report.cancelled) == (executor.width, 200 - executor.width)
    assert len(begun(notes)) == executor.width


def test_nothing_begins_once_too_many_have_failed(executor, patient, notes):
    release, is_over = notes.parent / "release", notes.parent / "over"

    def work(number):
        (notes / f"{number}").touch()
        while not release.exists():
            time.sleep(0.01)
        if number == 0:
            raise LookupError
        while not is_over.exists():
            time.sleep(0.01)

    outcomes = batch(work, range(200), executor=executor, limit=200, max_failures=1)
    failed = []
    thread = threading.Thread(target=lambda: failed.extend(outcomes))
    thread.start()
    until(lambda: len(begun(notes)) == executor.width)
    release.touch()
    # All that has not begun is taken back; the place of the one that failed may be another's before it is heard of.
    until(lambda: outcomes.progress["cancelled"] >= 200 - executor.width - 1)
    is_over.touch()
    thread.join(120)
    report = outcomes.report
    assert report.failed == 1
    assert len(begun(notes)) <= executor.width + 1
    assert report.failed + report.ok == len(begun(notes))
    assert report.total + (report.pending or 0) == 200


def test_an_executor_is_not_disturbed_by_callbacks_that_raise(executor):
    told = threading.Event()
    for kind in (SystemExit, KeyboardInterrupt, LookupError):
        future = executor.submit(triple, 1)

        def fail(_, kind=kind):
            told.set()
            raise kind

        future.add_done_callback(fail)
        assert future.result(60) == 3
        assert told.wait(60)
        told.clear()
    assert results(batch(triple, range(3), executor=executor, keep_order=True)) == [0, 3, 6]


# Workers that die.


ITEMS = [f"item-{number}" for number in range(60)]


def test_a_worker_that_is_killed_in_the_middle_loses_nothing_and_nothing_runs_twice(executor, notes, tmp_path):
    def work(item):
        return killing(notes, item)

    items = [*ITEMS[:30], "deadly", *ITEMS[30:]]
    out = tmp_path / "results.jsonl"
    report = batch(work, items, executor=executor, limit=16, out=out).run()
    assert report.ok + report.ambiguous == report.total == 61
    assert report.ambiguous >= 1
    assert max(begun(notes).values()) == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(line["item"] for line in lines) == sorted(items)
    lost = {line["item"] for line in lines if line["outcome"] == "ambiguous"}
    assert "deadly" in lost
    # A program that says so has what was lost called again, and only that.
    again = batch(work, items, executor=executor, out=out, retry_ambiguous=True).run()
    assert again.kept["ok"] == 61 - len(lost)
    assert (again.ok, again.ambiguous) == (61, 0)
    assert all(count == 1 for item, count in begun(notes).items() if item not in lost)


def test_the_outcome_of_a_lost_call_says_that_nobody_knows(executor, notes):
    (outcome,) = batch(lambda item: killing(notes, item), ["deadly"], executor=executor)
    assert (outcome.kind, outcome.attempts, outcome.error.kind) == ("ambiguous", 1, "died")
    assert isinstance(outcome.error, FunctionAmbiguous)
    assert "has gone" in str(outcome.error) or executor.kind == "ray"


@pytest.mark.parametrize("options", [{"idempotent": True}, {"retries": 2}], ids=["idempotent", "retries"])
def test_a_lost_call_is_made_again_when_that_is_allowed(executor, notes, options):
    (outcome,) = batch(lambda item: killing(notes, item), ["deadly"], executor=executor, **options)
    assert (outcome.kind, outcome.result) == ("ok", "deadly")
    assert begun(notes) == Counter({"deadly": 2})
