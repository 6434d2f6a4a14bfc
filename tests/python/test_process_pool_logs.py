"""What workers log is handled by the loggers of the program; what they write to their standard error is passed on."""

import json
import logging
import os
import subprocess
import sys
import threading

import pytest

import unisono
from unisono.errors import WorkerDied

LONG = 60
METHODS = ["zygote", "spawn", "fork"]
pytestmark = pytest.mark.filterwarnings("ignore:This process:RuntimeWarning")


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    """The handler of a logger of ours, whose level is `INFO` and which passes nothing on."""
    logger, handler = logging.getLogger("test.pool"), Kept()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


class NotPicklable:
    def __reduce__(self):
        raise TypeError("never")

    def __repr__(self):
        return "<not picklable>"


def log(number):
    logger = logging.getLogger("test.pool.part")
    logger.debug("not wanted")
    logger.info("number %d", number, extra={"number": number, "odd": NotPicklable()})
    return os.getpid()


def fail():
    try:
        raise LookupError("it is not there")
    except LookupError:
        logging.getLogger("test.pool").exception("failed", stack_info=True)


def log_and_die():
    for number in range(50):
        logging.getLogger("test.pool").warning("before %d", number)
    os._exit(9)


@pytest.mark.parametrize("method", METHODS)
def test_records_reach_the_logger_of_the_same_name_with_the_worker_they_came_from(kept, method):
    with unisono.ProcessPool(2, start_method=method, name="crew") as pool:
        processes = list(pool.map(log, range(30)))
    assert sorted(record.getMessage() for record in kept.records) == sorted(f"number {n}" for n in range(30))
    assert {record.name for record in kept.records} == {"test.pool.part"}
    assert {record.levelname for record in kept.records} == {"INFO"}
    names = {(record.process, record.processName) for record in kept.records}
    assert len(names) == len(set(processes)) == len({name for _, name in names if name.startswith("crew-")})
    assert [record.process for record in sorted(kept.records, key=lambda r: r.number)] == processes
    assert {record.odd for record in kept.records} == {"<not picklable>"}


def test_the_records_of_a_worker_come_in_its_order_and_all_of_them(kept):
    with unisono.ProcessPool(1) as pool:
        list(pool.map(log, range(3000)))
    assert [record.number for record in kept.records] == list(range(3000))


def test_an_exception_arrives_as_text_as_it_would_have_been_shown_there(kept):
    with unisono.ProcessPool(1) as pool:
        pool.submit(fail).result(LONG)
    (record,) = kept.records
    shown = logging.Formatter("%(message)s").format(record)
    assert shown.startswith("failed\nTraceback (most recent call last):")
    assert "LookupError: it is not there\nStack (most recent call last):" in shown


def test_what_was_logged_before_a_crash_arrives(kept):
    with unisono.ProcessPool(1) as pool, pytest.raises(WorkerDied):
        pool.submit(log_and_die).result(LONG)
    assert [record.getMessage() for record in kept.records] == [f"before {n}" for n in range(50)]


def test_a_record_that_is_too_long_is_cut(kept):
    with unisono.ProcessPool(1) as pool:
        pool.submit(log_text, 10_000_000).result(LONG)
        pool.submit(log_text, 60_000).result(LONG)
    first, second = (record.getMessage() for record in kept.records)
    assert first == "\N{GREEK SMALL LETTER ALPHA}" * 8000 + "... (cut)"
    assert second == "a" * 60_000


def log_text(length):
    logging.getLogger("test.pool").info(("\N{GREEK SMALL LETTER ALPHA}" if length > 100_000 else "a") * length)


def test_a_handler_that_raises_or_a_filter_does_not_end_the_forwarding(kept, capfd):
    def refuse(record):
        if record.number == 1:
            raise ValueError("a filter's")
        return True

    logger = logging.getLogger("test.pool.part")
    logger.addFilter(refuse)
    try:
        with unisono.ProcessPool(1) as pool:
            list(pool.map(log, range(3)))
    finally:
        logger.removeFilter(refuse)
    assert [record.number for record in kept.records] == [0, 2]
    assert "ValueError: a filter's" in capfd.readouterr().err


