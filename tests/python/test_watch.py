"""`unisono.watch`: the line at which a loop stands still is the first that is named, whatever it does there.

Each culprit is a program of its own. It calls what blocks again and again until the watchdog has told a stall, so that
nothing depends on how fast a machine is; `HERE` marks the line that must be named.
"""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# The line that the watchdog has to name first stands in `culprit`.
PROGRAM = """
import asyncio, ctypes, gc, hashlib, os, re, signal, socket, subprocess, sys, threading, time
import unisono
{prelude}
def culprit():
{culprit}

async def handler():
    culprit()

async def main():
    with unisono.watch(stall=0.05, file="told", json=True) as watch:
        # A machine that gives it no CPU meanwhile is told as that, and then it is tried again.
        while '"place":{{' not in open("told").read():
            await handler()
            await asyncio.sleep(0)

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""

# What blocks, the cause that is told, and what stands before it.
CULPRITS = {
    "sleep": ("time.sleep(0.3)  # HERE", "sleeps"),
    "python": ("until = time.monotonic() + 0.3\nwhile time.monotonic() < until: pass  # HERE", "works"),
    "sorted": ("sorted(BIG, key=float)  # HERE", "works", "BIG = list(range(3_000_000))"),
    "pow": ("pow(7, 2_000_000)  # HERE", "works"),
    "regular_expression": ('re.match(r"(a+)+$", "a" * 22 + "b")  # HERE', "works"),
    "garbage_collection": ("gc.collect()  # HERE", "works", "JUNK = [[number] for number in range(2_000_000)]"),
    "hash_without_the_lock": ('hashlib.pbkdf2_hmac("sha256", b"x", b"y", 500_000)  # HERE', "works"),
    "lock_of_threading": ("LOCK.acquire(timeout=0.3)  # HERE", "sleeps", "LOCK = threading.Lock()\nLOCK.acquire()"),
    "subprocess": ('subprocess.run(["sleep", "0.3"])  # HERE', "sleeps"),
    "socket": ("THEIRS.recv(1)  # HERE", "sleeps", "OURS, THEIRS = socket.socketpair()\nTHEIRS.settimeout(0.3)"),
    "c_that_keeps_the_lock": ("ctypes.PyDLL(None).usleep(300_000)  # HERE", "sleeps"),
    "import": ("sys.modules.pop('slow', None)\nimport slow  # OUTER", "sleeps"),
}
QUIET = {"socket": "try:\n    {}\nexcept TimeoutError:\n    pass"}


def run(folder: Path, program: str, loop: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    (folder / "slow.py").write_text("import time\ntime.sleep(0.3)  # HERE\n")
    return subprocess.run(
        [sys.executable, "program.py", loop],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def marked(folder: Path) -> tuple[str, int]:
    """The file and line that are to be named."""
    for name in ("program.py", "slow.py"):
        for number, line in enumerate((folder / name).read_text().splitlines(), 1):
            if "# HERE" in line:
                return name, number
    raise AssertionError("no line is marked")


def told(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "told").read_text().splitlines()]


def first_place(folder: Path) -> dict:
    """The first stall for which a line is named."""
    return next(event for event in told(folder) if event["event"] == "stall" and event["place"])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("name", CULPRITS)
def test_the_line_that_blocks_a_loop_is_named_first_with_what_it_does(name, loop, tmp_path):
    culprit, cause, *prelude = CULPRITS[name]
    culprit = QUIET.get(name, "{}").format(culprit)
    program = PROGRAM.format(prelude="\n".join(prelude), culprit=textwrap.indent(culprit, "    "))
    done = run(tmp_path, program, loop)
    assert (done.returncode, done.stderr) == (0, "")
    stall = first_place(tmp_path)
    file, line = marked(tmp_path)
    assert (Path(stall["place"]["file"]).name, stall["place"]["line"]) == (file, line), stall
    assert stall["cause"]["what"] == cause, stall
    if name == "garbage_collection":
        assert stall["cause"]["on"] == "collection"
    if name == "c_that_keeps_the_lock":
        assert stall["cause"]["holds_lock"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_thread_that_keeps_the_interpreters_lock_is_named_and_not_the_loop(loop, tmp_path):
    program = PROGRAM.format(
        prelude="def hog():\n    pow(7, 3_000_000)  # HERE",
        culprit="    thread = threading.Thread(target=hog)\n    thread.start()\n    time.sleep(0)",
    )
    done = run(tmp_path, program, loop)
    assert (done.returncode, done.stderr) == (0, "")
    stall = first_place(tmp_path)
    assert stall["cause"]["what"] == "waits_for_lock", stall
    assert stall["place"]["line"] == marked(tmp_path)[1], stall
    assert stall["place"]["function"] == "hog"


MANY = """
import asyncio, sys, time
import unisono

