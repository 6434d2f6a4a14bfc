"""Numbers that are none are refused wherever one is given; and what objects of ours say of themselves."""

import asyncio
import threading
from datetime import timedelta

import numpy
import pytest

import unisono
from unisono import (
    AsyncClient,
    Client,
    Headers,
    Limiter,
    Pool,
    ProcessPool,
    Queue,
    Request,
    ThreadPool,
    UsageError,
    batch,
    commands,
    files,
    retry,
)

LONG = 60

# Where a whole number is asked for: how it is given, what it is called, and the least.
WHOLE = [
    (lambda value: Limiter(value), "limit", 1),
    (lambda value: Limiter(per_key=value), "per_key", 1),
    (lambda value: setattr(Limiter(1), "limit", value), "limit", 1),
    (lambda value: Limiter(1).set_limits(per_key=value), "per_key", 1),
    (lambda value: retry(retry_on=OSError, retries=value), "retries", 0),
    (lambda value: Client(limit=value), "limit", 1),
    (lambda value: Client(retries=value), "retries", 0),
    (lambda value: Client(max_redirects=value), "max_redirects", 0),
    (lambda value: AsyncClient(per_host=value), "per_host", 1),
    (lambda value: with_client(value), "per_host", 1),
    (lambda value: unisono.fetch(["http://h/"], limit=value).run(), "limit", 1),
    (lambda value: unisono.fetch(["http://h/"], max_failures=value).run(), "max_failures", 0),
    (lambda value: unisono.fetch(["http://h/"], canary=value).run(), "canary", 1),
    (lambda value: unisono.fetch(["http://h/"], max_body=value).run(), "max_body", 0),
    (lambda value: unisono.fetch(["http://h/"], paginate="link", max_pages=value).run(), "max_pages", 0),
    (lambda value: unisono.fetch(["http://h/"], retry_budget=value).run(), "retry_budget", 0),
    (lambda value: batch(len, ["a"], limit=value).run(), "limit", 1),
    (lambda value: batch(len, ["a"], key=str, per_key=value).run(), "per_key", 1),
    (lambda value: batch(len, ["a"], retries=value).run(), "retries", 0),
    (lambda value: setattr(unrun(batch(len, ["a"])), "limit", value), "limit", 1),
    (lambda value: unrun(batch(len, ["a"])).set_limits(per_key=value), "per_key", 1),
    (lambda value: commands.each(["true"], items=["a"], limit=value).run(), "limit", 1),
    (lambda value: commands.each(["true"], items=["a"], max_output=value).run(), "max_output", 0),
    (lambda value: files.digest(["a"], limit=value).run(), "limit", 1),
    (lambda value: list(files.walk("a", max_depth=value)), "max_depth", 0),
    (lambda value: ThreadPool(value), "max_workers", 1),
    (lambda value: ThreadPool(1, max_pending=value), "max_pending", 1),
    (lambda value: ThreadPool(1).imap(len, [], value), "chunksize", 1),
    (lambda value: ThreadPool(processes=value), "processes", 1),
    (lambda value: ProcessPool(value), "workers", 1),
    (lambda value: ProcessPool(max_workers=value), "max_workers", 1),
    (lambda value: ProcessPool(processes=value), "processes", 1),
    (lambda value: ProcessPool(1, maxtasksperchild=value), "maxtasksperchild", 1),
    (lambda value: ProcessPool(1, max_tasks_per_child=value), "max_tasks_per_child", 1),
    (lambda value: ProcessPool(1, max_pending=value), "max_pending", 1),
    (lambda value: ProcessPool(1, memory_limit=value), "memory_limit", 1),
    (lambda value: ProcessPool(1, per_key=value), "per_key", 1),
    (lambda value: with_pool(value), "retries", 0),
    (lambda value: Pool(value), "processes", 1),
    (lambda value: unisono.spawn(len, "a", memory_limit=value), "memory_limit", 1),
    (lambda value: Pool(1, maxtasksperchild=value), "maxtasksperchild", 1),
    (lambda value: Queue().get_many(value), "count", 1),
    (lambda value: asyncio.run(Queue().aget_many(value)), "count", 1),
    (lambda value: Queue().task_done(value), "count", 0),
    (lambda value: unisono.explain(len, ["a"], repeat=value), "repeat", 1),
    (lambda value: unisono.explain(len, ["a"], max_workers=value), "max_workers", 2),
    (lambda value: unisono.clusters.connect("dask://h:1", limit=value), "limit", 1),
]
# Where a number of seconds is.
SECONDS = [
    (lambda value: retry(retry_on=OSError, deadline=value), "deadline"),
    (lambda value: retry(retry_on=OSError, base=value), "base"),
    (lambda value: Client(timeout=value), "timeout"),
    (lambda value: Client(connect_timeout=value), "connect_timeout"),
    (lambda value: unisono.fetch(["http://h/"], stop_after=value).run(), "stop_after"),
    (lambda value: batch(len, ["a"], timeout=value).run(), "timeout"),
    (lambda value: batch(len, ["a"], grace=value).run(), "grace"),
    (lambda value: commands.each(["true"], items=["a"], kill_after=value).run(), "kill_after"),
    (lambda value: ThreadPool(1, idle_timeout=value), "idle_timeout"),
    (lambda value: ThreadPool(1, warn_after=value), "warn_after"),
    (lambda value: with_task(value), "timeout"),
    (lambda value: Queue().get(timeout=value), "timeout"),
    (lambda value: Queue().get_many(1, timeout=value), "timeout"),
    (lambda value: filled().put(2, timeout=value), "timeout"),
    (lambda value: filled().get_many(2, max_wait=value), "max_wait"),
    (lambda value: filled().join(value), "timeout"),
    (lambda value: unisono.explain(len, ["a"], budget=value), "budget"),
    (lambda value: with_job(value), "grace"),
    (lambda value: unisono.clusters.connect("dask://h:1", wait=value), "wait"),
]


