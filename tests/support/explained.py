"""Functions that `unisono.explain` must be right about, importable in worker processes."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import socket
import threading
import time
import zlib


def sleep(_item):
    time.sleep(0.02)


def compute(number):
    """About 2 ms of pure Python."""
    total = 0
    for value in range(25_000 + int(number) % 7):
        total += value * value % 7
    return total


def digest(number):
    """About 2 ms outside of the interpreter lock."""
    data = _buffer(2 << 20)
    return hashlib.sha256(data[int(number) % 7 :]).hexdigest()


def compress(number):
    return len(zlib.compress(_buffer(1 << 20)[int(number) % 7 :], 6))


def sines(number):
    import numpy

    return float(numpy.sin(_numbers() + float(number)).sum())


def mixed(number):
    time.sleep(0.004)
    return compute(number)


def tiny(number):
    return number


def count_bytes(data):
    """Far less work than sending the data to another process."""
    return len(data)


def cached(number):
    return _remembered(number)


def fail_on_three(number):
    if number == 3:
        raise ValueError("three is too much")


def not_at_once(_item):
    if not _ONE.acquire(blocking=False):
        raise RuntimeError("two at once")
    try:
        time.sleep(0.005)
    finally:
        _ONE.release()


def leave_if_not_alone(_item):
    if not _ONE.acquire(blocking=False):
        raise SystemExit("two at once")
    try:
        time.sleep(0.005)
    finally:
        _ONE.release()


def hangs(_item):
    FOR_EVER.wait()


def hangs_at_once(_item):
    """Never ends on another thread than the first that called it.

    Calls one after another are made on one thread, and calls at once on several: no two calls have to meet.
    """
    _callers.append(threading.get_ident())
    if _callers[0] != threading.get_ident():
        FOR_EVER.wait()
        return
    time.sleep(0.002)


def hangs_elsewhere(_item):
    """Never ends in another process than the first that imported it."""
    if str(os.getpid()) != os.environ["EXPLAINED_FIRST"]:
        FOR_EVER.wait()
    time.sleep(0.002)


async def wait(_item):
    await asyncio.sleep(0.02)


async def block(_item):
    time.sleep(0.02)


async def burn(number):
    for _ in range(8):
        compute(number)


def answer_later(_item):
    return asyncio.sleep(0)


def read_socket(address):
    """Ask a server and wait for its answer."""
    with socket.create_connection(tuple(address)) as connection:
        return connection.recv(100)


@functools.cache
def _remembered(number):
    return compute(number)


@functools.cache
def _buffer(size):
    return bytes(range(256)) * (size // 256)


@functools.cache
def _numbers():
    import numpy

    return numpy.arange(300_000, dtype=float)


_ONE = threading.Lock()
_callers: list[int] = []
# Set by the test that has seen enough.
FOR_EVER = threading.Event()
os.environ.setdefault("EXPLAINED_FIRST", str(os.getpid()))
