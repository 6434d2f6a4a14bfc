"""The cases that break other tools: kill -9 at random moments, a million rows, few file descriptors."""

import json
import random
import re
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from support.installed import COMMAND
from support.server import Server


@pytest.fixture
def two_servers():
    servers = [Server(), Server()]
    yield servers
    for server in servers:
        server.gate.set()
        server.shutdown()
        server.server_close()


def mixed_rows(servers, count):
    """GETs of small and large bodies, POSTs with bodies of their own, and one URL many times; on two hosts."""
    rows = []
    for n in range(count):
        host = servers[n % 2].url
        match n % 5:
            case 0:
                rows.append({"url": f"{host}/orders", "json": {"order": n}})
            case 1:
                rows.append({"url": f"{host}/big/{n}"})
            case 2:
                rows.append({"url": f"{host}/items/same"})
            case _:
                rows.append({"url": f"{host}/items/{n}"})
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("seed", range(30))
def test_kill_9_and_resume_leaves_every_row_with_one_outcome_and_no_post_twice(two_servers, tmp_path, lines, seed):
    rng = random.Random(seed)
    count, limit = 240, 8
    (tmp_path / "in.jsonl").write_text(mixed_rows(two_servers, count))
    words = [COMMAND, "fetch", "--from", "in.jsonl", "-o", "r.jsonl", "--resume", "-j", str(limit), "-q"]
    kills = 0
    for _ in range(rng.choice([1, 1, 2, 3])):
        seen = sum(len(server.requests) for server in two_servers)
        target = seen + rng.randrange(0, max(count - seen, 1))
        process = subprocess.Popen(words, cwd=tmp_path)
        while process.poll() is None and sum(len(server.requests) for server in two_servers) < target:
            pass
        kills += process.poll() is None
        process.kill()
        process.wait()
    done = subprocess.run(words, cwd=tmp_path, timeout=60, check=False)
    rows = lines(tmp_path / "r.jsonl")
    assert sorted(row["row"] for row in rows) == list(range(count))
    orders = Counter(
        json.loads(body)["order"] for server in two_servers for _, path, _, body in server.requests if path == "/orders"
    )
    assert max(orders.values()) == 1
    kinds = Counter(row["outcome"] for row in rows)
    assert set(kinds) <= {"ok", "ambiguous"}
    assert kinds["ambiguous"] <= kills * limit
    for row in rows:
        if row["outcome"] == "ambiguous":
            assert row["method"] == "POST"
        elif row["method"] == "POST":
            assert orders[row["row"]] == 1
        elif "/items/" in row["url"]:
            assert str(row["body"]["id"]) == row["url"].rsplit("/", 1)[1]
    assert done.returncode == (1 if kinds["ambiguous"] else 0)
    leftovers = {path.name for path in tmp_path.iterdir()} - {"in.jsonl", "r.jsonl"}
    assert leftovers == set()


FAST_SERVER = textwrap.dedent("""
    import asyncio
    ANSWER = b'HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 11\\r\\n\\r\\n{"ok":true}'
    class Fast(asyncio.Protocol):
        def connection_made(self, transport):
            self.write = transport.write
        def data_received(self, data):
            self.write(ANSWER * data.count(b"\\r\\n\\r\\n"))
    async def main():
        server = await asyncio.get_running_loop().create_server(Fast, "127.0.0.1", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
    asyncio.run(main())
""")


