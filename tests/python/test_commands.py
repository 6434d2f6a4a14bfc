"""`unisono.commands`: real processes from Python, and nothing of them left."""

import asyncio
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import uvloop

import unisono
from support.processes import PATIENCE
from unisono import commands

RUNS = {"asyncio": asyncio.run, "uvloop": uvloop.run}
HIDING = (
    "import os, sys, time; told, tell = os.pipe(); os.fork() and (os.read(told, 1), os._exit(0)); "
    "os.setsid(); print('hidden', flush=True); os.write(tell, b'.'); time.sleep(1000)"
)
"""A grandchild in a session of its own, whose parent is gone once it has printed."""


@pytest.fixture(params=RUNS)
def run(request):
    return RUNS[request.param]


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """Whatever a test starts carries its mark; after it nothing that carries it may live."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("UNISONO_TEST_MARK", mark)
    # The zygote of a test of pools ends when it was not used for a minute, and is buried when there is to be another.
    others = children()
    yield
    wait_until(lambda: not marked(mark), lambda: f"left over: {marked(mark)}")
    wait_until(lambda: not zombies(others), lambda: f"zombies: {zombies(others)}")


def marked(mark):
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"UNISONO_TEST_MARK={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_text()
    return found


def children():
    """The children of this process, of all its threads, and how they are."""
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for pid in (folder / "children").read_text().split():
                found[int(pid)] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return found


def zombies(others):
    return {pid for pid, state in children().items() if state == "Z" and pid not in others}


def wait_until(condition, message=lambda: "what was waited for did not happen", seconds=PATIENCE):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, message()
        time.sleep(0.01)


def sleeper(path):
    """A command that sleeps, and says so in a file; what it has started sleeps as well."""
    return ["sh", "-c", f'setsid sleep 1000 & echo $! > "{path}.child"; mv "{path}.child" "{path}"; sleep 1000; wait']


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Many.


def test_different_commands_run_at_once_and_one_that_fails_hides_none():
    given = [["echo", "pods"], ["sh", "-c", "echo no >&2; exit 3"], ["printf", '{"kind": "svc"}'], ["no-such-program"]]
    outcomes = list(commands.each(given, keep_order=True, limit=4))
    pods, failed, svc, missing = outcomes
    assert [outcome.item for outcome in outcomes] == [outcome.argv for outcome in outcomes] == given
    assert [outcome.ok for outcome in outcomes] == [True, False, True, False]
    assert [outcome.result.exit_code for outcome in outcomes] == [0, 3, 0, 127]
    assert (pods.result.stdout, pods.result.text, pods.result.stderr, pods.error, pods.result.signal) == (
        b"pods\n",
        "pods\n",
        b"",
        None,
        None,
    )
    assert svc.result.json() == {"kind": "svc"}
    assert (failed.result.stdout, failed.result.stderr) == (b"", b"no\n")
    assert isinstance(missing.error, FileNotFoundError)
    assert all(isinstance(outcome, unisono.Outcome) for outcome in outcomes)


def test_an_outcome_tells_what_it_cost():
    before = time.time()
    outcome = commands.run([sys.executable, "-c", "x = bytearray(200 << 20); sum(range(1_000_000))"])
    assert before - 1 < outcome.result.started < time.time()
    assert outcome.elapsed > outcome.result.cpu_seconds / 2 > 0
    assert outcome.result.peak_memory > 200 << 20
    assert (outcome.attempts, outcome.result.left_over, outcome.result.saved) == (1, 0, None)
    assert commands.run(["no-such-program"]).result.started is None


def test_as_many_run_at_once_as_the_limit_says(tmp_path):
    # Each waits for the others: with a smaller limit they would wait for ever.
    script = f'touch "{tmp_path}/$UNISONO_SEQ"; while [ $(ls "{tmp_path}" | wc -l) -lt 5 ]; do sleep 0.01; done'
    report = commands.each([["sh", "-c", script]] * 5, limit=5, timeout=60).run()
    assert report.ok == 5


def test_one_command_over_many_items():
    batch = commands.each(["echo", "<{}>"], items=["a b", Path("c"), b"\xff", 7, "$HOME; rm"], keep_order=True)
    assert [outcome.result.stdout for outcome in batch] == [
        b"<a b>\n",
        b"<c>\n",
        b"<\xff>\n",
        b"<7>\n",
        b"<$HOME; rm>\n",
    ]
    (outcome,) = commands.each(["echo"], items=["at the end"])
    assert (outcome.item, outcome.argv, outcome.result.text) == ("at the end", ["echo", "at the end"], "at the end\n")


def test_items_may_have_members(tmp_path):
    items = [{"name": "web 1", "port": 80, "zone": tmp_path}, {"name": "web 2", "port": 8080, "zone": tmp_path}]
    batch = commands.each(
        ["sh", "-c", 'echo "$1 $PORT $(pwd) $(cat)"', "sh", "{name}"],
        items=items,
        cwd="{zone}",
        env={"PORT": "{port}"},
        input="read {name}",
        keep_order=True,
    )
    assert [outcome.result.text for outcome in batch] == [
        f"web 1 80 {tmp_path} read web 1\n",
        f"web 2 8080 {tmp_path} read web 2\n",
    ]


def test_items_in_a_script_are_quoted():
    items = ["a'b", "$(echo code)", "`echo code`", "two words"]
    batch = commands.each("printf '%s' {}", items=items, shell=True, keep_order=True)
    assert [outcome.result.text for outcome in batch] == items


def test_a_member_that_is_missing_is_the_failure_of_its_item_alone():
    items = [{"host": "a"}, {"name": "b"}, "c", {"host": None}]
    outcomes = list(commands.each(["echo", "{host}"], items=items, keep_order=True))
    assert [outcome.ok for outcome in outcomes] == [True, False, False, False]
    assert [str(outcome.error) for outcome in outcomes[1:]] == [
        "the item has no `host`",
        "the command asks for `{host}`, so an item has to be a mapping",
        "`host` is neither text, a path nor a number: a value of type NoneType",
    ]
    assert all(isinstance(outcome.error, unisono.CommandInputError) for outcome in outcomes[1:])
    assert all(isinstance(outcome.error, ValueError) for outcome in outcomes[1:])


def test_commands_may_have_an_environment_a_folder_an_input_and_a_name_of_their_own(tmp_path):
    script = ["sh", "-c", 'echo "$A-$B-${C-none}-$(cat)"; pwd']
    given = [
        {"argv": script, "id": "first", "env": {"A": 1, "C": None}, "input": "text", "cwd": tmp_path},
        {"argv": script, "input": b"bytes"},
        script,
    ]
    batch = commands.each(given, env={"A": "a", "B": "b", "C": "c"}, input="common", cwd="/", keep_order=True)
    assert [(outcome.id, outcome.result.text) for outcome in batch] == [
        ("first", f"1-b-none-text\n{tmp_path}\n"),
        ("r1", "a-b-c-bytes\n/\n"),
        ("r2", "a-b-c-common\n/\n"),
    ]
    (outcome,) = commands.each([{"argv": ["true"], "user": "root"}])
    assert "a command has no `user`" in str(outcome.error)


def test_the_environment_is_that_of_os_environ_when_the_batch_starts(monkeypatch):
    monkeypatch.setenv("UNISONO_TEST_VALUE", "mine")
    batch = commands.each([["sh", "-c", "echo $UNISONO_TEST_VALUE"]])
    monkeypatch.setenv("UNISONO_TEST_VALUE", "changed")
    assert next(batch).result.text == "changed\n"
    assert commands.run(["sh", "-c", "echo $PATH"], env={"PATH": "/bin"}).result.text == "/bin\n"
    assert commands.run(["echo"], env={"PATH": "/nowhere"}).result.exit_code == 127


def test_a_text_as_a_command_is_refused_with_a_hint():
    for mistake in [lambda: commands.run("ls -l"), lambda: commands.each(["ls", "-l"]), lambda: commands.each("ls")]:
        with pytest.raises(unisono.UsageError, match="list"):
            mistake()
    with pytest.raises(unisono.UsageError, match="shell=True"):
        commands.each("echo {}", items=["a"]).run()
    (outcome,) = commands.each(text for text in ["ls -l"])
    assert isinstance(outcome.error, unisono.CommandInputError)
    assert "shell=True" in str(outcome.error)


def test_mistakes_are_told_before_anything_is_started(tmp_path):
    cases = [
        ({"timeout": "soon"}, "timeout"),
        ({"resume": True}, "need out="),
        ({"env": {"A=B": "c"}}, "cannot be the name"),
        ({"env": ["A"]}, "expected a mapping"),
        ({"input": 7}, "neither text nor bytes"),
        ({"key": "zone"}, "needs items="),
        ({"per_key": 2}, "need key="),
        ({"save": "{}"}, "only place is"),
    ]
    for options, why in cases:
        with pytest.raises(unisono.UsageError, match=why):
            commands.each([["touch", tmp_path / "started"]], **options).run()
    with pytest.raises(TypeError, match="per_host"):
        commands.each([["touch", tmp_path / "started"]], per_host=3).run()
    with pytest.raises(unisono.UsageError, match="the command is empty"):
        commands.each([], items=["a"]).run()
    assert list(tmp_path.iterdir()) == []


def test_commands_are_pulled_lazily():
    pulled = []

    def given():
        for number in range(1_000_000):
            pulled.append(number)
            yield ["true"]

    with commands.each(given(), limit=2) as batch:
        next(batch)
    assert len(pulled) < 50_000
    assert batch.report.total <= len(pulled)


def test_commands_with_the_same_key_take_turns(tmp_path):
    # A command that finds the lock of its key taken fails.
    script = 'mkdir "$1" || exit 1; sleep 0.02; rmdir "$1"'
    items = [{"zone": tmp_path / str(number % 2)} for number in range(12)]
    batch = commands.each(["sh", "-c", script, "sh", "{zone}"], items=items, key="zone", limit=12)
    assert batch.run().ok == 12


def test_items_may_be_their_own_keys(tmp_path):
    script = 'mkdir "$1" || exit 1; sleep 0.02; rmdir "$1"'
    items = [tmp_path / str(number % 3) for number in range(9)]
    assert commands.each(["sh", "-c", script, "sh", "{}"], items=items, key=1, limit=9).run().ok == 9


def test_retries_are_for_the_exit_codes_that_are_worth_it(tmp_path):
    def count(code, **options):
        marks = tmp_path / str(len(list(tmp_path.iterdir())))
        marks.mkdir()
        script = f'mktemp -p "{marks}"; [ "$UNISONO_ATTEMPT" = 3 ] || exit {code}'
        outcome = commands.run(["sh", "-c", script], **options)
        assert outcome.attempts == len(list(marks.iterdir()))
        return outcome.attempts, outcome.ok

    assert count(75, retries=5) == (3, True)
    assert count(75, retries=5, retry_exit=[75]) == (3, True)
    assert count(1, retries=5, retry_exit=[75]) == (1, False)
    assert count(75, expect=[0, 75]) == (1, True)


def test_output_is_saved_to_files_of_its_own(tmp_path):
    report = commands.each(["echo", "{}"], items=["a", "b/c"], save=f"{tmp_path}/{{}}.txt").run()
    assert sorted(outcome.result.saved.name for outcome in report.outcomes) == ["a.txt", "b%2Fc.txt"]
    assert (tmp_path / "a.txt").read_text() == "a\n"


# What is printed and read.


def test_ten_megabytes_come_back_whole():
    script = (
        "import sys; data = bytes(range(251)) * 40_000; sys.stdout.buffer.write(data); sys.stderr.buffer.write(data)"
    )
    outcome = commands.run([sys.executable, "-c", script], check=True)
    expected = bytes(range(251)) * 40_000
    assert outcome.result.stdout == outcome.result.stderr == expected
    assert outcome.result.stdout is outcome.result.stdout
    assert outcome.result.text == expected.decode("utf-8", "replace")


def test_what_is_read_and_printed_is_bytes():
    data = os.urandom(300_000)
    assert commands.run(["cat"], input=data).result.stdout == data
    assert commands.run(["cat"], input="ü").result.stdout == "ü".encode()
    assert commands.run(["cat"]).result.stdout == b""
    # One that does not read what it is given is no failure.
    assert commands.run(["true"], input=bytes(1 << 20)).ok


def test_text_is_text():
    outcome = commands.run(["printf", r"a\377"], text=True)
    assert (outcome.result.stdout, outcome.result.stderr) == ("a\ufffd", "")
    with pytest.raises(ValueError, match="decode"):
        outcome.result.json()


def test_a_filter_is_ended_by_a_pipe_that_nobody_reads():
    # Python ignores SIGPIPE; what it starts must not.
    outcome = commands.run("yes | head -n 1", shell=True, timeout=60)
    assert (outcome.result.text, outcome.ok) == ("y\n", True)


def test_too_much_output_ends_a_command():
    outcome = commands.run(["yes"], max_output="64KiB")
    assert (outcome.kind, outcome.error.kind, len(outcome.result.stdout)) == ("failed", "too_large", 65536)


# Errors.


def test_check_raises_what_callers_of_subprocess_catch():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        commands.run(["sh", "-c", "echo out; echo first >&2; echo the reason >&2; exit 7"], check=True)
    error = caught.value
    assert isinstance(error, unisono.CommandFailed)
    assert str(error) == "`sh`: exit status 7: the reason"
    assert (error.returncode, error.exit_code, error.cmd[0]) == (7, 7, "sh")
    assert error.stdout == error.output == b"out\n"
    assert error.stderr == b"first\nthe reason\n"
    assert (error.kind, error.outcome, error.signal, error.attempts) == ("exit", "failed", None, 1)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.returncode, again.stderr) == (str(error), 7, error.stderr)


def test_each_end_has_its_exception(tmp_path):
    (tmp_path / "plain").write_text("no program")
    cases = [
        (["sh", "-c", "kill -9 $$"], {}, unisono.CommandFailed, None),
        (["no-such-program"], {}, unisono.CommandNotFound, FileNotFoundError),
        ([tmp_path / "plain"], {}, unisono.CommandNotStarted, OSError),
        (["true"], {"cwd": tmp_path / "none"}, unisono.CommandNotStarted, OSError),
        (["sleep", "100"], {"timeout": 0.05}, unisono.CommandTimeout, TimeoutError),
        (["sleep", "100"], {"deadline": 0.05}, unisono.CommandTimeout, TimeoutError),
        (["echo", "nul\0byte"], {}, unisono.CommandInputError, ValueError),
    ]
    for argv, options, kind, builtin in cases:
        with pytest.raises(unisono.CommandError) as caught:
            commands.run(argv, check=True, **options)
        assert type(caught.value) is kind, argv
        assert builtin is None or isinstance(caught.value, builtin)
    killed = commands.run(["sh", "-c", "kill -9 $$"])
    assert (killed.result.exit_code, killed.result.signal, killed.error.returncode) == (None, 9, -9)


def test_the_report_tells_commands_apart_by_their_key():
    items = [{"zone": zone, "n": n} for zone in ("eu", "us") for n in range(3)]
    report = commands.each(["sh", "-c", "[ $1 -lt 2 ]", "sh", "{n}"], items=items, key="zone", per_key=3).run()
    assert report.key == "key"
    assert {zone: (counts["ok"], counts["failed"]) for zone, counts in report.by_key().items()} == {
        "eu": (2, 1),
        "us": (2, 1),
    }
    assert commands.each([["true"]]).run().by_key() == {}


def test_check_returns_the_result():
    outcome = commands.run(["true"])
    assert outcome.check() is outcome.result


# Whole trees.


def timed_out(argv, has_begun, **options):
    """Its outcome with a timeout before which it has begun, however slow the machine is now."""
    for timeout in (0.3, 1, 4, 16):
        outcome = commands.run(argv, timeout=timeout, **options)
        assert (outcome.kind, outcome.error.kind) == ("timed_out", "timeout")
        if has_begun(outcome):
            return outcome
    raise AssertionError("it never began")


def test_a_timeout_kills_the_whole_tree(tmp_path):
    path = tmp_path / "child"
    timed_out(sleeper(path), lambda _: path.exists())
    assert not is_alive(path.read_text().strip())


def test_a_timeout_kills_what_ignores_sigterm():
    script = "trap '' TERM; echo ready; while :; do sleep 1; done"
    outcome = timed_out(["sh", "-c", script], lambda outcome: outcome.result.text == "ready\n", kill_after=0.05)
    assert outcome.result.signal == signal.SIGKILL


def test_what_outlives_its_command_is_ended_with_it():
    outcome = commands.run([sys.executable, "-c", HIDING])
    assert (outcome.ok, outcome.result.text, outcome.result.left_over) == (True, "hidden\n", 1)


def test_what_is_to_be_left_alone_is_left_alone():
    outcome = commands.run("sleep 1000 >/dev/null 2>&1 & echo $!", shell=True, leave_running=True)
    pid = int(outcome.result.text)
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_leaving_a_batch_early_leaves_nothing_running(tmp_path):
    commands_given = [["true"], *(sleeper(tmp_path / str(number)) for number in range(3))]
    with commands.each(commands_given, limit=4, grace=0, keep_order=False) as batch:
        next(batch)
        wait_until(lambda: len([path for path in tmp_path.iterdir() if path.suffix == ""]) == 3)
    assert not any(is_alive(path.read_text().strip()) for path in tmp_path.iterdir())
    assert (batch.report.ok, batch.report.cancelled) == (1, 3)


def test_closing_a_batch_stops_it(tmp_path):
    batch = commands.each([["true"], sleeper(tmp_path / "a")], limit=2)
    next(batch)
    wait_until((tmp_path / "a").exists)
    batch.close()
    wait_until(lambda: not is_alive((tmp_path / "a").read_text().strip()))


def test_max_failures_stops_the_batch():
    report = commands.each((["false"] for _ in range(1_000_000)), max_failures=3, limit=2).run()
    assert (report.stopped, report.ok, report.exit_code) == ("MaxFailures", 0, 3)


# Beside others in the same process.


def test_popen_beside_us_is_not_disturbed():
    handler = signal.getsignal(signal.SIGCHLD)
    running = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ended = [subprocess.Popen(["sh", "-c", f"exit {code}"]) for code in range(20)]
    report = commands.each([["sh", "-c", f"exit {code}"] for code in range(20)], keep_order=True).run()
    assert [outcome.result.exit_code for outcome in report.outcomes] == list(range(20))
    assert [process.wait(timeout=60) for process in ended] == list(range(20))
    assert running.poll() is None
    assert running.communicate(b"alive", timeout=60) == (b"alive", None)
    assert signal.getsignal(signal.SIGCHLD) == handler
    assert signal.set_wakeup_fd(-1) == -1


def test_orphans_of_others_do_not_come_to_us(tmp_path):
    commands.run(["true"])
    pid = int(subprocess.check_output(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]))
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    commands.run(["true"])
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    assert parent != os.getpid()


def test_two_runs_at_once_leave_each_other_alone(tmp_path):
    async def main():
        task = asyncio.ensure_future(commands.run_async(sleeper(tmp_path / "a")))
        while not (tmp_path / "a").exists():
            await asyncio.sleep(0.01)
        report = await commands.each([["true"]] * 20)
        assert (report.ok, is_alive((tmp_path / "a").read_text().strip())) == (20, True)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_program_that_takes_in_all_ends_makes_ours_ambiguous():
    code = """
        import signal
        import unisono
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        outcome = unisono.commands.run(["echo", "printed"])
        assert (outcome.kind, outcome.result.text, outcome.result.exit_code) == ("ambiguous", "printed\\n", None), outcome
        assert isinstance(outcome.error, unisono.CommandAmbiguous)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_forked_child_runs_commands_of_its_own():
    assert commands.run(["true"]).ok
    child = os.fork()
    if child == 0:
        os._exit(7 if commands.run(["echo", "child"]).result.text == "child\n" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_it_works_in_a_thread_that_is_not_the_main_one():
    answers = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(commands.run(["echo", n]).result.text.strip()))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [str(n) for n in range(8)]


