"""The pytest plugin of unisono, which pytest finds by itself: the fixture `unisono_server`.

It stands beside the package, and imports nothing of it until the fixture is asked for: a suite that does not use it
waits for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from unisono.testing import FakeServer

__all__ = ["unisono_server"]


@pytest.fixture
def unisono_server() -> Iterator[FakeServer]:
    """A server on loopback whose answers and faults the test says; a new one for each test (docs/testing.md)."""
    from unisono.testing import FakeServer

    with FakeServer() as server:
        yield server
