"""Programs of every kind have pools: modules, archives, standard input; and their workers draw random numbers of their
own."""

import subprocess
import sys
import zipapp

import pytest

import unisono
from unisono._pools import spawning as _spawning

BODY = """
import sys
import unisono

class Pair:
    def __init__(self, one):
        self.one = one

def double(number):
    return number * 2

def one(pair):
    return Pair(pair.one + 1)

def main():
    with unisono.ProcessPool(2, start_method=sys.argv[1]) as pool:
        print(*pool.map(double, [1, 2]), pool.submit(one, Pair(3)).result(60).one)

"""
GUARDED = BODY + "if __name__ == '__main__':\n    main()\n"
METHODS = ["zygote", "spawn", "fork"]
#: As where cloudpickle is not installed.
WITHOUT = "import sys; sys.modules['cloudpickle'] = None\n"


def run(words, folder, **options):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def file(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "kind",
    [
        "script",
        "package",
        "module",
        "folder",
        "archive",
        "archive with a main function",
        "run_path",
        "run_module",
        "a path that is relative",
    ],
)
def test_programs_that_workers_can_run_have_pools(tmp_path, kind, method):
    words = [file(tmp_path, "script.py", GUARDED)]
    if kind == "package":
        file(tmp_path, "package/__init__.py", "")
        file(tmp_path, "package/__main__.py", GUARDED)
        words = ["-m", "package"]
    elif kind == "module":
        file(tmp_path, "package/__init__.py", "")
        file(tmp_path, "package/module.py", GUARDED)
        words = ["-m", "package.module"]
    elif kind == "folder":
        words = [file(tmp_path, "folder/__main__.py", GUARDED).parent]
    elif kind == "archive":
        source = file(tmp_path, "source/__main__.py", GUARDED).parent
        file(tmp_path, "source/beside.py", "")
        zipapp.create_archive(source, tmp_path / "program.pyz", compressed=True)
        words = ["program.pyz"]
    elif kind == "archive with a main function":
        source = file(tmp_path, "source/inside/__init__.py", "").parent.parent
        file(tmp_path, "source/inside/program.py", BODY)
        zipapp.create_archive(source, tmp_path / "program.pyz", main="inside.program:main")
        words = ["program.pyz"]
    elif kind == "run_path":
        words = ["-c", "import runpy; runpy.run_path('script.py', run_name='__main__')"]
    elif kind == "run_module":
        words = ["-c", "import runpy; runpy.run_module('script', run_name='__main__', alter_sys=True)"]
    elif kind == "a path that is relative":
        words = ["script.py"]
    done = run([*words, method], tmp_path)
    assert (done.stdout, done.returncode) == ("2 4 4\n", 0), done.stderr


#: Programs that no other process can run, by how they are given.
def given(kind, text, method, folder):
    if kind == "input":
        return run(["-", method], folder, input=text)
    if kind == "words":
        return run(["-c", text, method], folder)
    if kind == "deleted":
        path = file(folder, "deleted.py", "import os; os.unlink(__file__)\n" + text)
        return run([path, method], folder)
    # As where a main program was frozen: there is a module, and no file.
    path = file(
        folder,
        "frozen.py",
        f"import sys, types\nmain = types.ModuleType('__main__')\nsys.modules['__main__'] = main\n"
        f"exec(compile({text!r}, '<frozen>', 'exec'), main.__dict__)\n",
    )
    return run([path, method], folder)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["input", "words", "deleted", "frozen"])
def test_programs_that_workers_cannot_run_have_pools_by_value(tmp_path, kind, method):
    # A class of such a program travels by value as well, so what comes back is of the same shape.
    done = given(kind, GUARDED, method, tmp_path)
    assert (done.stdout, done.returncode) == ("2 4 4\n", 0), done.stderr


@pytest.mark.parametrize("kind", ["input", "words", "deleted", "frozen"])
def test_without_cloudpickle_such_programs_are_told_what_to_do(tmp_path, kind):
    done = given(kind, WITHOUT + GUARDED, "zygote", tmp_path)
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert "UnpicklableError" in last and "install cloudpickle" in last and 'start_method="fork"' in last
    assert given(kind, WITHOUT + GUARDED, "fork", tmp_path).stdout == "2 4 4\n"


UNGUARDED = """
import unisono

def double(number):
    return number * 2

{call}
"""
CALLS = {
    "pool": "with unisono.ProcessPool(2) as pool: print(*pool.map(double, [1, 2]))",
    "Pool": "with unisono.Pool(2) as pool: print(*pool.map(double, [1, 2]))",
    "batch": "print(unisono.batch(double, [1, 2], executor='processes').run())",
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("is_imported", [True, False])
def test_a_program_or_module_that_makes_its_pool_unguarded_is_told_so(tmp_path, call, is_imported):
    file(tmp_path, "unguarded.py", UNGUARDED.format(call=CALLS[call]))
    done = run(["-c", "import unguarded"] if is_imported else ["unguarded.py"], tmp_path)
    said = done.stdout + done.stderr
    assert "RuntimeError" in said and "would" in said and "again" in said, said
    assert ("in a function of the module" if is_imported else "__name__") in said, said


def test_a_task_may_import_a_module_that_makes_a_pool(tmp_path, monkeypatch):
    file(
        tmp_path,
        "makes_a_pool.py",
        "import unisono\nwith unisono.ProcessPool(1) as pool: ONE = pool.submit(abs, -1).result()",
    )
    monkeypatch.syspath_prepend(tmp_path)
    with unisono.ProcessPool(1) as pool:
        assert pool.submit(import_it).result(60) == 1


def import_it():
    import makes_a_pool

    return makes_a_pool.ONE


DRAWS = """
import random, secrets, sys, tempfile, uuid
import numpy.random
import unisono

def draw(barrier):
    barrier.wait()
    name = next(tempfile._get_candidate_names())
    return random.random(), float(numpy.random.random()), secrets.token_hex(8), str(uuid.uuid4()), name

def keep(made):
    global barrier
    barrier = made

def draw_together(_):
    return draw(barrier)

if __name__ == "__main__":
    import multiprocessing
    context = multiprocessing.get_context("spawn" if sys.argv[1] == "spawn" else sys.argv[2])
    random.seed(1), numpy.random.seed(1), numpy.random.random()
    with unisono.ProcessPool(
        3, start_method=sys.argv[1], preload=["numpy.random", "random", "uuid", "secrets", "tempfile"],
        initializer=keep, initargs=(context.Barrier(3),),
    ) as pool:
        drawn = list(pool.map(draw_together, range(3)))
    for each in zip(*drawn):
        assert len(set(each)) == 3, each
    print("apart")
"""


@pytest.mark.parametrize("method", METHODS)
def test_workers_draw_random_numbers_of_their_own(tmp_path, method):
    file(tmp_path, "draws.py", DRAWS)
    done = run(["draws.py", method, "fork" if method == "fork" else "spawn"], tmp_path)
    assert (done.stdout, done.returncode) == ("apart\n", 0), done.stderr


def test_an_initializer_may_seed():
    def drawn():
        with unisono.ProcessPool(1, preload=["numpy.random"], initializer=seed, initargs=(7,)) as pool:
            return pool.submit(numbers).result(60)

    assert drawn() == drawn()
    _spawning.stop_zygotes()


def seed(number):
    import random

    import numpy as np

    random.seed(number)
    np.random.seed(number)


def numbers():
    import random

    import numpy as np

    return random.random(), float(np.random.random())