# On event loops.


def test_commands_run_on_a_loop(run):
    async def main():
        given = [["echo", str(number)] for number in range(50)]
        async with commands.each(given) as batch:
            return {int(outcome.result.text) async for outcome in batch}

    assert run(main()) == set(range(50))


def test_one_command_is_awaited_beside_others(run):
    async def main():
        own = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        outcomes = await asyncio.gather(*(commands.run_async(["echo", n], text=True) for n in range(5)))
        with pytest.raises(unisono.CommandFailed):
            await commands.run_async(["false"], check=True)
        printed, _ = await own.communicate(b"own")
        return [outcome.result.stdout for outcome in outcomes], printed, own.returncode

    assert run(main()) == ([f"{n}\n" for n in range(5)], b"own", 0)


def test_cancelling_the_task_stops_all_of_the_command(run, tmp_path):
    async def main():
        task = asyncio.ensure_future(commands.run_async(sleeper(tmp_path / "a")))
        while not (tmp_path / "a").exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_alive((tmp_path / "a").read_text().strip())

    run(main())


def test_a_bound_of_asyncio_stops_all_of_the_command(run, tmp_path):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await commands.run_async(sleeper(tmp_path / "a"))

    run(main())


# Results files.


def test_a_resume_runs_only_what_is_new(tmp_path):
    out, marks = tmp_path / "out.jsonl", tmp_path / "marks"
    marks.mkdir()

    def go(items, **options):
        template = ["sh", "-c", f'mktemp -p "{marks}"; [ "$1" != bad ]', "sh", "{}"]
        report = commands.each(template, items=items, out=out, **options).run()
        return report, len(list(marks.iterdir()))

    report, started = go(["a", "bad", "b"])
    assert (report.ok, report.failed, started, report.outcomes) == (2, 1, 3, [])
    # Known again by its content, wherever it stands.
    report, started = go(["new", "b", "bad", "a"], resume=True)
    assert (report.ok, report.failed, started) == (3, 1, 4)
    report, started = go(["new", "b", "bad", "a"], retry_failed=True)
    assert (report.failed, started) == (1, 5)
    with pytest.raises(unisono.UsageError):
        go(["a"])


