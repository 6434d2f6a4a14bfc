"""`import unisono` imports what `fetch` needs; the rest comes when it is first asked for, and no program can tell."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import unisono


def run(code, *, status=0):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (status, "")
    return done.stdout.split()


def test_a_program_that_fetches_imports_no_pools_clusters_or_measurements():
    ours = run("""
        import sys, unisono
        list(unisono.fetch([]))
        print(*(name for name in sys.modules if name.partition(".")[0] == "unisono"))
    """)
    others = [
        "_functions.batch",
        "_functions.callers",
        "_http.clients",
        "commands",
        "explaining",
        "files",
        "_pools.jobs",
        "_pools.process_pool",
        "_pools.thread_pool",
    ]
    assert [name for name in others if f"unisono.{name}" in ours] == []
    assert [name for name in ours if name.startswith(("unisono.clusters.", "unisono.explaining."))] == []


def test_each_public_name_is_there_and_is_the_same_when_it_is_asked_for_again():
    assert (
        run("""
        import unisono
        listed = dir(unisono)
        for name in unisono.__all__:
            if name not in listed or getattr(unisono, name) is not getattr(unisono, name):
                print(name)
    """)
        == []
    )


def test_each_public_module_is_there_without_an_import_of_its_own():
    folder = Path(unisono.__file__).parent
    modules = sorted(path.stem for path in folder.glob("[!_]*.py")) + ["clusters", "explaining"]
    assert run(f"""
        import unisono
        for name in {modules!r}:
            print(getattr(unisono, name).__name__)
    """) == [f"unisono.{name}" for name in modules]


def test_a_star_import_has_all_of_it():
    assert run("""
        import unisono
        names = {}
        exec("from unisono import *", names)
        print(set(unisono.__all__) - set(names))
    """) == ["set()"]


def test_a_name_that_is_written_wrong_is_said_with_the_right_one():
    done = subprocess.run([sys.executable, "-c", "import unisono; unisono.retyr"], capture_output=True, text=True)
    assert "AttributeError: module 'unisono' has no attribute 'retyr'. Did you mean: 'retry'?" in done.stderr


def test_type_checkers_are_told_of_what_comes_later_and_of_nothing_else():
    body = ast.parse(Path(unisono.__file__).read_text()).body
    (block,) = (
        node.body
        for node in body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    told = {alias.name: node.module for node in block for alias in node.names}
    modules = {name for name, module in told.items() if module == "unisono"}
    assert modules <= set(unisono._MODULES)
    assert {name: told[name] for name in told.keys() - modules} == {
        name: f"unisono.{module}" for name, module in unisono._MODULE_OF.items()
    }
    assert set(told) <= set(unisono.__all__)


def test_what_a_program_does_as_it_ends_comes_before_the_end_of_a_pool_that_it_made_later():
    assert run("""
        import atexit, unisono
        atexit.register(lambda: print(pool.submit(abs, -7).result()))
        pool = unisono.ProcessPool(1)
        print(pool.submit(abs, -6).result())
    """) == ["6", "7"]


def test_threads_are_refused_and_not_their_import_once_the_program_waits_for_its_last_threads():
    assert run("""
        import threading, unisono
        def last():
            threading.main_thread().join()
            try:
                unisono.ThreadPool(1).submit(print)
            except RuntimeError as error:
                print(error)
        threading.Thread(target=last).start()
    """) == ["cannot", "schedule", "new", "futures", "after", "interpreter", "shutdown"]


def test_tasks_of_threads_end_before_the_executors_of_the_standard_library_whatever_was_imported_first():
    assert run("""
        import threading, unisono
        from concurrent.futures import ThreadPoolExecutor
        from unisono import _shutdown
        theirs, ends = ThreadPoolExecutor(1), threading.Event()
        # Python 3.12 starts no thread once a program ends.
        theirs.submit(abs, -1).result()
        _shutdown.finishes(ends.set)
        unisono.ThreadPool(1).submit(lambda: ends.wait() and print(theirs.submit(abs, -7).result()))
    """) == ["7"]


def test_a_job_is_waited_for_though_another_end_raises():
    out = run("""
        import sys, unisono
        from unisono import _shutdown
        sys.unraisablehook = lambda raised: print(raised.exc_value)
        unisono.spawn(print, "done")
        @_shutdown.stops
        def fail():
            raise OSError("raised")
        pool = unisono.ProcessPool(1)
        print(pool.submit(abs, -7).result(), flush=True)
    """)
    assert sorted(out) == ["7", "done", "raised"]
