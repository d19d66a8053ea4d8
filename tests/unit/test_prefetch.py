"""The thread that makes batches ahead: in order, not too far ahead, and its errors arrive when they are due."""

import itertools
import threading

import pytest

from jaxft.data.batching.prefetch import prefetch


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threads()
    yield
    assert threads() == before


def threads() -> int:
    return sum(thread.name.startswith("jaxft-prefetch") for thread in threading.enumerate())


def test_items_arrive_in_order():
    assert list(prefetch(iter(range(50)), lambda i: i * i, depth=3)) == [i * i for i in range(50)]


@pytest.mark.parametrize("where", ["making an item", "finding the next"])
def test_an_error_is_raised_when_its_item_is_due(where):
    def items():
        yield from (0, 1, 2)
        if where == "finding the next":
            raise OSError("torn")
        yield from itertools.count(3)

    def make(i: int) -> int:
        if i == 3:
            raise OSError("torn")
        return i

    batches = prefetch(items(), make, depth=2)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="torn"):
        next(batches)


def test_the_thread_stops_with_its_consumer_and_never_runs_far_ahead():
    made, before = [], threads()
    batches = prefetch(itertools.count(), lambda i: made.append(i) or i, 3)
    assert [next(batches) for _ in range(4)] == [0, 1, 2, 3]
    assert threads() == before + 1
    batches.close()
    assert threads() == before
    assert len(made) <= 4 + 3 + 1
