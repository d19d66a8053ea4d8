"""The thread that makes batches ahead: in order, no further ahead than asked, and its errors arrive where they are due."""

import threading

import pytest

from jaxft.data.batching.prefetch import prefetch


def test_everything_arrives_in_order():
    assert list(prefetch(iter(range(50)), lambda i: i * i, depth=3)) == [i * i for i in range(50)]


@pytest.mark.parametrize("where", ["making an item", "finding the next"])
def test_an_error_is_raised_where_its_item_is_due(where):
    def items():
        yield from (0, 1, 2)
        if where == "finding the next":
            raise OSError("torn")
        yield 3

    def make(i: int) -> int:
        if i == 3:
            raise OSError("torn")
        return i

    got = prefetch(items(), make, depth=2)
    assert [next(got) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="torn"):
        next(got)


def test_the_thread_ends_with_the_consumer():
    made = []
    results = prefetch(iter(range(1000)), lambda i: made.append(i) or i, depth=2)
    assert next(results) == 0
    results.close()
    assert not any(thread.name.startswith("jaxft-prefetch") and thread.is_alive() for thread in threading.enumerate())
    assert len(made) <= 5