def with_client(value):
    with Client() as client:
        client.set_limits(per_host=value)


def unrun(made):
    """A batch that is not wanted."""
    made.close()
    return made


def with_pool(value):
    with ProcessPool(1) as pool:
        pool.task(retries=value)


def with_task(value):
    with ProcessPool(1) as pool:
        pool.task(timeout=value)


def with_job(value):
    with unisono.spawn(len, "a") as job:
        job.terminate(grace=value)


def filled():
    items = Queue(1)
    items.put(1)
    return items


@pytest.mark.parametrize(("give", "name", "least"), WHOLE, ids=[f"{at}-{one[1]}" for at, one in enumerate(WHOLE)])
def test_what_is_no_whole_number_is_refused_with_its_name_and_value(give, name, least):
    for value in (True, 2.5, float("nan"), "7 of them", [1], numpy.bool_(True)):
        if isinstance(value, str) and name in ("max_body", "max_output"):
            continue
        with pytest.raises(UsageError) as raised:
            give(value)
        assert str(raised.value).startswith((name, f"{name}:"))
        assert str(value) in str(raised.value)
    for value in (least - 1, -(10**30)):
        with pytest.raises(UsageError) as raised:
            give(value)
        assert name in str(raised.value)
        assert str(value) in str(raised.value)
    with pytest.raises(UsageError, match=name):
        give(10**30)


@pytest.mark.parametrize(("give", "name"), SECONDS, ids=[f"{at}-{one[1]}" for at, one in enumerate(SECONDS)])
def test_what_is_no_number_of_seconds_is_refused_with_its_name_and_value(give, name):
    for value in (True, float("nan"), -1, -0.5, [1]):
        with pytest.raises(UsageError) as raised:
            give(value)
        assert name in str(raised.value)
        assert str(value) in str(raised.value)


