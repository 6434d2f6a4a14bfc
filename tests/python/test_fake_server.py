"""`unisono.testing.FakeServer` and the fixture `unisono_server`: a server with faults, in a process of its own."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from pathlib import Path

import pytest

import unisono
from support.processes import is_alive, until
from unisono import _command
from unisono.testing import FakeServer, UnexpectedRequest

LONG = 60
PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_rules_answer_any_client_and_what_was_asked_is_known(unisono_server):
    users = unisono_server.on("GET", "/users/*", json={"name": "änn"}, headers={"X-Page": 1})
    made = unisono_server.on("post", f"{unisono_server.url}/orders", status=201, content=bytes(range(256)))
    before = time.time()
    with urllib.request.urlopen(unisono_server.url + "/users/7?full=1", timeout=LONG) as response:
        assert (response.read(), response.headers["x-page"]) == (b'{"name": "\\u00e4nn"}', "1")
    with unisono.Client(base_url=unisono_server.url) as client:
        assert client.post("/orders", content=bytes(range(256))).content == bytes(range(256))
        # In chunks, since its length is not known.
        assert client.post("/orders", content=iter([b"a", b"b"])).status_code == 201
    first, second, third = unisono_server.requests
    assert (first.method, first.url) == ("GET", unisono_server.url + "/users/7?full=1")
    assert first.headers["user-agent"].startswith("Python-urllib")
    assert (second.content, third.content) == (bytes(range(256)), b"ab")
    assert before <= first.time <= second.time <= third.time <= time.time()
    assert (users.requests, made.requests) == ([first], [second, third])


def test_rules_with_times_are_a_sequence_and_repeats_are_those_of_the_engine(unisono_server):
    unisono_server.on("GET", "/x", status=429, headers={"Retry-After": 0}, times=1)
    unisono_server.on("GET", "/x", error="reset", times=1)
    unisono_server.on("GET", "/x", content="whole", error="cut", times=1)
    unisono_server.on("*", "/x", content="at last")
    (outcome,) = unisono.fetch([unisono_server.url + "/x"], retries=5)
    # A connection that had been kept and is reset is news of that connection: the request goes again within its attempt.
    assert (outcome.result.text, outcome.attempts, len(unisono_server.requests)) == ("at last", 3, 4)


def test_faults_are_what_the_engine_says_they_are(unisono_server):
    unisono_server.on("POST", "/orders", error="reset")
    unisono_server.on("GET", "/cut", json=list(range(100)), error="cut")
    unisono_server.on("GET", "/silent", error="silence")
    unisono_server.on("GET", "/slow", delay="1h")
    unisono_server.on("GET", "/later", delay=0.01, content="now")
    with unisono.Client(base_url=unisono_server.url, retries=0) as client:
        with pytest.raises(unisono.FetchAmbiguous) as lost:
            client.post("/orders", json={})
        assert lost.value.effect == "maybe"
        with pytest.raises(unisono.ConnectError):
            client.get("/cut")
        for path in ("/silent", "/slow"):
            with pytest.raises(unisono.FetchTimeout):
                client.get(path, timeout=0.1)
        assert client.get("/later").text == "now"
    with socket.create_connection(("127.0.0.1", int(unisono_server.url.rpartition(":")[2])), LONG) as raw:
        raw.sendall(b"POST /orders HTTP/1.1\r\nHost: h\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(1)


def test_a_quota_refuses_what_is_beyond_it_and_the_engine_keeps_to_it(unisono_server):
    quota = unisono_server.on("GET", "/items/*", rate="50/s burst 5", json={})
    urls = [f"{unisono_server.url}/items/{number}" for number in range(20)]
    report = unisono.fetch(urls, limit=10).run()
    assert report.ok == 20
    # Each attempt of its own, those that were refused too.
    assert len(quota.requests) >= 20


def test_a_quota_says_when_to_come_back(unisono_server):
    unisono_server.on("GET", "/x", rate="1/d", times=2)
    with unisono.Client(base_url=unisono_server.url, retries=0) as client:
        assert client.get("/x").status_code == 200
        refused = client.get("/x")
    assert refused.status_code == 429
    assert 3600 < int(refused.headers["retry-after"]) <= 24 * 3600


def test_what_no_rule_is_for_fails_loudly_and_says_what_was_asked():
    said = r"no rule is for GET http://.*/posts \(rules: GET /users\)"
    with pytest.raises(UnexpectedRequest, match=said), FakeServer() as server:
        server.on("GET", "/users", json=[])
        (outcome,) = unisono.fetch_all([server.url + "/posts"])
        assert outcome.result.status_code == 501
        assert "no rule of the FakeServer is for GET" in outcome.result.text
    # What was asked is known when it is closed, and it can be asked for nothing more.
    assert [request.url for request in server.unexpected] == [server.url + "/posts"]
    with pytest.raises(unisono.UsageError, match="closed"):
        server.on("GET", "/")
    server.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"error": "slow"}, 'error is "reset", "cut" or "silence", not'),
        ({"rate": "fast"}, "FakeServer.on: rate: "),
        ({"delay": "none"}, 'error="silence"'),
        ({"delay": "soon"}, "delay: "),
        ({"status": 99}, "status"),
        ({"times": 0}, "times"),
        ({"json": 1, "content": "x"}, "one body"),
        ({"content": 5}, "content must be text or bytes, not 5: for a value there is json="),
        ({"rate": 5}, 'rate says in which time, as "5/s", not 5'),
        ({"headers": {"a": "b\r\nc: d"}}, "a header is a line of Latin-1"),
        ({"headers": {"a": "\u20ac"}}, "a header is a line of Latin-1"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_and_the_server_goes_on(unisono_server, arguments, said):
    with pytest.raises(unisono.UsageError, match=re.escape(said)):
        unisono_server.on("GET", "/x", **arguments)
    for method, url in [("GET", "x"), (5, "/x"), ("GET", None)]:
        with pytest.raises(unisono.UsageError, match=r"url|method"):
            unisono_server.on(method, url, content="z")
    unisono_server.on("GET", "/x", content="y", headers={"X-Name": "\u00e4"})
    (outcome,) = unisono.fetch_all([unisono_server.url + "/x"])
    assert outcome.result.text == "y"


def test_connections_are_kept_and_closed_as_the_client_says(unisono_server):
    unisono_server.on("*", "/x", content="abc")
    unisono_server.on("GET", "/none", status=204)
    address = unisono_server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=LONG)
    for method in ("HEAD", "GET", "HEAD"):
        connection.request(method, "/x")
        response = connection.getresponse()
        assert (response.getheader("content-length"), response.read()) == ("3", b"" if method == "HEAD" else b"abc")
    connection.request("GET", "/none", headers={"Connection": "close"})
    assert connection.getresponse().read() == b""
    connection.close()
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), LONG) as raw:
        raw.sendall(b"POST /x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab")
        received = b"".join(iter(lambda: raw.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") and received.endswith(b"abc")


def test_threads_may_ask_it_side_by_side(unisono_server):
    unisono_server.on("GET", "/*", json={})
    rules = []

    def ask(number):
        rules.append(unisono_server.on("GET", f"/own/{number}"))
        return len(unisono_server.requests)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    assert unisono.fetch([f"{unisono_server.url}/{number}" for number in range(50)]).run().ok == 50
    for thread in threads:
        thread.join(LONG)
    assert len(rules) == 8 and len(unisono_server.requests) == 50


PROGRAM = """
    import os, sys, time
    from unisono.testing import FakeServer

    server = FakeServer()
    if "fork" in sys.argv and not os.fork():
        # A copy of the pipe, for as long as its own input is open.
        os.setsid()
        sys.stdin.read()
        os._exit(0)
    print(server._process.pid, flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_it_never_outlives_the_process_that_has_started_it(how):
    held, ours = os.pipe()
    program = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), how]
    process = subprocess.Popen(program, stdin=held, stdout=subprocess.PIPE, text=True)
    try:
        pid = int(process.stdout.readline())
        assert is_alive(pid)
        process.kill()
        until(lambda: not is_alive(pid), "the end of the server")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(held)
        os.close(ours)


