"""What people write first: each line of `first_lines.toml` works, or says what to type instead."""

import asyncio
import gc
import random
import time
import tomllib
import traceback
import warnings
from pathlib import Path

import pytest

import unisono

LINES = tomllib.loads((Path(__file__).parent / "first_lines.toml").read_text())["line"]
PACKAGE = str(Path(unisono.__file__).parent)


def run(line, server):
    """Returns what a line raised, or nothing."""
    names = {"unisono": unisono, "asyncio": asyncio, "random": random, "time": time, "URL": server.url}
    code = compile(line["ours"].strip() + "\n", "<first line>", "exec")
    try:
        exec(code, names)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("line", LINES, ids=[f"{at}-{one['tool']}" for at, one in enumerate(LINES, 1)])
def test_a_first_line_works_or_says_what_to_type(line, server, capsys):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        error = run(line, server)
        if error is not None:
            # What the line made goes with it.
            traceback.clear_frames(error.__traceback__)
        gc.collect()
    assert [str(one.message) for one in warned] == []
    if line["expect"] == "ok":
        assert error is None, repr(error)
        return
    assert isinstance(error, unisono.Error | AttributeError | ImportError), repr(error)
    assert line["expect"] in str(error)
    assert (error.__cause__, error.__suppress_context__ or error.__context__ is None) == (None, True)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    assert len(ours) <= (1 if isinstance(error, unisono.UsageError) else 2), traceback.format_exception(error)
    assert any(frame.filename == "<first line>" for frame in frames)


def test_there_are_sixty_of_them_and_none_is_of_no_tool():
    assert len(LINES) >= 60
    assert {line["tool"] for line in LINES} == {
        "httpx",
        "aiohttp",
        "requests",
        "tenacity",
        "concurrent.futures",
        "multiprocessing",
    }
