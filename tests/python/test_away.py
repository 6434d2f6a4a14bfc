"""Hosts that are away, deadlines and order per key: functions and commands under the engine."""

import contextlib
import http.server
import socket
import threading
from collections import Counter

import pytest

import unisono
from unisono import UsageError, batch


class Flaky:
    """Something that refuses connections until it has been asked so many times, and then listens."""

    def __init__(self, refusals):
        self._held = socket.socket()
        self._held.bind(("127.0.0.1", 0))
        self.port = self._held.getsockname()[1]
        self._left = refusals
        self._lock = threading.Lock()
        self.refused = 0

    def connect(self, item):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10):
                return item
        except ConnectionRefusedError:
            with self._lock:
                self.refused += 1
                if self.refused == self._left:
                    self._held.listen(100)
                    threading.Thread(target=self._accept, daemon=True).start()
            raise

    def _accept(self):
        while True:
            try:
                self._held.accept()[0].close()
            except OSError:
                return

    def close(self):
        # A thread that waits in `accept` is woken by this, and not by closing alone.
        with contextlib.suppress(OSError):
            self._held.shutdown(socket.SHUT_RDWR)
        self._held.close()


@pytest.fixture
def flaky():
    host = Flaky(8)
    yield host
    host.close()


@pytest.mark.parametrize("executor", ["threads", "loop"])
def test_functions_wait_for_a_host_that_is_away_and_what_met_nobody_counts_for_nothing(flaky, executor):
    async def connect(item):
        return flaky.connect(item)

    report = batch(
        connect if executor == "loop" else flaky.connect,
        range(200),
        **({} if executor == "loop" else {"executor": executor}),
        key=lambda _: "host",
        per_key=4,
        away_on=ConnectionRefusedError,
    ).run()
    assert (report.ok, report.failed, report.retries) == (200, 0, 0)
    # Four at first, and then one after the other: none burns against a host that is not there.
    assert flaky.refused == 8


def test_a_host_that_stays_away_costs_its_own_items_and_no_others(flaky):
    def work(item):
        if item % 2:
            raise ConnectionRefusedError(f"nobody is there for {item}")
        return item

    outcomes = list(
        batch(
            work,
            range(100),
            executor="threads",
            key=lambda item: item % 2,
            away_on=lambda error: isinstance(error, ConnectionError),
            host_away=0.3,
        )
    )
    assert Counter(outcome.kind for outcome in outcomes) == {"ok": 50, "failed": 50}
    # What was called has what it raised to show, and what never was says why.
    errors = [outcome.error for outcome in outcomes if not outcome.ok]
    assert all(isinstance(error, ConnectionRefusedError) or error.kind == "away" for error in errors)


def test_items_of_a_key_go_one_after_the_other_when_asked_even_while_the_first_is_repeated():
    begun = []

    def work(item):
        begun.append(item)
        if begun.count(item) < 3:
            raise OSError("not yet")

    report = batch(
        work,
        range(30),
        executor="threads",
        key=lambda item: item % 3,
        ordered_by_key=True,
        retries=3,
    ).run()
    assert report.ok == 30
    for key in range(3):
        assert [item for item in begun if item % 3 == key] == [item for item in range(key, 30, 3) for _ in range(3)]


@pytest.mark.parametrize("executor", ["threads", "loop"])
def test_no_call_begins_after_its_deadline_and_no_wait_for_a_repeat_outlasts_it(executor):
    def fail(item):
        raise OSError(f"{item} does not work")

    async def fail_on_loop(item):
        fail(item)

    work = fail_on_loop if executor == "loop" else fail
    place = {} if executor == "loop" else {"executor": executor}
    outcomes = list(batch(work, range(20), **place, retries=60_000, deadline=0.3))
    assert [outcome.kind for outcome in outcomes] == ["timed_out"] * 20
    # Ten seconds are what the engine's own last resort used to add; a busy machine adds less.
    assert max(outcome.elapsed for outcome in outcomes) < 10


def test_what_needs_a_key_says_so():
    for options in ({"away_on": OSError}, {"host_away": 1}, {"ordered_by_key": True}):
        with pytest.raises(UsageError, match=f"{next(iter(options))}.* need.? key="):
            batch(str, [1], executor="threads", **options).run()
    with pytest.raises(UsageError, match="away_exit needs key="):
        unisono.commands.each(["true"], items=[1], away_exit=[255]).run()


def test_commands_wait_for_a_host_whose_exit_status_says_that_it_is_away(tmp_path):
    log = tmp_path / "log"
    script = f'echo >> {log}; [ "$(wc -l < {log})" -gt 8 ] || exit 255'
    items = [{"host": "a", "n": number} for number in range(40)]
    report = unisono.commands.each(
        ["sh", "-c", script, "sh", "{n}"], items=items, limit=4, key="host", per_key=4, away_exit=[255]
    ).run()
    assert (report.ok, report.retries) == (40, 0)
    assert len(log.read_text().splitlines()) == 8 + 40


def test_a_call_of_a_client_waits_for_its_host_where_host_away_says_so():
    class Says(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    host = http.server.HTTPServer(("127.0.0.1", 0), Says, bind_and_activate=False)
    host.server_bind()
    url = f"http://127.0.0.1:{host.server_address[1]}/"
    with unisono.Client(retries=0) as client, pytest.raises(ConnectionError):
        client.get(url)
    with unisono.Client(retries=0, host_away="30s") as client:
        # It refuses until then: nothing listens.
        timer = threading.Timer(0.2, lambda: (host.server_activate(), host.handle_request()))
        timer.start()
        assert client.get(url).status_code == 204
    timer.join()
    host.server_close()
