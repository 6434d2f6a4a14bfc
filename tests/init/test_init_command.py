"""`unisono init`, the same from the command that has everything."""

import subprocess

from support.init import INIT


def test_every_option_of_the_small_binary_is_one_of_the_command(unisono):
    small = subprocess.run([INIT, "--help"], capture_output=True, text=True, check=True).stdout
    large = unisono("init", "--help").stdout
    options = {word for word in small.split() if word.startswith("--") and word != "--"}
    assert options - {"--version"} <= set(large.split())


def test_it_supervises(unisono):
    done = unisono("init", "-v", "--map-exit", "3=4", "--map-exit=5=6", "--no-wait-all", "--", "sh", "-c", "exit 5")
    assert done.returncode == 6
    assert "unisono-init: exit 6" in done.stderr
    assert unisono("init", "--", "no-such-command").returncode == 127


def test_the_later_of_two_opposites_counts(unisono):
    script = "setsid sleep 1000 & exit 3"
    done = unisono("init", "-v", "--no-wait-all", "--wait-all", "--grace", "10ms", "sh", "-c", script)
    assert done.returncode == 3
    assert "waiting for what is left" in done.stderr


def test_a_value_that_makes_no_sense_is_a_usage_error(unisono):
    done = unisono("init", "--grace", "soon", "--", "ls")
    assert done.returncode == 2
    assert done.stderr == "error: --grace: `soon` is not a duration (try `10s`, `500ms` or `1h30m`)\n"


def test_an_option_of_the_command_is_not_ours(unisono):
    assert unisono("init", "sh", "-c", "echo $0 $1", "--grace", "-v").stdout == "--grace -v\n"