# What time has no end, and what is to be given for no limit there; none where there is no such thing.
ENDLESS = [
    (lambda value: retry(retry_on=OSError, deadline=value), "deadline", '"none"'),
    (lambda value: Client(timeout=value), "timeout", '"none"'),
    (lambda value: batch(len, ["a"], timeout=value).run(), "timeout", '"none"'),
    (lambda value: batch(len, ["a"], stop_after=value).run(), "stop_after", '"none"'),
    (lambda value: ThreadPool(1, idle_timeout=value), "idle_timeout", "None"),
    (lambda value: ThreadPool(1, warn_after=value), "warn_after", "None"),
    (lambda value: with_task(value), "timeout", "None"),
    (lambda value: retry(retry_on=OSError, base=value), "base", None),
    (lambda value: Client(connect_timeout=value), "connect_timeout", None),
    (lambda value: unisono.explain(len, ["a"], budget=value), "budget", None),
    (lambda value: with_job(value), "grace", None),
    (lambda value: asyncio.run(filled().aget_many(2, max_wait=value)), "max_wait", None),
]


@pytest.mark.parametrize(("give", "name", "way_out"), ENDLESS, ids=[f"{at}-{one[1]}" for at, one in enumerate(ENDLESS)])
def test_a_time_without_an_end_is_refused_with_what_is_wrong_and_what_to_give_for_no_limit(give, name, way_out):
    hint = "" if way_out is None else f"; for no limit, give {way_out}"
    with pytest.raises(UsageError) as raised:
        give(float("inf"))
    assert str(raised.value) == f"{name} must be a time with an end, not inf{hint}"
    for value in (1e300, 10**400):
        with pytest.raises(UsageError) as raised:
            give(value)
        assert str(raised.value).startswith(f"{name} must be less than 3153600000 seconds (100 years), not 1")
        assert str(raised.value).endswith(hint)
    for value in (float("nan"), float("-inf"), -(10**400), True):
        with pytest.raises(UsageError, match=f"^{name} must be a number of seconds, (at least|above) 0, not "):
            give(value)


def test_no_limit_is_what_the_message_says_it_is():
    assert batch(len, ["a"], timeout="none", stop_after="none", deadline="none").run().ok == 1
    assert retry(retry_on=OSError, deadline="none")(len)("a") == 1
    with ThreadPool(1, idle_timeout=None, warn_after=None) as pool:
        assert pool.submit(len, "a").result(LONG) == 1
    with ProcessPool(1) as pool:
        assert pool.task(timeout=None).submit(len, "a").result(LONG) == 1


def test_a_timedelta_is_a_time_as_seconds_are():
    assert commands.run(["sleep", "60"], timeout=timedelta(milliseconds=1)).kind == "timed_out"
    assert unisono.batch(abs, [-1], deadline=timedelta(minutes=1), stop_after=timedelta(hours=1)).run().ok == 1
    unisono.retry(retry_on=OSError, base=timedelta(milliseconds=1), deadline=timedelta(seconds=1))
    with pytest.raises(UsageError, match=r"timeout must be a number of seconds, at least 0"):
        unisono.Client(timeout=timedelta(seconds=-1))


@pytest.mark.parametrize("make", [ProcessPool, ThreadPool, Pool])
def test_a_number_of_workers_is_called_what_the_caller_calls_it(make):
    own = {ProcessPool: "workers", ThreadPool: "max_workers", Pool: "processes"}[make]
    names = {ProcessPool: ("workers", "max_workers", "processes"), ThreadPool: ("max_workers", "processes")}
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"^{own} must be greater than 0, not {number}$"):
            make(number)
        for name in names.get(make, ("processes",)):
            with pytest.raises(ValueError, match=f"^{name} must be greater than 0, not {number}$"):
                make(**{name: number})


def test_a_whole_number_of_another_library_is_one():
    limiter = Limiter(numpy.int64(3), per_key=numpy.uint8(2))
    assert limiter.limit == 3
    assert Queue(numpy.int16(2)).maxsize == 2
    with ThreadPool(numpy.int64(1)) as pool:
        assert pool.max_workers == 1


def test_a_value_that_is_long_is_cut_and_one_that_writes_to_the_terminal_is_escaped():
    with pytest.raises(UsageError) as raised:
        Limiter("\x1b[2J" + "x" * 1000)
    assert len(str(raised.value)) < 120
    assert "\x1b" not in str(raised.value)
    with pytest.raises(UsageError, match="limit must be at most"):
        Limiter(10**5000)


