"""What `docs/drop-in.md` is made of: the standard classes as each interpreter has them, held against ours.

Run by any interpreter, this prints its record, which stands in `standard_classes.json`; with `--write`, by one that has
unisono, it takes the record in and writes the page. `test_drop_in.py` checks both, so the page cannot say that a name is
there that is not, that a call works whose arguments are others, or nothing about a name.

A name is the same, differs or is absent. Whether it is there, and whether every call of the standard one is a call of ours,
is found by comparing; what else is different is said in `NOTES`.
"""

import asyncio
import concurrent.futures
import importlib
import inspect
import json
import multiprocessing
import multiprocessing.pool
import multiprocessing.queues
import queue
import sys
from pathlib import Path

RECORDS = Path(__file__).parent / "standard_classes.json"
PAGE = Path(__file__).parents[2] / "docs" / "drop-in.md"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PROTOCOLS = ("__enter__", "__exit__", "__iter__", "__next__", "__len__", "__bool__", "__call__", "__class_getitem__")


def classes():
    """The standard classes, and an instance where one has attributes that only instances have."""
    return {
        "concurrent.futures.ThreadPoolExecutor": (concurrent.futures.ThreadPoolExecutor, None),
        "concurrent.futures.ProcessPoolExecutor": (concurrent.futures.ProcessPoolExecutor, None),
        "concurrent.futures.Future": (concurrent.futures.Future, concurrent.futures.Future()),
        "multiprocessing.pool.Pool": (multiprocessing.pool.Pool, None),
        "multiprocessing.pool.ThreadPool": (multiprocessing.pool.ThreadPool, None),
        "multiprocessing.pool.AsyncResult": (multiprocessing.pool.AsyncResult, None),
        "multiprocessing.pool.IMapIterator": (multiprocessing.pool.IMapIterator, None),
        "queue.Queue": (queue.Queue, queue.Queue()),
        "queue.LifoQueue": (queue.LifoQueue, queue.LifoQueue()),
        "queue.PriorityQueue": (queue.PriorityQueue, queue.PriorityQueue()),
        "queue.SimpleQueue": (queue.SimpleQueue, queue.SimpleQueue()),
        "asyncio.Queue": (asyncio.Queue, None),
        "asyncio.LifoQueue": (asyncio.LifoQueue, None),
        "asyncio.PriorityQueue": (asyncio.PriorityQueue, None),
        "multiprocessing.Queue": (multiprocessing.queues.Queue, None),
        "multiprocessing.JoinableQueue": (multiprocessing.queues.JoinableQueue, None),
        "multiprocessing.SimpleQueue": (multiprocessing.queues.SimpleQueue, None),
    }


def record():
    """Every public name of the standard classes, with how it is called."""
    return {name: described(cls, instance) for name, (cls, instance) in classes().items()}


def described(cls, instance):
    names = {name for name in dir(cls) if not name.startswith("_") or (name in PROTOCOLS and is_own(cls, name))}
    names |= {name for name in getattr(instance, "__dict__", {}) if not name.startswith("_")}
    parts = {name: part(cls, name) for name in sorted(names)}
    return {"()": parameters(cls), **parts}


def is_own(cls, name):
    return any(name in vars(one) for one in cls.__mro__ if one is not object)


def part(cls, name):
    value = inspect.getattr_static(cls, name, None)
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if not callable(value) or name == "__class_getitem__":
        return "attribute"
    found = parameters(value)
    return {"coroutine": inspect.iscoroutinefunction(value), "parameters": found[1:] if found else found}


def parameters(function):
    try:
        signature = inspect.signature(function)
    except ValueError:
        # A class written in C, without a text of its own.
        return []
    return [
        [one.name, one.kind.name, None if one.default is one.empty else shown(one.default)]
        for one in signature.parameters.values()
    ]


def shown(default):
    text = repr(default)
    return "..." if " at 0x" in text else text


