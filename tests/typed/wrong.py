"""Mistakes that a type checker is to find: one in each line that says so (`test_types.py`)."""

from unisono import AsyncClient, Client, batch, commands, fetch, files, first, gather, starmap


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
__ = first(AsyncClient().get("/"), delay="1s")  # wrong: seconds
Client().pages("/", links=True)  # wrong: it is link
Client().pages("/", next=True)  # wrong: an expression
Client(transport="fake")  # wrong: no transport
