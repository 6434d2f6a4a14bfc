"""A process that uses unisono ends cleanly, whatever state it is in: status 0 and nothing on standard error."""

import os
import subprocess
import sys
import textwrap

import pytest

CASES = {
    "an_abandoned_client": """
        client = unisono.Client(); client.get(url + "/items/1")
        other = unisono.AsyncClient()
        asyncio.run(other.get(url + "/items/1"))
    """,
    "a_loop_closed_in_the_middle": """
        loop = asyncio.new_event_loop()
        batch = unisono.fetch((f"{url}/items/{n}" for n in range(10000)), limit=5)
        loop.run_until_complete(anext(aiter(batch)))
        client = unisono.AsyncClient()
        task = loop.create_task(client.get(url + "/held"))
        loop.run_until_complete(asyncio.sleep(0.01))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    """,
    "a_keyboard_interrupt_in_async_for": """
        async def main():
            async for outcome in unisono.fetch(f"{url}/items/{n}" for n in range(100000)):
                os.kill(os.getpid(), signal.SIGINT)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            pass
    """,
    "an_exception_in_the_consumer": """
        try:
            for outcome in unisono.fetch(f"{url}/items/{n}" for n in range(100000)):
                raise LookupError
        except LookupError:
            pass
    """,
    "an_abandoned_generator": """
        def outcomes():
            yield from unisono.fetch(f"{url}/items/{n}" for n in range(100000))
        generator = outcomes()
        next(generator)
    """,
    "sys_exit_in_a_callback": """
        def hook(response):
            sys.exit(0)
        unisono.Client(event_hooks={"response": [hook]}).get(url + "/items/1")
    """,
    "a_daemon_thread": """
        def forever():
            for outcome in unisono.fetch(f"{url}/items/{n}" for n in range(10000000)):
                started.set()
        started = threading.Event()
        threading.Thread(target=forever, daemon=True).start()
        started.wait(10)
    """,
}

ROUNDS = int(os.environ.get("UNISONO_EXIT_ROUNDS", "10"))


@pytest.mark.parametrize("name", CASES)
def test_a_clean_exit_after(server, name):
    head = "import asyncio, os, signal, sys, threading, unisono\nurl = sys.argv[1]\n"
    code = head + textwrap.dedent(CASES[name])
    for _ in range(ROUNDS):
        done = subprocess.run(
            [sys.executable, "-c", code, server.url], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def run_with_a_fork(server, child, parent):
    """A program with a client and a batch in the middle that forks; the child ends with 7 if all is well."""
    head = """
        import os, sys, warnings, unisono
        warnings.simplefilter("ignore")
        url = sys.argv[1]
        client = unisono.Client()
        client.get(url + "/items/1")
        batch = unisono.fetch(f"{url}/items/{n}" for n in range(100000))
        next(batch)
        child = os.fork()
        if child == 0:
    """
    code = textwrap.dedent(head) + textwrap.indent(textwrap.dedent(child), "    ") + textwrap.dedent(parent)
    done = subprocess.run(
        [sys.executable, "-c", code, server.url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_gets_a_clear_error_for_a_batch_and_a_fresh_client(server):
    child = """
        try:
            batch._ready.clear()
            next(batch)
        except RuntimeError as error:
            assert "process" in str(error)
        assert client.get(url + "/items/2").json()["id"] == 2
        os._exit(7)
    """
    parent = """
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert client.get(url + "/items/3").json()["id"] == 3
        batch.close()
    """
    run_with_a_fork(server, child, parent)


def test_limits_that_a_forked_child_sets_are_refused_by_a_batch_and_its_own_by_a_client(server):
    child = """
        try:
            batch.set_limits(limit=1)
        except RuntimeError as error:
            assert "belongs to process" in str(error), error
        else:
            os._exit(1)
        parents = client._engine
        client.set_limits(limit=1)
        own = client._engine
        assert client.get(url + "/items/2").json()["id"] == 2
        os._exit(7 if own is client._engine and own is not parents else 2)
    """
    parent = """
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert [client.get(f"{url}/items/{n}").json()["id"] for n in (4, 5)] == [4, 5]
        batch.close()
    """
    run_with_a_fork(server, child, parent)
