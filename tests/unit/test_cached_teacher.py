"""What is stored of a teacher's outputs, and what is restored of it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.config import MeshConfig
from jaxft.models.model import make_model
from jaxft.parallel import sharding
from jaxft.step.cached_teacher import StoredOutput, cached_teacher, is_stored, prefixed, stored_outputs
from jaxft.step.parameters import Parameters
from tests.support import tiny

RNG = np.random.default_rng(0)


def returned(stored: StoredOutput, output):
    """An output after it has been stored and restored."""
    columns = stored.store(jnp.asarray(output))
    for name, x in columns.items():
        column = stored.columns[name]
        assert (x.shape[2:], x.dtype) == (column.shape, column.dtype), name
    found = cached_teacher([stored])(Parameters({}), {prefixed(name): x for name, x in columns.items()})
    return np.asarray(found[stored.name])


def random(*shape):
    return RNG.normal(0, 3, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        (StoredOutput("logits", "example", (5,)), (2, 3, 5)),
        (StoredOutput("logits", "example", (4,), group=4), (2, 12)),
        (StoredOutput("logits", "example", (4, 1), group=4), (2, 12, 1)),
        (StoredOutput("logits", "token", (5,), group=4), (2, 7, 5)),
        (StoredOutput("start_logits", "token", ()), (2, 7)),
    ],
)
def test_whole_outputs_are_restored_bit_for_bit(stored, shape):
    output = random(*shape)
    np.testing.assert_array_equal(returned(stored, output), output)


@pytest.mark.parametrize(("per", "labels"), [("example", 9), ("token", 9), ("example", 40_000)])
def test_kept_labels_have_the_probabilities_that_they_have_among_all(per, labels):
    keep, output = 3, random(2, 4, labels)
    found = returned(StoredOutput("logits", per, (labels,), keep=keep), output)
    largest = np.argsort(-output, axis=-1)[..., :keep]
    np.testing.assert_array_equal(*(np.take_along_axis(x, largest, -1) for x in (found, output)))
    # The formula: the others share what probability is left.
    p = np.exp(output.astype(np.float64) - output.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    expected = np.repeat((1 - np.take_along_axis(p, largest, -1).sum(-1, keepdims=True)) / (labels - keep), labels, -1)
    np.put_along_axis(expected, largest, np.take_along_axis(p, largest, -1), -1)
    np.testing.assert_allclose(np.asarray(jax.nn.softmax(jnp.asarray(found), -1)), expected, rtol=2e-5)


def test_hidden_states_are_rounded_to_bfloat16():
    output = random(2, 5, 6)
    found = returned(StoredOutput("hidden_states.3", "token", (6,), dtype="bfloat16"), output)
    np.testing.assert_array_equal(found, np.asarray(jnp.asarray(output, jnp.bfloat16), np.float32))
    assert [is_stored(name) for name in ("hidden_states.3", "attentions.3", "hidden_states", "keys.0")] == [
        True,
        *[False] * 3,
    ]


CASES = {
    "text-classification": [("logits", "example", (3,))],
    "token-classification": [("logits", "token", (3,))],
    "question-answering": [("end_logits", "token", ()), ("start_logits", "token", ())],
    "multiple-choice": [("logits", "example", (4,))],
}


@pytest.mark.parametrize("kind", CASES)
def test_outputs_are_found_by_their_shapes(kind):
    labels = {"num_labels": 3} if "class" in kind else {}
    model = make_model(tiny.CONFIG | labels, kind, "tiny")
    mesh = sharding.make_mesh(MeshConfig(data=1))
    group = 4 if kind == "multiple-choice" else 1
    found = stored_outputs(model, model.abstract(), group, mesh, keep=2)
    assert [(x.name, x.per, x.shape) for x in found] == CASES[kind]
    assert [x.keep for x in found] == [2 if "class" in kind else None for _ in found]
    *_, first, second = stored_outputs(model, model.abstract(), group, mesh, outputs=["hidden_states.2", "hidden_states.0"])
    assert (first.name, second.name) == ("hidden_states.0", "hidden_states.2")
    assert (first.per, first.dtype, first.shape) == ("token", "bfloat16", (24,))


def test_a_teacher_has_columns_of_its_own():
    stored = [StoredOutput("logits", "example", (2,))]
    batch = {"a/logits": jnp.ones((1, 1, 2)), "b/logits": jnp.zeros((1, 1, 2))}
    params = SimpleNamespace()
    assert cached_teacher(stored, "a")(params, batch)["logits"].all()
    assert not cached_teacher(stored, "b")(params, batch)["logits"].any()
