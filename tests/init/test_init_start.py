"""What does not start, what is small, and what makes no sense."""

import re
from pathlib import Path

import pytest

from support.init import INIT


def test_a_missing_command_is_127_and_says_where_it_was_looked_for(finished):
    done = finished("--", "no-such-command")
    assert done.returncode == 127
    assert "unisono-init: cannot start `no-such-command`: not found in PATH (" in done.stderr
    assert "unisono-init: hint: " in done.stderr


@pytest.mark.parametrize(
    ("content", "mode", "code", "part"),
    [
        ("#!/bin/sh\n", 0o644, 126, "chmod +x"),
        ("no format\n", 0o755, 126, "`#!`"),
        ("#!/no/such/interpreter\n", 0o755, 127, "the file is there"),
    ],
)
def test_what_cannot_be_run_is_told_with_its_reason(finished, tmp_path, content, mode, code, part):
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(mode)
    done = finished("--", "./program")
    assert done.returncode == code
    assert "cannot start `./program`: " in done.stderr
    assert part in done.stderr


def test_a_folder_and_a_missing_path_are_told_apart(finished, tmp_path):
    assert finished("--", str(tmp_path)).returncode == 126
    assert finished("--", "./nothing").returncode == 127


def test_usage_that_makes_no_sense_is_2(finished):
    for words, part in [([], "no command"), (["--graec", "3"], "--graec"), (["--grace", "soon", "ls"], "try `10s`")]:
        done = finished(*words)
        assert done.returncode == 2
        assert part in done.stderr
        assert "hint: " in done.stderr
        assert done.stdout == ""


def test_help_and_version_go_to_standard_output(finished):
    assert "--grace <TIME>" in finished("--help").stdout
    assert re.fullmatch(r"unisono-init \d+\.\d+\.\d+\n", finished("--version").stdout)


def test_it_keeps_at_most_150_kib_to_itself(start):
    init = start("--", "sh", "-c", "echo ready; exec sleep 1000")
    assert init.line() == "ready"
    rollup = Path(f"/proc/{init.pid}/smaps_rollup").read_text()
    private = sum(map(int, re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", rollup, re.MULTILINE)))
    init.send(15)
    assert init.end() == 143
    assert 0 < private <= 150


def test_the_file_is_small():
    assert INIT.stat().st_size < 100_000