async def short():
    until = time.perf_counter() + 0.01
    while time.perf_counter() < until: pass  # HERE

async def main():
    with unisono.watch(stall=0.1, file="told", json=True):
        while '"kind":"late"' not in open("told").read():
            await asyncio.gather(*[short() for _ in range(100)])

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_that_is_late_since_many_callbacks_are_ready_is_told_from_one_that_is_blocked(loop, tmp_path):
    done = run(tmp_path, MANY, loop)
    assert (done.returncode, done.stderr) == (0, "")
    late = next(stall for stall in told(tmp_path) if stall.get("kind") == "late")
    assert late["place"]["line"] in {marked(tmp_path)[1], marked(tmp_path)[1] - 1}, late
    assert late["stack"][0]["seen"] >= 1


def test_a_process_that_was_stopped_is_not_blamed(tmp_path):
    program = """
import asyncio, os, subprocess
import unisono

async def main(stopper):
    with unisono.watch(stall=0.1) as watch:
        while stopper.poll() is None:
            await asyncio.sleep(0)

stop = f"for n in 1 2 3; do kill -STOP {os.getpid()}; sleep 0.4; kill -CONT {os.getpid()}; sleep 0.1; done"
asyncio.run(main(subprocess.Popen(["sh", "-c", stop])))
"""
    done = run(tmp_path, program, "asyncio")
    assert done.returncode == 0
    assert "blocked" not in done.stderr
    assert "late" not in done.stderr


