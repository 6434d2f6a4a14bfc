"""Heads of requests and answers, from outside: pages, credentials, headers, cookies, and what is never shown."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture
def scripted():
    """A server that answers a path with these headers: `scripted.answers[path] = (status, [(name, value)])`."""

    class Scripted(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            heads = {name.lower(): ", ".join(self.headers.get_all(name)) for name in self.headers}
            server.seen.append((self.path, heads, body))
            status, headers = server.answers.get(self.path, (200, []))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            content = json.dumps({"path": self.path}).encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    server.answers, server.seen = {}, []
    server.host = f"127.0.0.1:{server.server_address[1]}"
    server.url = f"http://{server.host}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def basic(user):
    return "Basic " + base64.b64encode(user.encode()).decode()


def pages(server, *links):
    """Page n, from 1, has this `Link`."""
    for number, link in enumerate(links, 1):
        server.answers[f"/{number}"] = (200, [("Link", link)] if link else [])


def test_pages_are_followed_whatever_bytes_and_quotes_stand_in_link(unisono, scripted, lines):
    pages(
        scripted,
        '</2>; rel="next"; title="caf\xe9 \xff"',
        '</9>; rel="last"; title="x; rel=next", </3>; rel=next',
        '</1>; rel="prev first", </4>; title*=UTF-8\'\'%e2; rel = "Next"',
        '</9>; rel=prev; rel=next, </5>;rel="last next"',
        None,
    )
    done = unisono("fetch", scripted.url + "/1", "--paginate", "link")
    assert done.returncode == 0, done.stderr
    assert [row["body"]["path"] for row in lines(done.stdout)] == ["/1", "/2", "/3", "/4", "/5"]


@pytest.mark.parametrize(
    ("links", "why"),
    [
        (['</2>; rel="next"', '</3>; rel="next'], "no closing quote"),
        (["</2>; rel=next", "broken; rel=next"], "begins with `<`"),
        (["</2>; rel=next", "<http://[::>; rel=next"], "the next page"),
        (["</2>; rel=next", "<ftp://h/>; rel=next"], "neither http nor https"),
        (["</2>; rel=next", "</1>; rel=next"], "page 1 again"),
        (["</2>; rel=next", "</2>; rel=next"], "this page again"),
        (["</2>; rel=next", "</3>; rel=next", "</2>; rel=next"], "page 2 again"),
    ],
)
def test_pages_that_end_by_a_fault_or_a_circle_are_failed_and_say_so(unisono, scripted, lines, links, why):
    pages(scripted, *links)
    done = unisono("fetch", scripted.url + "/1", "--paginate", "link", "--retries", 0)
    assert done.returncode == 1
    *before, last = [row for row in lines(done.stdout) if "row" in row]
    assert [row["outcome"] for row in before] == ["ok"] * (len(links) - 1)
    assert (last["outcome"], last["error"]["kind"]) == ("failed", "pages")
    assert why in last["error"]["message"]


def test_more_pages_than_allowed_are_said_also_when_quiet_and_stand_in_the_line(unisono, scripted, lines):
    pages(scripted, "</2>; rel=next", "</3>; rel=next", None)
    for quiet in ([], ["-q"]):
        done = unisono("fetch", scripted.url + "/1", "--paginate", "link", "--max-pages", 2, *quiet)
        assert [row["next"] for row in lines(done.stdout)] == [scripted.url + "/2", scripted.url + "/3"]
        assert "more pages than --max-pages 2 allows" in done.stderr


def test_the_user_of_an_address_stays_on_redirects_and_pages_of_its_origin(unisono, scripted, server, lines):
    scripted.answers["/start"] = (302, [("Location", "/1")])
    pages(scripted, "</2>; rel=next", f"<{scripted.url}/3>; rel=next", f"<{server.url}/pages/3>; rel=next")
    done = unisono("fetch", f"http://me:p%2Fw@{scripted.host}/start", "--paginate", "link", "-o", "o.jsonl")
    assert done.returncode == 0, done.stderr
    assert [head.get("authorization") for _, head, _ in scripted.seen] == [basic("me:p/w")] * 4
    assert "authorization" not in server.requests[0][2]
    assert "p/w" not in done.stderr


def test_a_resumed_run_still_knows_who_asks(unisono, scripted):
    pages(scripted, "</2>; rel=next", "</3>; rel=next", None)
    words = ("fetch", f"http://me:pw@{scripted.host}/1", "--paginate", "link", "-o", "o.jsonl")
    assert unisono(*words, "--max-pages", 1).returncode == 0
    assert unisono(*words, "--resume").returncode == 0
    assert [(path, head.get("authorization")) for path, head, _ in scripted.seen] == [
        (f"/{number}", basic("me:pw")) for number in (1, 2, 3)
    ]


PASSWORDS = ["hun/ter2", "hun#ter2", "hun?ter2", "hun@ter2", "hun:ter2", "/hunter2"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_in_an_address_is_never_shown(unisono, scripted, tmp_path, password):
    scripted.answers["/to"] = (302, [("Location", f"http://bob:{password}@[/")])
    scripted.answers["/link"] = (200, [("Link", f"<http://bob:{password}@[/>; rel=next")])
    scripted.answers["/shown"] = (
        200,
        [("Location", f"//bob:{password}@host/"), ("Link", f"<http://bob:{password}@h/>")],
    )
    host, plain = scripted.host, scripted.url + "/x"
    addresses = [
        f"{begin}bob:{password}@{host}/x" for begin in ("http://", "http:/", "http:", "//", "", "ftp://", "htp://")
    ]
    (tmp_path / "in.txt").write_text("\n".join(addresses))
    (tmp_path / "in.csv").write_text("\n".join(["url", *(f'"{one}"' for one in addresses)]))
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps({"url": one}) for one in addresses))
    (tmp_path / "users.csv").write_text(f'user,password\nbob,"{password}"\n')
    runs = [
        *([*flags, address] for address in addresses for flags in ([], ["--dry-run"])),
        *(
            [*flags, "--from", name]
            for name in ("in.txt", "in.csv", "in.jsonl")
            for flags in ([], ["--dry-run"], ["--id", "{url}"])
        ),
        ["--from", "users.csv", f"http://{{user}}:{{password}}@{host}/x", "--dry-run"],
        ["--from", "users.csv", f"http://{{user}}:{{password}}@{host}/x"],
        [f"http://bob:{password}@{host}/{{name}}"],
        [f"http://bob:{password}@{host}/{{1..x}}"],
        [f"http://bob:{password}@{host}/{{"],
        *(
            ["--proxy", f"{begin}bob:{password}@127.0.0.1:1", plain]
            for begin in ("http://", "http:/", "socks5h://", "", "x://")
        ),
        ["--user", f"bob:{password}", plain],
        ["--on", f"dask://bob:{password}@127.0.0.1:1", plain],
        ["--on", f"bob:{password}@127.0.0.1:1", plain],
        [scripted.url + "/to"],
        [scripted.url + "/link", "--paginate", "link"],
        [scripted.url + "/shown", "--include-headers"],
    ]
    for words in runs:
        done = unisono("fetch", "--retries", 0, "-v", *words)
        assert "ter2" not in done.stdout + done.stderr, (words, done.stdout, done.stderr)
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        for begin in ("http://", "http:/", ""):
            done = unisono("fetch", "--retries", 0, plain, env={name: f"{begin}bob:{password}@127.0.0.1:1"})
            assert "ter2" not in done.stdout + done.stderr, (name, begin, done.stdout, done.stderr)


def test_a_password_from_a_column_is_sent_whole(unisono, scripted, tmp_path):
    (tmp_path / "users.csv").write_text(
        "".join(["user,password\n", *(f'bob,"{password}"\n' for password in PASSWORDS)])
    )
    assert unisono("fetch", "--from", "users.csv", f"http://{{user}}:{{password}}@{scripted.host}/x").returncode == 0
    assert sorted(head["authorization"] for _, head, _ in scripted.seen) == sorted(
        basic(f"bob:{one}") for one in PASSWORDS
    )


@pytest.mark.parametrize(
    "header",
    [
        "Content-Length: 3", "Transfer-Encoding: chunked", "Connection: close", "TE: trailers", "Expect: 100-continue",
        "Trailer: X", "Upgrade: h2c", "Keep-Alive: x", "Proxy-Authorization: x", "Proxy-Connection: x", "Host:", "Host: a b",
        "X-A: b\r\nX-C: d", "X-A: b\n", "X A: b",
    ],
)  # fmt: skip
def test_a_header_that_would_cut_or_smuggle_is_refused_in_a_row_and_as_an_option(
    unisono, scripted, tmp_path, lines, header
):
    name, _, value = header.partition(":")
    row = {"url": scripted.url + "/x", "body": "longer than three", "headers": {name: value.lstrip(" ")}}
    good = {
        "url": scripted.url + "/good",
        "body": "longer than three",
        "headers": {"X-A": ["1", "2"], "Host": "virtual.test"},
    }
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(good)}\n")
    done = unisono("fetch", "--from", "in.jsonl", "--keep-order")
    assert done.returncode == 1
    assert [row["outcome"] for row in lines(done.stdout)] == ["failed", "ok"]
    assert lines(done.stdout)[0]["error"]["kind"] == "input"
    assert [(path, body) for path, _, body in scripted.seen] == [("/good", b"longer than three")]
    assert (scripted.seen[0][1]["host"], scripted.seen[0][1]["x-a"]) == ("virtual.test", "1, 2")
    done = unisono("fetch", scripted.url + "/x", "-H", header)
    assert (done.returncode, done.stdout, len(scripted.seen)) == (2, "", 1), done.stderr


def test_a_netrc_that_is_broken_is_refused_with_its_line_and_without_its_words(unisono, scripted, tmp_path):
    (tmp_path / "netrc").write_text('machine h login me\nmachine 127.0.0.1 login me password "hunter2')
    done = unisono("fetch", scripted.url + "/x", "--netrc=netrc")
    assert done.returncode == 2
    assert "line 2" in done.stderr
    assert "ter2" not in done.stderr
    (tmp_path / "netrc").write_text('macdef m\nlogin no\n\nmachine 127.0.0.1 login "m e"\n password #"p\\"')
    assert unisono("fetch", scripted.url + "/x", "--netrc=netrc").returncode == 0
    assert scripted.seen[-1][1]["authorization"] == basic('m e:#"p\\"')
