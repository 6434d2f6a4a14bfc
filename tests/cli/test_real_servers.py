"""The command against nginx, node and Apache themselves: what they do not process is no failure, and nothing is done twice."""

import collections
import urllib.request

import pytest

from support.real_servers import Apache, Nginx, Node, certificate, needs

ROWS = 2000

# Counts what it does, and answers after a moment. `/count` says how often it did something.
STREAMS = """
const http2 = require('http2'), fs = require('fs');
let done = 0;
const server = http2.createSecureServer({
  key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem'), allowHTTP1: true,
  settings: {maxConcurrentStreams: 8},
}, (request, response) => {
  if (request.url === '/count') return response.end(String(done));
  done += 1;
  request.resume();
  setTimeout(() => response.end('{}'), 2);
});
server.listen(Number(process.argv[2]), '127.0.0.1');
"""

# Answers a request of any kind after 30 ms.
SLOW = """
require('http').createServer((request, response) => {
  request.resume();
  setTimeout(() => response.end('{}'), 30);
}).listen(Number(process.argv[2]), '127.0.0.1');
"""


def fetch(unisono, lines, tmp_path, method, url, *options):
    """All rows, none of which is repeated by the engine."""
    body = ["--data", "x=1"] if method == "POST" else []
    words = ["-X", method, *body, "--insecure", "-j", "50", "--retries", "0", "-o", "out.jsonl", "--overwrite"]
    done = unisono("fetch", *words, *options, url, timeout=300)
    outcomes = lines(tmp_path / "out.jsonl")
    return done, outcomes


def all_ok_at_once(done, outcomes):
    assert done.returncode == 0, done.stderr
    assert collections.Counter((line["outcome"], line["attempts"]) for line in outcomes) == {("ok", 1): ROWS}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("behind", ["at once", "after 30 ms"])
def test_nginx_that_takes_ten_requests_a_connection_gets_all_of_them_once(unisono, lines, tmp_path, method, behind):
    needs("nginx", "nginx-light")
    folder, upstream = tmp_path / "nginx", tmp_path / "upstream"
    folder.mkdir()
    upstream.mkdir()
    certificate(folder)
    slow = Node(upstream, SLOW)
    answer = "return 200 ok;" if behind == "at once" else f"proxy_pass http://127.0.0.1:{slow.port};"
    nginx = Nginx(
        folder,
        f"ssl_certificate cert.pem; ssl_certificate_key key.pem; keepalive_requests 10; location / {{ {answer} }}",
        listen="ssl http2",
    )
    with slow.start(), nginx.start():
        done, outcomes = fetch(
            unisono, lines, tmp_path, method, f"https://127.0.0.1:{nginx.port}/{{1..{ROWS}}}", "--http2"
        )
    all_ok_at_once(done, outcomes)
    assert nginx.served(method) == ROWS


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_node_with_eight_streams_gets_all_of_them_once(unisono, lines, tmp_path, method):
    certificate(tmp_path)
    node = Node(tmp_path, STREAMS)
    with node.start():
        done, outcomes = fetch(
            unisono, lines, tmp_path, method, f"https://127.0.0.1:{node.port}/{{1..{ROWS}}}", "--http2"
        )
        count = unisono("fetch", "--insecure", f"https://127.0.0.1:{node.port}/count")
    all_ok_at_once(done, outcomes)
    assert f'"body":{ROWS}' in count.stdout, count.stdout


def test_apache_with_four_workers_loses_no_more_than_what_was_on_its_way_at_the_first_loss(unisono, lines, tmp_path):
    needs("apache2", "apache2-bin")
    folder, upstream = tmp_path / "apache", tmp_path / "upstream"
    folder.mkdir()
    upstream.mkdir()
    slow = Node(upstream, SLOW)
    apache = Apache(folder, f"http://127.0.0.1:{slow.port}", workers=4)
    with slow.start(), apache.start():
        urllib.request.urlopen(f"http://127.0.0.1:{apache.port}/", timeout=30).close()
        words = ["--data", "x=1", "-j", "20", "-o", "out.jsonl", f"http://127.0.0.1:{apache.port}/{{1..600}}"]
        done = unisono("fetch", *words, timeout=300)
    outcomes = lines(tmp_path / "out.jsonl")
    kinds = collections.Counter(line["outcome"] for line in outcomes)
    # Twenty are under way at once; without the lesson it was one in three.
    assert kinds["ok"] + kinds["ambiguous"] == 600 and kinds["ambiguous"] <= 20, (kinds, done.stderr)
    assert apache.served("POST") <= 600
    if kinds["ambiguous"]:
        assert "--idempotency-key" in done.stderr, done.stderr
