"""The examples of several tasks as those of one, and back; and the weights of their losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.data.batching.collect import Summary
from jaxft.data.tokens.encode import Examples
from jaxft.tasks.custom import customised
from jaxft.tasks.several import several_tasks
from jaxft.tasks.several_splits import TASK, combine
from jaxft.tasks.task import Split
from jaxft.tasks.text_classification import TextClassification


def examples(sizes: list[int], start: int, **more: np.ndarray) -> Examples:
    total = sum(sizes)
    tokens = {"input_ids": np.arange(start, start + total, dtype=np.int32), "token_type_ids": np.zeros(total, np.int8)}
    columns = {key: x for key, x in more.items() if len(x) == len(sizes)}
    return Examples(tokens | {key: x for key, x in more.items() if key not in columns}, np.cumsum([0, *sizes]), columns)


ONE = examples([2, 3], 10, labels=np.array([1, 2], np.int32))
TWO = examples([1, 2, 4], 50, labels=np.arange(7, dtype=np.int32))


def test_columns_belong_to_their_task():
    both = combine({"a": Split("ab", ONE, "a.csv"), "b": Split("abc", TWO, "b.csv")}, {"a": ONE, "b": TWO})
    found = both.examples
    assert found.offsets.tolist() == [0, 2, 5, 6, 8, 12]
    assert found.tokens["input_ids"].tolist() == [*range(10, 15), *range(50, 57)]
    assert found.columns[TASK].tolist() == [0, 0, 1, 1, 1]
    assert found.columns["a/labels"].tolist() == [1, 2, 0, 0, 0]
    assert found.tokens["b/labels"].tolist() == [0] * 5 + list(range(7))
    assert len(both.rows) == 5
    assert both.origin == "a.csv, b.csv"


def test_a_task_without_the_split_still_has_its_columns():
    alone = combine({"b": Split("abc", TWO, "b.csv")}, {"a": ONE, "b": TWO})
    assert alone.examples.columns["a/labels"].tolist() == [0, 0, 0]
    assert alone.examples.columns[TASK].tolist() == [1, 1, 1]
    assert list(alone.parts) == ["b"]
    assert list(alone.begins) == [0, 0, 3]


def test_what_was_collected_is_divided_among_the_tasks():
    both = combine({"a": Split("ab", ONE, "a.csv"), "b": Split("abc", TWO, "b.csv")}, {"a": ONE, "b": TWO})
    summary = Summary(
        examples={"a/logits": np.arange(5), "b/margin": np.arange(5)},
        sums={"a/loss": 1.0, "b/loss": 2.0, "loss": 3.0},
        tokens={"b/predicted": np.arange(12)},
    )
    a, b = both.part(summary, "a", 0), both.part(summary, "b", 1)
    assert a.examples["logits"].tolist() == [0, 1]
    assert a.sums == {"loss": 1.0}
    assert a.tokens == {}
    assert b.examples["margin"].tolist() == [2, 3, 4]
    assert b.tokens["predicted"].tolist() == list(range(5, 12))


def test_an_example_has_room_for_the_texts_of_the_largest_task():
    """Texts that it lacks are empty and stand at its end."""
    pairs = Examples({name: x[:3] for name, x in ONE.tokens.items()}, np.array([0, 1, 3]), {}, group=2)
    found = combine({"a": Split("a", pairs, "a.csv"), "b": Split("abc", TWO, "b.csv")}, {"a": pairs, "b": TWO}).examples
    assert found.group == 2
    assert found.offsets.tolist() == [0, 1, 3, 4, 4, 6, 6, 10, 10]
    assert found.lengths.tolist() == [3, 1, 2, 4]


def mean_loss(outputs, batch, train):
    total, weight = TextClassification(("x", "y")).loss(outputs, batch, train)
    return total / weight, jnp.ones(())


def test_a_loss_of_the_user_counts_by_its_mean():
    """It may return a mean with the weight 1, or a sum with the number of examples."""
    rng = np.random.default_rng(0)
    batch = {"weights": jnp.ones((1, 3, 4)), "first_token": jnp.zeros((1, 3, 4), jnp.int32)}
    batch["input_ids"] = jnp.zeros((1, 3, 4), jnp.int32)
    batch[TASK] = jnp.asarray(rng.integers(0, 2, (1, 3, 4)), jnp.int32)
    labels = {f"{name}/labels": jnp.asarray(rng.integers(0, 2, (1, 3, 4)), jnp.int32) for name in "ab"}
    outputs = {f"{name}/logits": jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32) for name in "ab"}
    found = []
    for kind in (TextClassification, customised(TextClassification, f"{__name__}:mean_loss", ())):
        tasks = several_tasks({"a": TextClassification(("x", "y")), "b": kind(("x", "y"))}, {"a": 1.0, "b": 2.0})

        @jax.jit
        def loss(batch, tasks=tasks):
            micro = {key: x[0] for key, x in tasks.prepare(batch, None).items()}
            return tasks.loss(outputs, micro, True)

        found.append([float(x) for x in loss(batch | labels)])
    assert found[1] == pytest.approx(found[0])
