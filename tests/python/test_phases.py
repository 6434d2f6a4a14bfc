"""What is done after a fork and at the end of the program comes in the order that its one owner says, whatever raises."""

import subprocess
import sys
import textwrap


def printed(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.split(), done.stderr


def test_a_program_finishes_waits_stops_what_came_last_first_and_joins():
    out, err = printed("""
        import functools, threading, unisono
        from unisono import _shutdown

        say = functools.partial(print, flush=True)
        _shutdown.joins(functools.partial(say, "joins"))
        _shutdown.stops(functools.partial(say, "stops-what-came-first"))
        _shutdown.stops(functools.partial(say, "stops-what-came-last"))
        _shutdown.waits(functools.partial(say, "waits"))
        _shutdown.finishes(functools.partial(say, "finishes"))
        # The interpreter waits for its threads after that.
        ends = threading.Event()
        _shutdown.finishes(ends.set)
        threading.Thread(target=lambda: (ends.wait(), say("thread"))).start()
    """)
    assert set(out[:2]) == {"finishes", "thread"}
    assert (out[2:], err) == (["waits", "stops-what-came-last", "stops-what-came-first", "joins"], "")


def test_each_step_of_the_end_is_made_whatever_the_others_raise():
    out, err = printed("""
        import unisono
        from unisono import _shutdown

        @_shutdown.waits
        def fail():
            raise LookupError("of one step")

        _shutdown.stops(lambda: print("stops"))
        _shutdown.joins(lambda: print("joins"))
    """)
    assert out == ["stops", "joins"]
    assert "LookupError: of one step" in err


def test_a_child_is_reset_before_what_is_its_parents_is_left_behind_whatever_raises():
    out, err = printed("""
        import os, unisono
        from unisono import _forks

        home = _forks.HomeProcess()
        queue = unisono.Queue()

        @_forks.leaves
        def leave():
            print("leaves", home.is_here(), flush=True)

        @_forks.resets
        def reset():
            # The native module knows of the fork by now, so what waits in the parent is in nothing's way.
            queue.put(1)
            print("resets", queue.get(), home.is_here(), flush=True)
            raise LookupError("of one step")

        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("parent", home.is_here())
    """)
    assert out == ["resets", "1", "False", "leaves", "False", "parent", "True"]
    assert "LookupError: of one step" in err


def test_a_grandchild_is_at_home_in_neither_of_its_forebears():
    out, err = printed("""
        import os
        from unisono._forks import HomeProcess

        homes = [HomeProcess()]
        for _ in range(2):
            if os.fork():
                os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
            homes.append(HomeProcess())
        print(*[home.is_here() for home in homes], flush=True)
    """)
    assert (out, err) == (["False", "False", "True"], "")