def test_a_loop_that_sleeps_is_never_woken(tmp_path):
    program = """
import asyncio
import unisono

async def main():
    with unisono.watch(stall=0.05) as watch:
        # Until it has looked at a loop that sleeps: then no ping is under way.
        while (before := watch.counts())["wakes"] < 20:
            await asyncio.sleep(0.2)
        await asyncio.sleep(3)
        after = watch.counts()
        print(after["pings"] - before["pings"], after["wakes"] - before["wakes"])
asyncio.run(main())
"""
    done = run(tmp_path, program, "asyncio")
    pings, wakes = map(int, done.stdout.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert pings <= 1
    # Ten looks while its interval doubles up to a second, and one each second.
    assert wakes <= 12


def test_a_debugger_that_waits_for_a_person_is_no_stall(tmp_path):
    program = """
import asyncio, pdb, sys, threading, time, os
import unisono

class Slow(pdb.Pdb):
    def cmdloop(self):
        while not os.path.exists("over"):
            time.sleep(0.01)

async def main():
    with unisono.watch(stall=0.05) as watch:
        def end():
            while watch.counts()["stalls"] == 0:
                time.sleep(0.01)
            open("over", "w").close()
        threading.Thread(target=end).start()
        debugger = Slow()
        debugger.set_trace()
        here = 1
        debugger.set_continue()
        await asyncio.sleep(0)
asyncio.run(main())
"""
    done = run(tmp_path, program, "asyncio")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_nothing_is_left_when_it_is_off(unwatched):
    import asyncio

    import unisono

    run_forever = asyncio.BaseEventLoop.run_forever
    descriptors = len(os.listdir("/proc/self/fd"))
    threads = len(os.listdir("/proc/self/task"))
    for _ in range(20):
        with unisono.watch():
            assert asyncio.BaseEventLoop.run_forever is not run_forever
            asyncio.run(asyncio.sleep(0))
    assert asyncio.BaseEventLoop.run_forever is run_forever
    assert "__init_subclass__" not in asyncio.AbstractEventLoop.__dict__
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert len(os.listdir("/proc/self/task")) == threads


@pytest.fixture
def unwatched():
    if os.environ.get("UNISONO_WATCH"):
        pytest.skip("this process is watched by its environment")


def test_a_second_watch_must_ask_for_the_same(unwatched):
    import unisono

    with unisono.watch(stall=2), unisono.watch(stall=2.0) as second:
        with pytest.raises(unisono.ArgumentError, match=r"watched already, with stall=2\.0"):
            unisono.watch(stall=3)
        assert second.counts()["stalls"] == 0
    with pytest.raises(RuntimeError, match="it was stopped"):
        second.counts()


@pytest.mark.parametrize(("stall", "message"), [(0.001, "too short"), ("x", "stall"), (-1, "stall"), (True, "stall")])
def test_a_stall_that_makes_no_sense_is_refused(stall, message):
    import unisono

    with pytest.raises(unisono.UsageError, match=message):
        unisono.watch(stall=stall)


def test_a_file_that_cannot_be_opened_is_an_error_and_nothing_is_watched(tmp_path):
    import asyncio

    import unisono

    run_forever = asyncio.BaseEventLoop.run_forever
    with pytest.raises(IsADirectoryError):
        unisono.watch(file=tmp_path)
    assert asyncio.BaseEventLoop.run_forever is run_forever


def test_a_program_that_only_imports_unisono_is_watched_by_its_environment(tmp_path):
    program = """
import asyncio, sys, time
import unisono
async def main():
    time.sleep(0.5)  # HERE
asyncio.run(main())
"""
    done = run(tmp_path, program, "asyncio", UNISONO_WATCH="0.05")
    named = re.search(r"is blocked for .*?: (\S+):(\d+) in main", done.stderr)
    assert named, done.stderr
    assert (Path(named[1]).name, int(named[2])) == marked(tmp_path)
    assert run(tmp_path, "import unisono", "asyncio", UNISONO_WATCH="0").stderr == ""
    assert "UNISONO_WATCH" in run(tmp_path, "import unisono", "asyncio", UNISONO_WATCH="often").stderr


def test_what_was_told_is_logged_late_where_the_program_has_a_handler(tmp_path):
    program = """
import asyncio, logging, time
import unisono
logging.basicConfig(filename="log", level=logging.INFO, format="%(name)s %(levelname)s %(late)s %(message)s")
async def main():
    with unisono.watch(stall=0.05, file="told"):
        while "goes on" not in open("told").read():
            time.sleep(0.2)
            await asyncio.sleep(0.01)
        while "goes on" not in open("log").read():
            await asyncio.sleep(0.01)
asyncio.run(main())
"""
    done = run(tmp_path, program, "asyncio")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("unisono.watch")]
    assert lines[0].startswith("unisono.watch WARNING True unisono.watch: the event loop of MainThread")
    assert any(line.startswith("unisono.watch INFO True ") for line in lines)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_fork_watches_with_a_watchdog_of_its_own_and_nothing_hangs(loop, tmp_path):
    program = """
import asyncio, os, sys, time
import unisono
async def block():
    time.sleep(0.5)  # HERE
def run():
    if sys.argv[1] == "uvloop":
        import uvloop
        uvloop.run(block())
    else:
        asyncio.run(block())
unisono.watch(stall=0.05)
run()
child = os.fork()
if child == 0:
    run()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    done = run(tmp_path, program, loop)
    assert done.returncode == 0, done.stderr
    assert len(set(re.findall(r"of MainThread \((\d+)\) is blocked for", done.stderr))) == 2, done.stderr


def test_loops_in_several_threads_are_told_by_their_threads(tmp_path):
    program = """