@pytest.fixture
def fast_server():
    process = subprocess.Popen([sys.executable, "-c", FAST_SERVER], stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()
    process.stdout.close()


def peak_memory(words, cwd):
    """Runs a command; answers its peak memory in bytes, looked at until it ends.

    What wait4 tells would count the memory that this process had when it forked.
    """
    process = subprocess.Popen([str(word) for word in words], cwd=cwd)
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
        peak = max(peak, int(found[1]) * 1024) if found else peak
    assert process.returncode == 0
    return peak


def test_a_million_rows_take_at_most_20_mb_more_than_a_thousand(fast_server, tmp_path):
    def run(count):
        words = [COMMAND, "fetch", f"{fast_server}/{{1..{count}}}", "-o", f"{count}.jsonl", "-j", "50", "-q"]
        return peak_memory(words, tmp_path)

    small, large = run(1_000), run(1_000_000)
    with (tmp_path / "1000000.jsonl").open("rb") as file:
        assert sum(1 for _ in file) == 1_000_000
    assert large - small <= 20_000_000
    # And a resume of it keeps two bits a row.
    words = [COMMAND, "fetch", f"{fast_server}/{{1..1000000}}", "-o", "1000000.jsonl", "--resume", "-q"]
    assert peak_memory(words, tmp_path) - small <= 20_000_000


def test_a_limit_of_1000_with_256_file_descriptors_works_with_fewer_and_says_so(server, tmp_path, lines):
    script = f"ulimit -n 256; exec '{COMMAND}' fetch '{server.url}/items/{{1..3000}}' -j 1000 -o r.jsonl"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "file descriptors" in done.stderr
    assert len(lines(tmp_path / "r.jsonl")) == 3000
    assert server.most_in_flight <= 256


def test_the_same_url_with_and_without_the_same_body_are_rows_of_their_own(unisono, server, tmp_path, lines):
    rows = [{"url": f"{server.url}/echo", "method": "PUT", "body": body} for body in ("a", "a", "b")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["fetch", "--from", "in.jsonl", "-o", "r.jsonl", "--resume"]
    assert unisono(*words).returncode == 0
    assert unisono(*words).returncode == 0
    assert [body for *_, body in server.requests].count(b"a") == 2
    assert len({row["fp"] for row in lines(tmp_path / "r.jsonl")}) == 2


def test_a_torn_last_line_is_cut_and_its_row_runs_again(unisono, server, tmp_path, lines):
    words = ["fetch", server.url + "/items/{1..5}", "-o", "r.jsonl", "--resume", "-j", "1"]
    assert unisono(*words).returncode == 0
    whole = (tmp_path / "r.jsonl").read_bytes()
    (tmp_path / "r.jsonl").write_bytes(whole[:-20])
    assert unisono(*words).returncode == 0
    assert sorted(row["row"] for row in lines(tmp_path / "r.jsonl")) == list(range(5))
    assert len(server.requests) == 6


def test_a_file_that_is_not_ours_is_never_overwritten_by_mistake(unisono, server, tmp_path):
    for content in (b"my thesis\n", b'{"a": 1}\n', b"\x00\x01"):
        (tmp_path / "r.jsonl").write_bytes(content)
        for how in ([], ["--resume"], ["--retry-failed"]):
            assert unisono("fetch", server.url + "/items/1", "-o", "r.jsonl", *how).returncode in (2, 125)
            assert (tmp_path / "r.jsonl").read_bytes() == content
    assert unisono("fetch", server.url + "/items/1", "-o", "r.jsonl", "--overwrite").returncode == 0
    assert server.counts["/items/1"] == 1


def test_the_demonstration_proves_itself(unisono):
    done = unisono("demo", "--rows", "600")
    assert "[ok] no row failed by the restart of the API" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the proof holds" in done.stdout


def test_rows_are_run_as_a_slow_producer_writes_them(start, server):
    process = start("fetch", "--from", "-", stdin=subprocess.PIPE)
    for n in range(3):
        process.stdin.write(f"{server.url}/items/{n}\n")
        process.stdin.flush()
        line = json.loads(process.stdout.readline())
        assert line["body"]["id"] == n
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdin = None


def test_an_interrupt_while_waiting_for_input_ends_the_run(start, server):
    process = start("fetch", "--from", "-", stdin=subprocess.PIPE)
    process.stdin.write(f"{server.url}/items/1\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["outcome"] == "ok"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.stdin.close()
    process.stdin = None


def test_nothing_is_left_of_a_body_that_was_cut_off_while_it_was_saved(unisono, server, tmp_path):
    done = unisono("fetch", server.url + "/cut", "--save", "out/body", "--retries", "0", "-q")
    assert done.returncode == 1
    assert list((tmp_path / "out").glob("*")) == [] if (tmp_path / "out").exists() else True
    assert not Path(tmp_path / "out/body").exists()
