"""`gather` and `first`: a few awaitables that belong together, in one scope.

Each scope is a batch, so what is true of batches is true here: an exception is an outcome, a task that is cancelled is
waited for, one that swallows its cancellation is left to itself after a second, and a cancellation from outside stops
all before it goes on. Nothing of a scope outlives it but what refuses to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from unisono import _native
from unisono._functions.batch import awaiting
from unisono._keywords import tip_for, told_when_awaited
from unisono._native import FunctionOutcome
from unisono._options import Time
from unisono._wording import counted
from unisono.errors import FunctionError, GroupError, UsageError

__all__ = ["Gathered", "first", "gather"]

ResultT = TypeVar("ResultT")
Name = str | int
Outcomes = dict[Name, FunctionOutcome[Any]]


@dataclass(frozen=True, repr=False)
class Gathered:
    """What became of each of the awaitables of `gather`: `gathered.users`, `gathered["users"]`, `gathered[0]`.

    Iterating yields the outcomes in the order in which the awaitables were given.

    Attributes:
        outcomes: All of them by name; those without one by their place, from 0.
    """

    outcomes: Mapping[Name, FunctionOutcome[Any]]

    def __getitem__(self, name: Name) -> FunctionOutcome[Any]:
        try:
            return self.outcomes[name]
        except KeyError:
            raise KeyError(self._unknown(name)) from None

    def __getattr__(self, name: str) -> FunctionOutcome[Any]:
        # Before it is made, as when it is copied, it has none.
        try:
            outcome: FunctionOutcome[Any] = self.__dict__.get("outcomes", {})[name]
        except KeyError:
            raise AttributeError(self._unknown(name), name=name, obj=self) from None
        return outcome

    def __iter__(self) -> Iterator[FunctionOutcome[Any]]:
        return iter(self.outcomes.values())

    def __len__(self) -> int:
        return len(self.outcomes)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self.outcomes if isinstance(name, str))]

    def __repr__(self) -> str:
        return f"<Gathered {', '.join(f'{name}: {outcome!r}' for name, outcome in self.outcomes.items()) or 'nothing'}>"

    def _unknown(self, name: object) -> str:
        return f"nothing was gathered as {name!r}, only {_listed(self.__dict__.get('outcomes', {}))}"


def _close_unbegun(given: Iterable[object]) -> None:
    """What never runs would complain of that; so would what is in a list that was given by mistake."""
    for awaitable in given:
        if inspect.iscoroutine(awaitable) and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
            awaitable.close()
        elif isinstance(awaitable, (list, tuple, set, frozenset)):
            _close_unbegun(awaitable)
        elif isinstance(awaitable, dict):
            _close_unbegun(awaitable.values())


@told_when_awaited("gather", leaves=_close_unbegun)
async def gather(
    *awaitables: Awaitable[Any],
    timeout: Time | None = None,
    required: Iterable[Name] | None = None,
    **named: Awaitable[Any],
) -> Gathered:
    """Await several things at once, and return what became of each.

    A coroutine that fails is an outcome (`ok`, `result`, `error`, `check()`), and takes no other's result away.

    Args:
        *awaitables: Coroutines, tasks, futures or batches; their outcomes are found by their places.
        timeout: What is not done then is cancelled, and its outcome is `timed_out`. None by default.
        required: The names (and places) of those without which the rest is worth nothing; all by default, `()` for
            none. When one of them fails, what still runs is cancelled and waited for, and a `GroupError` is raised.
        **named: The same, with outcomes that are found by name.

    Raises:
        GroupError: Of what is required something did not end well. All outcomes are in `error.outcomes`.
        UsageError: Something is not awaitable, or `required` names what there is not. Nothing has begun then, and all
            coroutines are closed.

    >>> async def main():
    ...     async with unisono.AsyncClient(base_url=server) as client:
    ...         page = await unisono.gather(
    ...             item=client.get("/items/7"), advice=client.get("nowhere://"), timeout="10s", required=["item"]
    ...         )
    ...         return page.item.result.json()["id"], page.advice.ok
    >>> asyncio.run(main())
    (7, False)
    """
    given: dict[Name, Awaitable[Any]] = dict(enumerate(awaitables))
    given.update(named)
    # By the name that it has here; what the engine makes of it is a deadline.
    bound = None if timeout is None else _native.span("timeout", timeout)
    _refuse_unawaitable(given, "gather", ["timeout", "required"])
    needed = _needed(given, required)
    for name in named:
        if name == "outcomes" or hasattr(Gathered, name):
            raise UsageError(f"`{name}` means something else of what is gathered: give it another name")
    outcomes = {}
    async for outcome in (batch := awaiting(given, list(given), "gather", deadline=bound)):
        outcomes[outcome.item] = outcome
        if _ends_program(outcome) or (outcome.item in needed and not outcome.ok):
            batch.cancel(abort=True)
    outcomes = {name: outcomes[name] for name in given}
    _raise_program_end(outcomes)
    if missing := {name: outcome for name, outcome in outcomes.items() if name in needed and not outcome.ok}:
        # Those that were cancelled for the sake of another say nothing of their own.
        causes = {name: outcome for name, outcome in missing.items() if outcome.kind != "cancelled"} or missing
        raise _group_error(
            f"{_listed(causes)} did not end well, of {counted(len(given), 'awaitable')}", causes, outcomes
        )
    return Gathered(outcomes)


@told_when_awaited("first", leaves=_close_unbegun)
async def first(*awaitables: Awaitable[ResultT], delay: Time | None = None) -> ResultT:
    """Await several ways to the same thing, and return the result of the one that succeeds first.

    The others are cancelled and waited for; what has not begun never does. When several succeed in the same moment, one
    of them is taken and the others' results are dropped: give ways that may be tried side by side.

    Args:
        *awaitables: Coroutines, tasks or futures, the best one first.
        delay: Begin with the first alone. Each time that so long has passed, or one has failed, the next begins beside
            those that still run. All begin at once by default; with `"none"` each waits until the one before it has
            failed.

    Raises:
        GroupError: All of them failed. `error.outcomes` has each by its place.
        UsageError: Something is not awaitable, or there is nothing. Nothing has begun then, and all coroutines are
            closed.

    >>> async def main():
    ...     async with unisono.AsyncClient() as client:
    ...         return await unisono.first(client.get("http://127.0.0.1:1/"), client.get(f"{server}/items/1"), delay=60)
    >>> asyncio.run(main()).status_code
    200
    """
    given: dict[Name, Awaitable[ResultT]] = dict(enumerate(awaitables))
    _refuse_unawaitable(given, "first", ["delay"])
    if not given:
        raise UsageError("first: there is nothing to await")
    failures = asyncio.Semaphore(0)
    names: Iterable[Name] | AsyncIterator[Name] = list(given)
    if delay is not None:
        names = _one_after_another(given, _native.span("delay", delay), failures)
    outcomes: Outcomes = {}
    winner: FunctionOutcome[ResultT] | None = None
    async for outcome in (batch := awaiting(given, names, "first")):
        outcomes[outcome.item] = outcome
        if outcome.ok and winner is None:
            winner = outcome
        if outcome.ok or _ends_program(outcome):
            batch.cancel(abort=True)
        failures.release()
    _raise_program_end(outcomes)
    if winner is None:
        # What an end of the batch has kept from beginning has no outcome.
        outcomes = {name: outcomes[name] for name in given if name in outcomes}
        raise _group_error(f"none of {counted(len(given), 'awaitable')} succeeded", outcomes, outcomes)
    return winner.check()


async def _one_after_another(
    names: Iterable[Name], pause: float | None, failures: asyncio.Semaphore
) -> AsyncIterator[Name]:
    for name in names:
        yield name
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(failures.acquire(), pause)


def _refuse_unawaitable(given: Mapping[Name, object], called: str, words: list[str]) -> None:
    coroutines: dict[int, Name] = {}
    for name, awaitable in given.items():
        if not inspect.isawaitable(awaitable):
            kind = "a function" if inspect.isroutine(awaitable) else f"of type {type(awaitable).__name__}"
            tip = _way_out(name, awaitable, called, words)
            raise UsageError(f"{_listed([name])} is {kind}, which cannot be awaited{f': {tip}' if tip else ''}")
        if inspect.iscoroutine(awaitable):
            if id(awaitable) in coroutines:
                raise UsageError(
                    f"{_listed([coroutines[id(awaitable)], name])} are one coroutine, which runs only once: call its "
                    "function twice, or give a task"
                )
            coroutines[id(awaitable)] = name


def _way_out(name: Name, awaitable: object, called: str, words: list[str]) -> str:
    """What to type in place of what cannot be awaited, if that can be told."""
    if inspect.iscoroutinefunction(awaitable):
        return "call it"
    if isinstance(awaitable, dict):
        return f"give what is in it by name, as {called}(**awaitables)" if called == "gather" else ""
    if isinstance(awaitable, Iterable) and not isinstance(awaitable, (str, bytes)):
        return f"give what is in it one by one, as {called}(*awaitables)"
    # By which it may be another's option, or one of ours that is written amiss.
    return tip_for(name, called, words) if isinstance(name, str) else ""


def _needed(given: Mapping[Name, object], required: Iterable[Name] | None) -> Collection[Name]:
    if required is None:
        return given
    if isinstance(required, str):
        raise UsageError(f"required: give several names, as [{required!r}]")
    if not isinstance(required, Iterable):
        raise UsageError(f"required: give names and places, as [{required!r}], not {required!r}")
    needed = list(required)
    for name in needed:
        if not isinstance(name, (str, int)) or name not in given:
            raise UsageError(f"required: there is no {name!r}, only {_listed(given)}")
    return needed


def _ends_program(outcome: FunctionOutcome[Any]) -> bool:
    return isinstance(outcome.error, KeyboardInterrupt | SystemExit)


def _raise_program_end(outcomes: Outcomes) -> None:
    """What is to end the program, and not only the one that raised it, does."""
    for outcome in outcomes.values():
        if _ends_program(outcome):
            outcome.check()


def _group_error(message: str, causes: Outcomes, outcomes: Outcomes) -> GroupError:
    return GroupError(message, [_exception(name, outcome) for name, outcome in causes.items()], outcomes)


def _exception(name: Name, outcome: FunctionOutcome[Any]) -> Exception:
    error = outcome.error
    if isinstance(error, Exception):
        return error
    # Such as its own `CancelledError`, which a group of errors must not have: it would cancel who catches it.
    wrapped = FunctionError(
        f"{_listed([name])} raised {error!r}", name=str(name), kind=outcome.kind, attempts=outcome.attempts
    )
    wrapped.__cause__ = error
    return wrapped


def _listed(names: Iterable[Name]) -> str:
    return ", ".join(f"`{name}`" if isinstance(name, str) else f"number {name}" for name in names) or "nothing"