import asyncio, threading, time
import unisono
async def first(): time.sleep(0.6)
async def second(): time.sleep(0.6)
async def third(): time.sleep(0.6)
with unisono.watch(stall=0.05):
    calls = (first, second, third)
    threads = [threading.Thread(target=asyncio.run, args=(call(),), name=call.__name__) for call in calls]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    done = run(tmp_path, program, "asyncio")
    assert done.returncode == 0
    pairs = set(re.findall(r"loop of (\w+) \(\d+\) is blocked for .* in (\w+)", done.stderr))
    assert pairs == {(name, name) for name in ("first", "second", "third")}, done.stderr


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_a_program_does_after_a_loop_that_was_watched_from_within_is_no_stall(loop, tmp_path):
    program = """
import asyncio, sys, time
import unisono
async def main():
    global watch
    watch = unisono.watch(stall=0.05)
    await asyncio.sleep(0.1)
    # Not asleep as it ends, so that a ping may be under way.
    until = time.monotonic() + 0.04
    while time.monotonic() < until: await asyncio.sleep(0)
if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
time.sleep(0.5)
print(watch.counts()["stalls"])
"""
    for _ in range(5):
        done = run(tmp_path, program, loop)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_system_calls_of_others_are_not_interrupted(tmp_path):
    program = """
import asyncio, select, signal, time
import unisono
got = []
signal.set_wakeup_fd(-1)
async def main():
    with unisono.watch(stall=0.05, file="told") as watch:
        while watch.counts()["stalls"] < 3:
            started = time.monotonic()
            select.select([], [], [], 0.2)
            time.sleep(0.2)
            assert time.monotonic() - started >= 0.4
            await asyncio.sleep(0.01)
asyncio.run(main())
"""
    done = run(tmp_path, program, "asyncio")
    assert (done.returncode, done.stderr) == (0, "")


# Stacks as they come: what is seen must be what the interpreter says.
STACKS = {
    "recursion": "def f(n):\n    return f(n - 1) if n else look()\nf(200)",
    "generator": "def g():\n    yield look()\nlist(g())",
    "comprehension": "[look() for _ in range(1)]",
    "class_body": "class C:\n    look()",
    "lambda_and_sort": "sorted([2, 1], key=lambda value: look() or value)",
    "names_that_are_not_ascii": "def übung():\n    look()\nübung()\ndef 名前():\n    look()\n名前()",
    "wide_names": "def 𝔞𝔟():\n    look()\n𝔞𝔟()",
    "file_that_is_not_ascii": "exec(compile('\\n\\nlook()', '/tmp/früh/名.py', 'exec'))",
    "property_and_descriptor": "class D:\n    @property\n    def value(self):\n        return look()\nD().value",
    "exception_handler": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    look()\nfinally:\n    look()",
    "finalizer": "class F:\n    def __del__(self):\n        look()\nF()",
    "a_long_function": "def long():\n" + "    x = 1\n" * 3000 + "    look()\nlong()",
    "coroutine": "import asyncio\nasync def inner():\n    look()\nasync def outer():\n    await inner()\nasyncio.run(outer())",
    "async_generator": (
        "import asyncio\nasync def rows():\n    look()\n    yield 1\n"
        "async def reads():\n    async for row in rows():\n        look()\nasyncio.run(reads())"
    ),
}


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_read_from_memory_is_the_one_that_the_interpreter_has(name):
    from unisono._native import WatchdogThread
    from unisono._watch import watching

    looks = []

    def look():
        looks.append((WatchdogThread.seen()[0], watching._stack(sys._getframe())))

    exec(compile(STACKS[name], "stack.py", "exec"), {"look": look})
    assert looks
    for seen, expected in looks:
        assert seen == expected


def test_signals_that_come_while_it_watches_go_to_the_program(tmp_path):
    program = """
import asyncio, os, signal
import unisono
async def main():
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, came.set)
    with unisono.watch(stall=0.05):
        for _ in range(100):
            os.kill(os.getpid(), signal.SIGUSR1)
            await came.wait()
            came.clear()
asyncio.run(main())
"""
    done = run(tmp_path, program, "asyncio")
    assert (done.returncode, done.stderr) == (0, "")
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