def test_a_resume_of_different_commands_knows_them_by_what_they_are(tmp_path):
    out = tmp_path / "out.jsonl"
    commands.each([["echo", "a"], ["echo", "b"]], out=out).run()
    fresh = [outcome.argv for outcome in commands.each([["echo", "c"], ["echo", "a"]], out=out, resume=True)]
    assert fresh == [["echo", "c"]]


def test_what_ran_when_the_program_was_killed_is_ambiguous(tmp_path):
    out, mark = tmp_path / "out.jsonl", tmp_path / "mark"
    argv = ["sh", "-c", f'[ -e "{mark}" ] || {{ echo $$ > "{mark}.part"; mv "{mark}.part" "{mark}"; sleep 1000; }}']
    code = f"from unisono import commands; commands.each([{argv!r}], out={str(out)!r}).run()"
    program = subprocess.Popen([sys.executable, "-c", code])
    wait_until(mark.exists)
    program.kill()
    program.wait()
    os.killpg(int(mark.read_text()), signal.SIGKILL)
    report = commands.each([argv], out=out, resume=True).run()
    assert (report.ok, report.ambiguous) == (0, 1)
    assert commands.each([argv], out=out, retry_ambiguous=True).run().ok == 1


def test_a_results_file_is_shared_with_the_command(tmp_path, unisono):
    out = tmp_path / "out.jsonl"
    commands.each(["echo", "{}"], items=["a", "b"], out=out).run()
    done = unisono("each", "-o", out, "--resume", "--", "echo", "{}", ":::", "b", "c", "a")
    assert done.returncode == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(line["stdout"] for line in lines) == ["a\n", "b\n", "c\n"]