def test_it_ends_when_its_input_does_and_says_so_when_it_was_killed():
    server = FakeServer()
    server._process.kill()
    with pytest.raises(unisono.RunError, match="the process of this FakeServer has ended, with status -9"):
        server.on("GET", "/x")
    with pytest.raises(unisono.RunError, match="has ended"):
        server.close()
    server.close()
    other = FakeServer()
    other._wishes.close()
    assert other._process.wait(LONG) == 0
    other._answers.close()


def test_ctrl_c_is_for_the_tests_and_not_for_the_server(unisono_server):
    assert os.getpgid(unisono_server._process.pid) != os.getpgid(0)
    unisono_server.on("GET", "/x")

    def interrupt(*_):
        raise KeyboardInterrupt

    # An answer that is left behind by one that was interrupted is not taken for another's.
    unisono_server._wishes.write(b'{"wish": -1, "requests": 0}\n')
    unisono_server._wishes.flush()
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        assert unisono_server.requests == []
    finally:
        signal.signal(signal.SIGINT, before)


# The plugin.


def run_pytest(folder, *words):
    path = f"{_command.folders()[0]}:{os.environ['PATH']}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PATH": path}
    )


def test_the_example_of_the_page_passes_without_an_import_of_the_fixture(tmp_path):
    (block,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "def test_" in text]
    assert "unisono_server" in block
    (tmp_path / "test_page.py").write_text(block)
    done = run_pytest(tmp_path)
    assert re.search(r"\b[1-9] passed", done.stdout), done.stdout + done.stderr
    assert done.returncode == 0


def test_each_test_has_a_server_of_its_own_and_one_that_asks_amiss_fails(tmp_path):
    (tmp_path / "test_two.py").write_text(
        textwrap.dedent("""
            import urllib.error, urllib.request
            import pytest

            def test_one(unisono_server):
                unisono_server.on("GET", "/x", content="1")
                urllib.request.urlopen(unisono_server.url + "/x").close()

            def test_two(unisono_server):
                assert unisono_server.requests == []
                with pytest.raises(urllib.error.HTTPError):
                    urllib.request.urlopen(unisono_server.url + "/x")
        """)
    )
    done = run_pytest(tmp_path)
    assert re.search(r"2 passed.* 1 error", done.stdout), done.stdout + done.stderr
    assert "UnexpectedRequest: no rule is for GET http://127.0.0.1:" in done.stdout


def test_a_suite_that_does_not_use_the_plugin_imports_nothing_for_it(tmp_path):
    (tmp_path / "test_none.py").write_text(
        textwrap.dedent("""
            import sys

            def test_none():
                assert "unisono_pytest" in sys.modules
                assert [name for name in sys.modules if name.split(".")[0] == "unisono"] == []
                assert "asyncio" not in sys.modules
        """)
    )
    done = run_pytest(tmp_path, "-p", "no:anyio", "-p", "no:xdist", "-p", "no:hypothesispytest")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
