"""When a run gives the memory back that nothing uses."""

import pytest

from jaxft import memory


def calls_of(monkeypatch, busy: list[bool], size: int = memory.LARGE) -> list[str]:
    """What happens before calls of a program, one for every element of `busy`: is anything else at work then?"""
    events: list[str] = []
    monkeypatch.setattr(memory, "release", lambda: events.append("release"))
    monkeypatch.setattr(memory, "temporaries", lambda _: size)
    states = iter(busy)
    calls = memory.Calls(lambda: next(states))
    for number in range(len(busy)):
        events.append(f"call {number}")
        calls.before(calls_of, lambda: events.append("wait"))
    return events


def test_free_memory_goes_back_while_others_allocate_and_once_after(monkeypatch):
    events = calls_of(monkeypatch, [True, True, False, False, True, False])
    by_call = "|".join(events).split("call ")[1:]
    assert ["release" in x for x in by_call] == [True, True, True, False, True, True]
    assert all("wait" in x for x in by_call)  # two blocks of temporaries are never there at once


def test_an_evaluation_counts_as_one_of_them(monkeypatch):
    events: list[str] = []
    monkeypatch.setattr(memory, "release", lambda: events.append("release"))
    monkeypatch.setattr(memory, "temporaries", lambda _: memory.LARGE)
    calls = memory.Calls(lambda: False)
    for evaluated in (False, False, True):
        if evaluated:
            calls.cut()
        calls.before(calls_of, lambda: None)
    assert len(events) == 2  # before the first and after the evaluation


def test_calls_with_little_memory_do_not_wait(monkeypatch):
    assert calls_of(monkeypatch, [True, False], memory.LARGE - 1) == ["call 0", "call 1"]


@pytest.mark.parametrize("size", [8, 512])
def test_temporaries_of_a_program(size):
    import jax
    import jax.numpy as jnp

    x = jnp.ones((size, size))
    program = jax.jit(lambda x: jnp.sort(x @ x) @ x).lower(x).compile()
    assert memory.temporaries(program) >= (x.nbytes if jax.default_backend() == "cpu" else 0)