# The end of a process.

CASES = {
    "a_keyboard_interrupt_in_run": (
        """
        interrupt_when_ready()
        try:
            commands.run(sleeper)
        except KeyboardInterrupt:
            assert not is_alive()
        else:
            raise AssertionError
    """,
        0,
    ),
    "a_keyboard_interrupt_that_nobody_catches": (
        """
        interrupt_when_ready()
        commands.run(sleeper)
    """,
        -signal.SIGINT,
    ),
    "a_keyboard_interrupt_on_a_loop": (
        """
        interrupt_when_ready()
        try:
            asyncio.run(commands.run_async(sleeper))
        except KeyboardInterrupt:
            assert not is_alive()
    """,
        0,
    ),
    "two_keyboard_interrupts_and_what_ignores_sigterm": (
        """
        interrupt_when_ready(times=2)
        stubborn = ["sh", "-c", "trap '' TERM; " + sleeper[2]]
        try:
            commands.run(stubborn)
        except KeyboardInterrupt:
            pass
    """,
        0,
    ),
    "an_abandoned_batch": (
        """
        batch = commands.each([["true"], sleeper], limit=2)
        next(batch)
        wait_until_ready()
    """,
        0,
    ),
    "an_exit_while_another_thread_waits_for_what_ignores_sigterm": (
        """
        stubborn = ["sh", "-c", "trap '' TERM; " + sleeper[2]]
        threading.Thread(target=commands.run, args=(stubborn,), daemon=True).start()
        wait_until_ready()
    """,
        0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_after(tmp_path, name):
    head = textwrap.dedent(f"""
        import asyncio, os, pathlib, signal, subprocess, sys, threading, time
        from unisono import commands
        path = pathlib.Path({str(tmp_path / "child")!r})
        sleeper = {sleeper(tmp_path / "child")!r}
        def is_alive():
            # The process that adopts what has ended may take its time to take that in.
            state = subprocess.run(["ps", "-o", "stat=", "-p", path.read_text().strip()], capture_output=True).stdout
            return state.strip()[:1] not in (b"", b"Z")
        def wait_until_ready():
            while not path.exists():
                time.sleep(0.01)
        def interrupt_when_ready(times=1):
            def interrupt():
                wait_until_ready()
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.3)
            threading.Thread(target=interrupt, daemon=True).start()
    """)
    code, status = CASES[name]
    process = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == status, process.stderr
    assert process.stdout == ""
    assert process.stderr == "" or status != 0
    assert not is_alive((tmp_path / "child").read_text().strip())
