"""`unisono run`: a program as it is, as `python` would run it, with its loops watched."""

import json
import subprocess
import sys
import zipapp

import pytest

BLOCKS = """
import asyncio, time
async def main():
    time.sleep(0.5)  # HERE
asyncio.run(main())
"""


def test_a_program_that_does_not_know_of_unisono_is_watched(unisono, tmp_path):
    (tmp_path / "program.py").write_text(BLOCKS)
    told = tmp_path / "told"
    done = unisono("run", "--stall", "0.05", "--json", "--file", told, tmp_path / "program.py")
    assert (done.returncode, done.stderr) == (0, "")
    place = json.loads(told.read_text().splitlines()[0])["place"]
    assert (place["file"], place["line"]) == (str(tmp_path / "program.py"), 4)


def test_it_runs_on_the_loop_that_is_asked_for(unisono, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\nasync def main(): print(type(asyncio.get_running_loop()).__module__)\nasyncio.run(main())\n"
    )
    assert unisono("run", "--loop", "uvloop", program).stdout == "uvloop\n"
    assert unisono("run", program).stdout == "asyncio.unix_events\n"


# What a program can see of how it is run. `python` is the model.
LOOKS = """
import sys, os
print(__name__, os.path.basename(__file__), sys.argv[1:], sys.path[0] == os.path.dirname(os.path.abspath(__file__)))
print(sys.modules["__main__"].__dict__ is globals(), __spec__ is None or __spec__.name, __builtins__ is not None)
import neighbour
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [["program.py"], ["-m", "program"]])
def test_a_program_sees_itself_as_python_would_run_it(how, unisono, tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(LOOKS)
    (tmp_path / "neighbour.py").write_text("print('neighbour')\n")
    monkeypatch.chdir(tmp_path)
    expected = subprocess.run([sys.executable, *how, "7", "--json", "-m"], capture_output=True, text=True, check=False)
    done = unisono("run", *how, "7", "--json", "-m")
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.splitlines()[0].split("]")[0] == expected.stdout.splitlines()[0].split("]")[0]
    assert done.stdout.endswith("neighbour\n")


def test_what_it_pickles_is_found_by_worker_processes(unisono, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import unisono\ndef double(n): return 2 * n\n"
        "if __name__ == '__main__':\n    with unisono.ProcessPool(2) as pool: print(list(pool.map(double, range(3))))\n"
    )
    done = unisono("run", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 2, 4]\n", "")


def test_an_error_of_the_program_is_its_own_and_shows_its_lines(unisono, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("def fails():\n    raise LookupError('gone')\nfails()\n")
    done = unisono("run", program)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1] == f'  File "{program}", line 3, in <module>'
    assert done.stderr.endswith("LookupError: gone\n")


def test_what_the_program_says_itself_of_watching_holds(unisono, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import unisono\nwith unisono.watch(stall=3) as watch: print(watch.stall)\n")
    done = unisono("run", "--stall", "0.5", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3.0\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a script"),
        (["missing.py"], "missing.py: No such file or directory"),
        (["--stall", "0", "x.py"], "stall: 0.0 is too short"),
        (["--stall", "x", "x.py"], "argument --stall"),
        (["--loop", "trio", "x.py"], "argument --loop"),
        (["--file", "/nowhere/told", "x.py"], "/nowhere/told"),
    ],
)
def test_what_cannot_be_run_is_said_and_ends_with_2(words, message, unisono, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = unisono("run", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_its_help_says_what_there_is(unisono):
    done = unisono("run", "--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("--loop", "--stall", "--file", "--json", "-m"))


def test_an_archive_and_a_folder_with_a_main_module_are_run_as_well(unisono, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "__main__.py").write_text("import sys\nprint(__name__, sys.argv[1:])\n")
    archive = tmp_path / "program.pyz"
    zipapp.create_archive(folder, archive)
    for program in (folder, archive):
        done = unisono("run", program, "x")
        assert (done.returncode, done.stdout, done.stderr) == (0, "__main__ ['x']\n", "")