# Ours for each of them, or why there is none.
OURS = {
    "concurrent.futures.ThreadPoolExecutor": "unisono.ThreadPool",
    "concurrent.futures.ProcessPoolExecutor": "unisono.ProcessPool",
    "concurrent.futures.Future": "unisono.Future",
    "multiprocessing.pool.Pool": "unisono.Pool",
    "multiprocessing.pool.ThreadPool": "unisono.ThreadPool",
    "multiprocessing.pool.AsyncResult": "unisono.AsyncResult",
    "multiprocessing.pool.IMapIterator": "unisono.ImapIterator",
    "queue.Queue": "unisono.Queue",
    "queue.SimpleQueue": "unisono.Queue",
    "asyncio.Queue": "unisono.Queue",
}
IN_ORDER = "items leave a `unisono.Queue` in the order in which they came: keep the standard one"
OF_ONE_PROCESS = "a `unisono.Queue` stays in its process: keep the standard one, and hand it to workers by `initargs`"
NONE = {
    "queue.LifoQueue": IN_ORDER,
    "queue.PriorityQueue": IN_ORDER,
    "asyncio.LifoQueue": IN_ORDER,
    "asyncio.PriorityQueue": IN_ORDER,
    "multiprocessing.Queue": OF_ONE_PROCESS,
    "multiprocessing.JoinableQueue": OF_ONE_PROCESS,
    "multiprocessing.SimpleQueue": OF_ONE_PROCESS,
}
INSIDE = "it is a part of the standard one, whose lock it shares; a `unisono.Queue` has none in Python"
STOPS_A_LOOP = "on the thread of a running event loop a call that would have to wait raises `UsageError`"
AWAITED = "plain calls are for threads, and one that would stop its loop raises `UsageError`: `await queue.{}`"
MADE = "it is made by a pool alone"
READ_AT_ONCE = "all items are read when it is called, in the caller's thread, so they must come to an end"
BY_ZYGOTE = "workers start when there is work, from a fresh interpreter, unless a context says otherwise"
# What differs, or why a name is absent, where comparing cannot tell or cannot say why.
NOTES = {
    (
        "concurrent.futures.ThreadPoolExecutor",
        "submit",
    ): "a task runs in a copy of the context in which it was submitted",
    ("concurrent.futures.ProcessPoolExecutor", "()"): f"{BY_ZYGOTE}; at the end of a program nothing is waited for",
    (
        "concurrent.futures.ProcessPoolExecutor",
        "submit",
    ): "a worker that dies fails its own task alone, with `WorkerDied`, "
    "and what cannot be pickled is an `UnpicklableError`",
    ("concurrent.futures.ProcessPoolExecutor", "shutdown"): "`cancel_futures` cancels all that has not begun",
    ("concurrent.futures.ProcessPoolExecutor", "__exit__"): "Ctrl-C and `sys.exit` kill the workers and do not wait",
    (
        "concurrent.futures.Future",
        "()",
    ): "it is made by `submit` alone",
    ("concurrent.futures.Future", "cancel"): "`cancel(running=True)` also ends what has begun",
    (
        "concurrent.futures.Future",
        "set_result",
    ): "the pool alone says what becomes of its tasks: it raises `RuntimeError`",
    ("concurrent.futures.Future", "set_exception"): "the pool alone says what becomes of its tasks: it raises "
    "`RuntimeError`",
    ("concurrent.futures.Future", "set_running_or_notify_cancel"): "the pool alone says what becomes of its tasks: it "
    "raises `RuntimeError`",
    ("multiprocessing.pool.Pool", "()"): f"{BY_ZYGOTE}; a pool that is not closed ends quietly with its last reference",
    (
        "multiprocessing.pool.Pool",
        "Process",
    ): "workers are not made by the pool's class; a subclass that has it is refused",
    ("multiprocessing.pool.Pool", "imap"): READ_AT_ONCE,
    ("multiprocessing.pool.Pool", "imap_unordered"): READ_AT_ONCE,
    (
        "multiprocessing.pool.ThreadPool",
        "()",
    ): "the order of its arguments is that of executors; name `initializer` and `initargs`",
    ("multiprocessing.pool.ThreadPool", "Process"): "its threads are threads",
    ("multiprocessing.pool.ThreadPool", "__exit__"): "it waits for what was submitted, as executors do",
    ("multiprocessing.pool.ThreadPool", "map"): "it returns an iterator, as executors do; `starmap` returns a list",
    ("multiprocessing.pool.ThreadPool", "imap"): READ_AT_ONCE,
    ("multiprocessing.pool.ThreadPool", "imap_unordered"): READ_AT_ONCE,
    ("multiprocessing.pool.ThreadPool", "join"): "it closes the pool that was not closed",
    ("multiprocessing.pool.AsyncResult", "()"): f"{MADE}; it is a `concurrent.futures.Future` as well",
    ("multiprocessing.pool.IMapIterator", "()"): MADE,
    ("queue.Queue", "all_tasks_done"): INSIDE,
    ("queue.Queue", "mutex"): INSIDE,
    ("queue.Queue", "not_empty"): INSIDE,
    ("queue.Queue", "not_full"): INSIDE,
    ("queue.Queue", "queue"): INSIDE,
    ("queue.Queue", "get"): STOPS_A_LOOP,
    ("queue.Queue", "put"): STOPS_A_LOOP,
    ("queue.Queue", "join"): STOPS_A_LOOP,
    ("queue.SimpleQueue", "get"): STOPS_A_LOOP,
    ("asyncio.Queue", "get"): AWAITED.format("aget()"),
    ("asyncio.Queue", "put"): AWAITED.format("aput(item)"),
    ("asyncio.Queue", "join"): AWAITED.format("ajoin()"),
}
HEAD = """# In place of the standard classes

What becomes of code that was written for an executor, a pool or a queue of the standard library when its import is
changed. For each public name: *same*, *differs, since* ... or *absent, since* ...; `()` is how the class is called, and a
number is the first Python that has the name. This page is made by a test (`tests/python/drop_in.py`), which compares the
classes of CPython 3.11, 3.12 and 3.13 with ours: names, the order of parameters, and their defaults.

A subclass that overrides what only the standard class calls is refused when it is defined: `_init`, `_put`, `_get` and
`_qsize` of a queue, `Process` and the private makers of threads and processes of a pool. The exceptions of ours are also those
of the standard modules: `QueueEmpty` is a `queue.Empty` and an `asyncio.QueueEmpty`, `WorkerDied` is a `BrokenProcessPool`,
`ResultTimeout` is a `multiprocessing.TimeoutError`.
"""


