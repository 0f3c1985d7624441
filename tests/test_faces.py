"""The two faces of a pool, for async and for sync functions, say and take the same."""

import inspect
from typing import Any

import pytest

from triopool._async_calls import AsyncCalls
from triopool._async_maps import AsyncMaps
from triopool._sync_calls import SyncCalls
from triopool._sync_maps import SyncMaps

FURTHER = "or 64 while calls come back within milliseconds"

# All that may differ: (what pools of async functions say, what those of sync ones do).
DIFFERENCES = [
    ("func: an async function.", "func: a sync function, which runs elsewhere."),
    ("``func`` is not an async function", "``func`` is not a sync function"),
    # Here it turns out only when a result is read.
    ("``func`` cannot be called, or", "``func`` is not a sync function, or"),
    # What runs elsewhere can be left behind, and asks from there.
    ("waits for its end.", "waits for its end, unless the pool leaves such calls behind."),
    ("waits for their end.", "waits for their end, unless the pool leaves such calls behind."),
    ("In a call of the same pool,", "Asked for in a call of the same pool,"),
    ("the function runs in place, on the slot", "the function runs on the slot"),
    ("ahead of the free slots.", f"ahead of the free slots, {FURTHER}."),
]


def own_methods(*classes: type[Any]) -> dict[str, Any]:
    return {
        name: member
        for cls in classes
        for name, member in vars(cls).items()
        if inspect.isfunction(member)
    }


ASYNC, SYNC = own_methods(AsyncCalls, AsyncMaps), own_methods(SyncCalls, SyncMaps)


def text_of(method: Any) -> str:
    return " ".join(method.__doc__.split())


def translated(text: str) -> str:
    for here, there in DIFFERENCES:
        text = text.replace(here, there)
    return text


def test_they_have_the_same_methods() -> None:
    assert ASYNC.keys() == SYNC.keys()


@pytest.mark.parametrize("name", ASYNC)
def test_a_method_is_described_alike(name: str) -> None:
    assert translated(text_of(ASYNC[name])) == text_of(SYNC[name])


@pytest.mark.parametrize("name", ASYNC)
def test_a_method_takes_the_same(name: str) -> None:
    def parameters(method: Any) -> list[Any]:
        found = inspect.signature(method).parameters.values()
        return [(each.name, each.kind, each.default) for each in found]

    assert parameters(ASYNC[name]) == parameters(SYNC[name])
    assert inspect.iscoroutinefunction(ASYNC[name]) == inspect.iscoroutinefunction(SYNC[name])


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each[0][:20])
def test_no_difference_is_listed_that_there_is_not(difference: tuple[str, str]) -> None:
    here, there = difference
    assert any(here in text_of(method) for method in ASYNC.values())
    assert any(there in text_of(method) for method in SYNC.values())
