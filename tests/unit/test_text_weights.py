"""The weights of texts, with which matches count them, add up to the weight of the task's loss."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.tasks import QuestionAnswering
from jaxft.tasks.masked_lm import MaskedLM
from jaxft.tasks.multiple_choice import MultipleChoice
from jaxft.tasks.pretraining import Pretraining
from jaxft.tasks.text_classification import TextClassification
from jaxft.tasks.token_classification import TokenClassification

IDS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 3, 3]], np.int32)
BATCH = {
    "segment_ids": IDS,
    "position_ids": np.array([[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 0, 1]], np.int32),
    "first_token": np.array([[0, 3, 0, 0], [0, 2, 4, 0]], np.int32),
    "weights": np.array([[1, 1, 0, 0], [1, 1, 1, 0]], np.float32),
}
RNG = np.random.default_rng(0)
NAMES = ("a", "b", "c")
WORDS = {
    "token_positions": np.array([[1, 4, 2, 0], [0, 5, 4, 0]], np.int32),
    "token_weights": np.array([[1, 1, 1, 0], [1, 1, 1, 0]], np.float32) / 2,
    "targets": np.zeros((2, 4), np.int32),
}


def logits(*shape):
    return {"logits": jnp.asarray(RNG.normal(size=shape), jnp.float32)}


def example(labels):
    return {"labels": np.array(labels, np.int32)}


CASES = {
    "text-classification": (
        TextClassification(NAMES, class_weights=(0.5, 2.0, 4.0)),
        logits(2, 4, 3),
        example([[0, 1, 0, 0], [2, 2, 1, 0]]),
        [[0.5, 2, 0, 0], [4, 4, 2, 0]],
    ),
    "token-classification": (
        TokenClassification(NAMES, class_weights=(0.5, 2.0, 4.0)),
        logits(2, 6, 3),
        example([[0, 1, 3, 0, 2, 0], [1, 0, 0, 0, 2, 2]]),
        [[4.5, 2, 0, 0], [0.5, 0, 4, 0]],
    ),
    "multiple-choice": (  # two choices an example; the second example of the first row is missing
        MultipleChoice(),
        logits(2, 4),
        example([[1, 0], [0, 1]]) | {"weights": np.array([[1, 0], [1, 1]], np.float32)},
        [[0.5, 0.5, 0, 0], [0.5, 0.5, 0.5, 0.5]],
    ),
    "question-answering": (
        QuestionAnswering(),
        {f"{side}_logits": logits(2, 6)["logits"] for side in ("start", "end")},
        {f"{side}_positions": np.array([[0, -1, 0, 0], [1, 1, 0, 0]], np.int32) for side in ("start", "end")},
        [[1, 0, 0, 0], [1, 1, 1, 0]],
    ),
    "fill-mask": (MaskedLM(), {MaskedLM.output: logits(2, 4, 7)["logits"]}, WORDS, [[1, 0.5, 0, 0], [0.5, 0, 1, 0]]),
    "pretraining": (
        Pretraining(),
        {Pretraining.output: logits(2, 4, 7)["logits"], Pretraining().relation: logits(2, 4, 2)["logits"]},
        WORDS | example([[0, 1, 0, 0], [1, 1, 0, 0]]),
        BATCH["weights"],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_weights_of_texts_add_up_to_that_of_the_loss(kind):
    task, outputs, columns, expected = CASES[kind]
    batch = {name: jnp.asarray(x) for name, x in (BATCH | columns).items()}
    weights = task.text_weights(batch)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert float(weights.sum()) == pytest.approx(float(task.loss(outputs, batch, True)[1]), rel=1e-6)