def test_a_program_that_does_not_take_its_records_holds_up_no_task_for_long_and_is_told_how_many_it_lost(kept):
    begun, goes_on = threading.Event(), threading.Event()

    def hold(record):
        begun.set()
        assert goes_on.wait(LONG)
        return True

    kept.addFilter(hold)
    logging.getLogger("unisono").addHandler(kept)
    with unisono.ProcessPool(1) as pool:
        # It ends while no thread takes a record.
        assert pool.submit(log_many, 3000).result(LONG) == "done"
        assert begun.is_set()
        kept.removeFilter(hold)
        goes_on.set()
        # What is there is taken, and then the next one brings the number.
        while not any("were lost" in record.getMessage() for record in kept.records):
            pool.submit(log_many, 1).result(LONG)
    logging.getLogger("unisono").removeHandler(kept)
    (notice,) = (record.getMessage() for record in kept.records if "were lost" in record.getMessage())
    lost = int(notice.split()[0])
    several = [record for record in kept.records if record.getMessage() == "one of 3000"]
    assert lost > 0
    assert len(several) >= 100
    assert len(several) + lost >= 3000


def log_many(count):
    for _ in range(count):
        logging.getLogger("test.pool").info("one of %d", count)
    return "done"


@pytest.mark.parametrize("kind", [unisono.ProcessPool, unisono.Pool])
def test_without_forwarding_workers_keep_their_records_to_themselves(kept, kind):
    with kind(1, log_forwarding=False) as pool:
        assert pool.submit(count_handlers).result(LONG) == 0
        pool.submit(log, 1).result(LONG)
    assert kept.records == []
    assert not [thread for thread in threading.enumerate() if thread.name == "unisono-logs"]


def count_handlers():
    return len(logging.getLogger().handlers)


def test_records_of_pools_within_pools_keep_their_names(kept):
    with unisono.ProcessPool(1, name="outer") as pool:
        pool.submit(log_inside).result(LONG)
    assert [(record.getMessage(), record.processName) for record in kept.records] == [("number 7", "inner-1")]


def log_inside():
    with unisono.ProcessPool(1, name="inner") as pool:
        pool.submit(log, 7).result(LONG)


def test_a_handler_may_shut_the_pool_down(kept):
    pool = unisono.ProcessPool(1)
    done = threading.Event()

    def shut(record):
        pool.shutdown(wait=True)
        done.set()
        return True

    kept.addFilter(shut)
    pool.submit(log, 1)
    assert done.wait(LONG)


def test_a_program_with_the_plainest_logging_shows_each_record_once(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        """
import logging, sys, unisono
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("%(processName)s %(name)s %(message)s"))
logging.getLogger().addHandler(handler)
logging.basicConfig(level=logging.DEBUG)
logging.getLogger().setLevel(logging.INFO)
def work(): logging.getLogger(__name__.replace("__mp_main__", "__main__")).info("hello")
if __name__ == "__main__":
    with unisono.ProcessPool(1, start_method=sys.argv[1]) as pool: pool.submit(work).result()
"""
    )
    for method in METHODS:
        words = [sys.executable, path, method]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False)
        assert (done.stdout, done.stderr) == ("unisono-1 __main__ hello\n", "")


def test_standard_error_that_nobody_reads_holds_up_neither_the_pool_nor_its_other_users(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        """
import os, sys, json, threading, unisono
def shout(): os.write(2, b"x" * 300_000)
if __name__ == "__main__":
    pool = unisono.ProcessPool(2)
    pool.submit(abs, 1).result()
    loud = [pool.submit(shout) for _ in range(1)]
    # While the driving threads cannot get rid of what is said, others come and go.
    threads = [threading.Thread(target=lambda: results.append(list(pool.map(abs, range(500))))) for _ in range(3)]
    results = []
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps([len(each) for each in results]), flush=True)
    sys.stdin.read()
    loud[0].result()
    pool.shutdown()
    print("end", flush=True)
"""
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    program = subprocess.Popen([sys.executable, path], text=True, **pipes)
    assert json.loads(program.stdout.readline()) == [500, 500, 500]
    out, said = program.communicate("", timeout=LONG)
    assert (out, len(said)) == ("end\n", 300_000)