# Programs that do what is usual at their end, or with their loops, while they are watched.
ENDS = {
    "loops_that_are_closed_one_after_the_other": """
for _ in range(50):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
""",
    "a_loop_that_runs_again_in_another_thread": """
loop = asyncio.new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.sleep(0.2),))
thread.start()
thread.join()
loop.close()
""",
    "a_loop_that_is_never_closed": "loop = asyncio.new_event_loop()\nloop.run_until_complete(asyncio.sleep(0))",
    "a_daemon_thread_with_a_loop": """
started = threading.Event()
async def forever():
    started.set()
    await asyncio.sleep(1000)
threading.Thread(target=asyncio.run, args=(forever(),), daemon=True).start()
started.wait()
""",
    "an_exit_out_of_a_coroutine": """
async def leaves():
    sys.exit(0)
asyncio.run(leaves())
""",
    "an_exit_without_an_end": "asyncio.run(asyncio.sleep(0.1))\nos._exit(0)",
    "a_loop_within_a_loop_is_refused_as_ever": """
async def outer():
    inner = asyncio.new_event_loop()
    coroutine = asyncio.sleep(0)
    try:
        inner.run_until_complete(coroutine)
    except RuntimeError:
        coroutine.close()
    inner.close()
    await asyncio.sleep(0.2)
asyncio.run(outer())
""",
    "a_loop_that_stops_and_goes_on": """
loop = asyncio.new_event_loop()
for _ in range(100):
    loop.call_soon(loop.stop)
    loop.run_forever()
loop.close()
""",
    "a_thread_without_a_loop": """
thread = threading.Thread(target=time.sleep, args=(0.2,))
thread.start()
thread.join()
""",
    "many_tasks_that_wait": """
async def many():
    event = asyncio.Event()
    tasks = [asyncio.create_task(event.wait()) for _ in range(1000)]
    await asyncio.sleep(0.3)
    event.set()
    await asyncio.gather(*tasks)
asyncio.run(many())
""",
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("name", ENDS)
def test_a_program_that_is_watched_ends_as_one_that_is_not(name, loop, tmp_path):
    uvloop = "import uvloop\nasyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n" if loop == "uvloop" else ""
    program = f"import asyncio, os, sys, threading, time\nimport unisono\n{uvloop}unisono.watch(stall=5)\n{ENDS[name]}"
    done = run(tmp_path, program, loop)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_loops_that_are_gone_leave_nothing_behind(tmp_path):
    program = """
import asyncio, gc, os
import unisono
def open_files():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
with unisono.watch(stall=5):
    asyncio.run(asyncio.sleep(0))
    before = open_files()
    for _ in range(500):
        asyncio.run(asyncio.sleep(0))
    # The last loop is of the watchdog for a moment still.
    assert open_files() <= before + 3, (before, open_files())
"""
    done = run(tmp_path, program, "asyncio")
    assert (done.returncode, done.stderr) == (0, "")


# What programs do that must come to nothing worse for being watched.
ROUGH = {
    "a_thread_name_that_is_no_text": """
name = os.fsdecode(b"upload-\\xff.txt")
threading.Thread(target=lambda: asyncio.run(asyncio.sleep(0)), name=name).start()
""",
    "all_descriptors_closed_and_a_file_opened": """
os.closerange(3, 256)
with open("database", "w+b", buffering=0) as database:
    async def main():
        for _ in range(3):
            time.sleep(0.15)
            await asyncio.sleep(0)
    asyncio.run(main())
    watch.stop()
    assert os.pread(database.fileno(), 10, 0) == b""
""",
    "a_loop_that_has_no_more_than_it_needs": """
class Loop(asyncio.AbstractEventLoop):
    def run_forever(self):
        return None
Loop().run_forever()
""",
    "a_broken_pipe_for_standard_error": """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
reader, writer = os.pipe()
os.close(reader)
error = os.dup(2)
os.dup2(writer, 2)
async def main():
    while watch.counts()["stalls"] == 0:
        time.sleep(0.2)
        await asyncio.sleep(0)
asyncio.run(main())
os.dup2(error, 2)
""",
}


@pytest.mark.parametrize("name", ROUGH)
def test_what_a_program_does_is_not_worse_for_being_watched(name, tmp_path):
    stall = 0.05 if name == "a_broken_pipe_for_standard_error" else 5
    program = f"import asyncio, os, signal, threading, time\nimport unisono\nwatch = unisono.watch(stall={stall})\n"
    done = run(tmp_path, program + ROUGH[name], "asyncio")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr


def test_the_end_of_a_stall_is_told_although_the_loop_ends_with_it(tmp_path):
    program = """
import asyncio, time
import unisono
async def main():
    while not open("told").read():
        time.sleep(0.3)
with unisono.watch(stall=0.05, file="told", json=True):
    asyncio.run(main())
"""
    done = run(tmp_path, program, "asyncio")
    assert (done.returncode, done.stderr) == (0, "")
    assert [event["event"] for event in told(tmp_path)].count("ended") == 1


def test_what_is_no_function_is_not_decorated(unwatched):
    import unisono

    def generator():
        yield 1

    for wrong in (generator, int, None):
        with pytest.raises(unisono.ArgumentError, match="watch decorates functions"):
            unisono.watch(stall=5)(wrong)
