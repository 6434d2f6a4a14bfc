"""Each option of each function and class, as it is meant to be given: checked by types alone (`test_types.py`)."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

import unisono
from unisono import (
    AsyncClient,
    Batch,
    Client,
    CommandOutcome,
    CommandResult,
    Digest,
    FetchOutcome,
    FileOutcome,
    FunctionOutcome,
    Gathered,
    Pages,
    Response,
    batch,
    commands,
    fetch,
    files,
)

fetched = fetch(
    ["https://example.org/"],
    progress=True,
    limit=20,
    rate="100/s burst 20",
    per_host=4,
    per_host_rate="10/s",
    deadline="15m",
    stop_after=timedelta(hours=1),
    grace=10,
    retries=3,
    retry_budget="none",
    host_away=60.0,
    max_wait="60s",
    timeout=30,
    connect_timeout="5s",
    http1=True,
    http2=False,
    verify=True,
    cacert="ca.pem",
    cert=Path("cert.pem"),
    cert_key="key.pem",
    proxy="http://proxy:3128",
    no_proxy="localhost",
    ip=4,
    unix_socket="/run/api.sock",
    expect="2xx,404",
    max_redirects=5,
    max_body="64MiB",
    min_throughput=1024,
    decompress=False,
    bearer="secret",
    token=lambda: "secret",
    netrc=Path("netrc"),
    method="POST",
    max_failures=10,
    canary=3,
    keep_order=True,
    out="results.jsonl",
    resume=True,
    retry_failed=True,
    retry_ambiguous=False,
    adopt=False,
    rebind=False,
    overwrite=False,
    headers={"Accept": "application/json"},
    auth=("name", "password"),
    cookies=True,
    idempotency_key=True,
    template="https://example.org/{id}",
    id="{id}",
    save="out/{id}.json",
    body="json",
    include_headers=True,
    select=".items[0]",
    paginate="link",
    max_pages=10,
    on="dask://scheduler:8786",
)
assert_type(fetched, Batch[FetchOutcome])
for answer in fetched:
    assert_type(answer.result, Response | None)
    assert_type(answer.check(), Response)

digested = files.digest(
    [Path("data"), "more"],
    progress=print,
    algorithms=["sha256", "blake3"],
    glob="*.txt",
    exclude=["*.tmp"],
    hidden=False,
    ignore_files=True,
    max_depth=3,
    follow=False,
    one_file_system=True,
    min_size=1,
    max_size="1GiB",
    direct=False,
    limit=2,
    rate="1000/s",
    deadline="1h",
    stop_after=60,
    grace="10s",
    retries=1,
    max_failures=1,
    canary=1,
    keep_order=False,
    out=Path("digests.jsonl"),
    resume=True,
    retry_failed=False,
    retry_ambiguous=False,
    adopt=False,
    rebind=False,
    overwrite=False,
)
assert_type(digested, Batch[FileOutcome])
for file in digested:
    assert_type(file.result, Digest | None)

verified = files.verify("SHA256SUMS", extra=".", algorithm="sha256", zero=False, ignore_missing=True, strict=True)
assert_type(verified, Batch[FileOutcome])


def lines(path: Path) -> int:
    return path.read_text().count("\n")


assert_type(files.each(lines, ["data"], glob="*.txt", limit=3, executor="processes"), Batch[FunctionOutcome[int]])

ran = commands.each(
    ["ssh", "{host}", "uptime"],
    items=[{"host": "db-1"}],
    input="text",
    cwd=Path("/"),
    env={"LANG": "C", "HOME": None},
    shell=False,
    timeout="1m",
    deadline=timedelta(minutes=5),
    kill_after=5,
    retries=2,
    retry_exit=[255],
    expect=[0, 1],
    max_output="1MiB",
    leave_running=False,
    limit=10,
    rate="5/s",
    key="host",
    per_key=1,
    per_key_rate="1/s",
    ordered_by_key=True,
    host_away="60s",
    away_exit=[255],
    load=4.0,
    min_memory="1GiB",
    stop_after="1h",
    grace=10,
    max_failures=3,
    canary=1,
    on_exit="cancel",
    keep_order=True,
    save="out/{#}",
    out="commands.jsonl",
    resume=True,
    retry_failed=True,
    retry_ambiguous=False,
    adopt=False,
    rebind=False,
    overwrite=False,
    brief=True,
    items_are_code=False,
    idempotent=True,
)
assert_type(ran, Batch[CommandOutcome[bytes]])
assert_type(commands.run(["true"], text=True).check(), CommandResult[str])
assert_type(commands.run(["true"], check=True, timeout=timedelta(seconds=1)), CommandOutcome[bytes])


async def double(number: int) -> int:
    return 2 * number


called = batch(
    double,
    range(10),
    limit=5,
    rate="10/s",
    key=lambda number: number % 2,
    per_key=1,
    per_key_rate="1/s",
    ordered_by_key=False,
    host_away=60,
    away_on=ConnectionRefusedError,
    timeout="5s",
    deadline=60,
    stop_after="10m",
    grace=timedelta(seconds=3),
    retries=2,
    retry_on=(OSError, TimeoutError),
    max_failures=5,
    canary=1,
    keep_order=True,
    out="calls.jsonl",
    resume=True,
    retry_failed=False,
    retry_ambiguous=False,
    adopt=False,
    rebind=False,
    overwrite=False,
    idempotent=True,
    id=str,
    serialize=str,
)
assert_type(called, Batch[FunctionOutcome[int]])
assert_type(unisono.starmap(Path.is_relative_to, [(Path("a"), "b")], executor="threads"), Batch[FunctionOutcome[bool]])
assert_type(called.run().first_failures, list[FunctionOutcome[int]])

with Client(
    base_url="https://example.org",
    headers=[("Accept", "text/plain")],
    params={"page": 1},
    auth=("name", "password"),
    cookies={"session": "1"},
    event_hooks={"request": [print], "response": [print]},
    limit=10,
    per_host=2,
    timeout=timedelta(seconds=3),
    retries=0,
) as client:
    assert_type(client.get("/items", params={"id": 7}, headers={"X": "1"}), Response)
    assert_type(client.post("/items", json={"id": 7}), Response)
    assert_type(client.put("/items", content=b"7"), Response)
    assert_type(list(client.pages("/items", link=True, params={"size": 2}, timeout=5)), list[Response])
    assert_type(client.pages("/items", page="p", until=".last", max_pages=3, start=None), Pages)
    client.set_limits(limit=5, per_host=1, rate="none", per_host_rate="1/s")


with unisono.testing.FakeTransport() as fake:
    rule = fake.on("GET", "/users/*", status=200, headers={"X": 1}, json=[], times=2)
    assert_type(rule.requests, list[unisono.testing.ReceivedRequest])
    assert_type(Client(transport=fake).get("/"), Response)
    fetch(["https://example.org/"], transport=fake)


async def main() -> None:
    async with AsyncClient(base_url="https://example.org", host_away="5s") as client:
        assert_type(await client.get("/items"), Response)
        assert_type([page async for page in client.pages("/items", next=".next")], list[Response])
        assert_type([item async for item in client.pages("/items", next=".next").items(".[]")], list[Any])
        gathered = await unisono.gather(client.get("/a"), b=client.get("/b"), timeout="5s", required=["b", 0])
        assert_type(gathered, Gathered)
        assert_type(gathered.b, FunctionOutcome[Any])
        assert_type(await unisono.first(client.get("/a"), client.get("/b"), delay=0.5), Response)
    called.set_limits(limit=3, per_key=1)


asyncio.run(main())

try:
    called.run().raise_for_failures()
except unisono.OutcomeError as error:
    assert_type(error.kind, str)
    assert_type(error.effect, str)
    assert_type(error.attempts, int)