def page(records):
    """The page, from the records of all interpreters and the classes of ours."""
    parts = [HEAD]
    newest = records[max(records, key=number)]
    for standard in newest:
        if standard in NONE:
            continue
        parts.append(f"\n## `{standard}`: `{OURS[standard]}`\n\n| name | |\n|---|---|\n")
        parts += [f"| `{name}`{since} | {what} |\n" for name, since, what in rows(standard, records)]
    parts.append("\n## Classes with nothing in their place\n\n| class | its names | |\n|---|---|---|\n")
    for standard, why in NONE.items():
        names = ", ".join(f"`{name}`{since}" for name, since, _ in names_of(standard, records))
        parts.append(f"| `{standard}` | {names} | absent, since {why} |\n")
    return "".join(parts)


def rows(standard, records):
    ours = found(OURS[standard])
    for name, since, hows in names_of(standard, records):
        yield name, since, verdict(standard, name, ours, hows)


def names_of(standard, records):
    """Every name of a class, since when it has it, and how it is called by each version."""
    with_name = {}
    for version in sorted(records, key=number):
        for name, how in records[version][standard].items():
            with_name.setdefault(name, {})[version] = how
    for name, by_version in sorted(with_name.items()):
        first = min(by_version, key=number)
        since = "" if first == min(records, key=number) else f" ({first})"
        yield name, since, list(by_version.values())


def verdict(standard, name, ours, hows):
    note = NOTES.get((standard, name))
    is_there = name == "()" or name in dir(ours)
    if not is_there:
        if note is None:
            raise LookupError(f"{standard}.{name} is absent, and NOTES does not say why")
        return f"absent, since {note}"
    if note is not None:
        return f"differs, since {note}"
    mismatch = next((why for how in hows if (why := mismatch_of(name, how, ours))), None)
    if mismatch is not None:
        raise LookupError(f"{standard}.{name}: {mismatch}, and NOTES does not say why")
    return "same"


def mismatch_of(name, how, ours):
    """Why a call of the standard one is no call of ours; `None` when it is."""
    if name == "()":
        return mismatch_of_parameters(how, parameters(ours))
    mine = part(ours, name)
    if how == "attribute" or mine == "attribute":
        return None if how == mine else f"one is an attribute: {how}, {mine}"
    if how["coroutine"] != mine["coroutine"]:
        return "one is a coroutine function"
    # What the interpreter calls, it calls by position.
    return None if name.startswith("__") else mismatch_of_parameters(how["parameters"], mine["parameters"])


def mismatch_of_parameters(theirs, mine):
    by_name = {one[0]: one for one in mine}
    takes_any = any(one[1] == "VAR_KEYWORD" for one in mine)
    for at, (name, kind, default) in enumerate(theirs):
        is_positional = kind in ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")
        if is_positional and (at >= len(mine) or mine[at][1] not in ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")):
            return f"`{name}` is not taken by position"
        if kind in ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY"):
            if name not in by_name and not takes_any:
                return f"`{name}` is not taken by name"
            if kind == "POSITIONAL_OR_KEYWORD" and name in by_name and mine[at][0] != name:
                return f"`{name}` is at another place"
            own = by_name.get(name) or mine[at]
            if (default is None) != (own[2] is None) or (default != own[2] and (default, own[2]) not in ALIKE):
                return f"`{name}` is {own[2]} by default, not {default}"
        if kind in ("VAR_POSITIONAL", "VAR_KEYWORD") and not any(one[1] == kind for one in mine):
            return f"`{name}` is not taken"
    known = {one[0] for one in theirs} | {mine[at][0] for at in range(min(len(theirs), len(mine)))}
    needed = [one[0] for one in mine if one[2] is None and not one[1].startswith("VAR") and one[0] not in known]
    return f"{needed} must be given" if needed else None


def found(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def number(version):
    return tuple(map(int, version.split(".")))


def written(records):
    """The records, a class a line."""
    versions = [
        f'"{version}": {{\n'
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(how)}" for name, how in of_all.items())
        + "\n}"
        for version, of_all in sorted(records.items(), key=lambda pair: number(pair[0]))
    ]
    return "{\n" + ",\n".join(versions) + "\n}\n"


# A default that is written to, and what stands for it.
ALIKE = {("{}", "None")}

if __name__ == "__main__":
    if "--write" in sys.argv:
        records = json.loads(RECORDS.read_text()) | {VERSION: record()}
        RECORDS.write_text(written(records))
        PAGE.write_text(page(records))
    else:
        print(json.dumps(record(), indent=1))