def test_a_queue_is_without_bound_as_in_the_standard_library_when_its_bound_is_negative():
    for maxsize in (0, -1):
        items = Queue(maxsize)
        items.put_nowait(1)
        assert not items.full()
    for maxsize in (True, 1.5, None, "3"):
        with pytest.raises(UsageError, match="maxsize must be a whole number"):
            Queue(maxsize)


def test_a_method_that_is_no_text_is_an_error_and_not_sent(server):
    outcome = unisono.fetch([{"url": f"{server.url}/items/1", "method": 5}]).run().outcomes[0]
    assert outcome.kind == "failed"
    assert "method must be text, not 5" in str(outcome.error)
    with Client() as client, pytest.raises(UsageError, match="method must be text, not 5"):
        client.request(5, f"{server.url}/items/1")
    with pytest.raises(UsageError, match="method must be text, not 5"):
        Request(f"{server.url}/items/1", method=5)
    assert server.requests == []


def test_a_value_of_a_header_or_parameter_is_its_text_or_refused(server):
    request = Request("http://h/", headers={"a": b"caf\xc3\xa9", "b": 5, "c": ["x", b"y"]}, params={"q": 1.5})
    assert request.headers == [("a", "café"), ("b", "5"), ("c", "x"), ("c", "y")]
    for options in ({"headers": {"a": None}}, {"params": {"a": b"\xff"}}, {"headers": {"a": b"\xff"}}):
        with pytest.raises(UsageError, match="`a`"):
            Request("http://h/", **options)
    outcome = unisono.fetch([{"url": f"{server.url}/items/1", "headers": {"a": None}}]).run().outcomes[0]
    assert outcome.kind == "failed"
    assert server.requests == []


def test_headers_are_asked_as_a_dict_of_text_is():
    headers = Headers([("A", "1")])
    assert "a" in headers
    for other in (5, None, b"a", ("a",)):
        assert other not in headers
        assert headers.get(other) is None
        with pytest.raises(KeyError):
            headers[other]


# What objects say of themselves.


def test_a_limiter_shows_its_bounds_and_who_is_there():
    limiter = Limiter(10, rate="100/s burst 20", per_key=2)
    with limiter:
        assert repr(limiter) == "<Limiter limit=10 per_key=2 rate=100/s burst 20 inside=1 waiting=0>"
    assert repr(Limiter()) == "<Limiter inside=0 waiting=0>"
    assert repr(limiter.of("web-1")) == f"{limiter!r}.of('web-1')"


def test_a_client_shows_where_it_goes_without_what_is_secret():
    with Client(base_url="http://me:secret@h/v1", auth=("me", "secret")) as client:
        assert "secret" not in repr(client)
        assert repr(client).endswith("open>")
    assert repr(client).endswith("closed>")

    async def main():
        async with AsyncClient() as client:
            assert repr(client) == "<AsyncClient open>"

    asyncio.run(main())


def test_a_batch_shows_how_far_it_is():
    run = batch(len, ["a", "b"])
    assert repr(run) == "<Batch of items, not begun>"
    next(run)
    assert "of 2 done" in repr(run)
    run.run()
    assert repr(run) == "<Batch of items, ended: 2 outcomes, 2 ok>"


def test_pools_show_what_they_do():
    go_on = threading.Event()
    with ThreadPool(2) as pool:
        begun = threading.Event()
        task = pool.submit(lambda: begun.set() or go_on.wait(LONG))
        begun.wait(LONG)
        assert repr(pool) == "<ThreadPool max_workers=2 threads=1 busy=1 pending=0>"
        go_on.set()
        task.result(LONG)
    assert repr(pool).endswith("closed>")
    with Pool(1) as workers:
        assert repr(workers) == "<Pool workers=1 start_method=zygote open=0>"
        result = workers.map_async(abs, [-1, 2])
        assert result.get(LONG) == [1, 2]
        assert repr(result) == "<AsyncResult done>"
    assert repr(Queue(3)) == "<Queue items=0 maxsize=3>"
    assert repr(retry(retry_on=(OSError, KeyError))) == "<retry of OSError, KeyError, at most 3 times>"
