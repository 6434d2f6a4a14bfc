"""Mistakes that a type checker is to find: one in each line that says so (`test_types.py`)."""

from unisono import (
    AsyncClient,
    Client,
    Limiter,
    Pool,
    ProcessPool,
    Queue,
    Request,
    ThreadPool,
    batch,
    batch_all,
    commands,
    fetch,
    fetch_all,
    files,
    first,
    gather,
    retry,
    spawn,
    starmap,
)


def double(number: int) -> int:
    return 2 * number


fetch(["https://example.org/"], limits=20)  # wrong: a typo
fetch(["https://example.org/"], limit="20")  # wrong: text for a number
fetch(["https://example.org/"], per_key=2)  # wrong: the key of requests is the host
fetch(["https://example.org/"], timeout=[1])  # wrong: no time
fetch(["https://example.org/"], headers="Accept: text/plain")  # wrong: no pairs
fetch(["https://example.org/"], key="key.pem")  # wrong: it is cert_key
fetch(["https://example.org/"], keep_order="yes")  # wrong: no flag
files.digest("data", algorithm="sha256")  # wrong: it is algorithms here
files.digest("data", glob=3)  # wrong: no pattern
files.verify("SHA256SUMS", algorithms="sha256")  # wrong: it is algorithm here
files.verify("SHA256SUMS", ignore_missin=True)  # wrong: a typo
commands.each([["true"]], per_host=2)  # wrong: commands have keys
commands.each([["true"]], repeatable=True)  # wrong: it is idempotent
commands.each([["true"]], expect=0)  # wrong: several codes
commands.run(["true"], timout=1)  # wrong: a typo
commands.run(["true"], env=["LANG=C"])  # wrong: no mapping
batch(double, range(3), ordered=True)  # wrong: it is keep_order
batch(double, range(3), key="zone")  # wrong: a function says what the key is
batch(double, range(3), retry_on="OSError")  # wrong: no exception
batch(double, ["1"])  # wrong: an item that the function does not take
Client(base_ulr="https://example.org")  # wrong: a typo
Client(verify="no")  # wrong: no flag
AsyncClient(out="results.jsonl")  # wrong: clients keep no results
Client().get("/", parms={"a": 1})  # wrong: a typo
Client().post("/", body="x")  # wrong: it is content, json or data
batch(double, range(3), on_exit="stop")  # wrong: finish or cancel
starmap(double, [1, 2])  # wrong: no arguments
_ = gather(users=AsyncClient().get)  # wrong: it is not called
_ = gather(AsyncClient().get("/"), requires=["users"])  # wrong: a typo
__ = first(AsyncClient().get("/"), delay=[1])  # wrong: a time
Client().pages("/", links=True)  # wrong: it is link
Client().pages("/", next=True)  # wrong: an expression
Client(transport="fake")  # wrong: no transport
Client().get("/", allow_redirects=False)  # wrong: it is follow_redirects
Client().get("/", verify=False)  # wrong: it is the client's
Client().request("GET", "/", stream=True)  # wrong: it is a method
Client().stream("GET", "/", chunk_size=1)  # wrong: no such thing
Client().build_request("GET", "/", body="x")  # wrong: it is content
Client().batch(["/"], max_workers=3)  # wrong: it is limit
Client().set_limits(per_key=3)  # wrong: it is per_host
AsyncClient().post("/", cookie={"a": "1"})  # wrong: it is cookies
Request("https://example.org/", body="x")  # wrong: it is content
Request("https://example.org/").replace(uri="/")  # wrong: it is url
Limiter(max_rate="1/s")  # wrong: it is rate
Limiter(3).set_limits(per_host=3)  # wrong: it is per_key
Queue(max_size=3)  # wrong: it is maxsize
retry(stop=3)  # wrong: it is retries
retry(retry_on=OSError, wait=3)  # wrong: it is base
ThreadPool(workers=3)  # wrong: it is max_workers
ProcessPool(threads=3)  # wrong: it is workers
Pool(max_workers=3)  # wrong: it is processes
spawn(double, nicer=3)  # wrong: no such thing
batch_all([], return_exceptions=True)  # wrong: every item has its outcome
fetch_all(["https://example.org/"], concurrency=3)  # wrong: it is limit
files.walk("data", recursive=True)  # wrong: it always is
files.each(len, "data", pattern="*.py")  # wrong: it is glob
commands.run(["true"], capture_output=True)  # wrong: it always is
