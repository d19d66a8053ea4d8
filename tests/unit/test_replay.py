"""An artefact in the place of its model: rows of several examples are taken apart, and put together again."""

import numpy as np

from jaxft.deploy.replay import difference, random_inputs, replayed
from jaxft.models.model import make_model
from tests.support import tiny

BATCH = {
    "input_ids": [[2, 5, 6, 7, 8, 0], [9, 9, 9, 9, 0, 0]],
    "segment_ids": [[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 0, 0]],
    "token_type_ids": [[0, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0]],
    "first_token": [[0, 2], [0, 0]],
}


def model_of(kind):
    return make_model(tiny.CONFIG | {"num_labels": 1}, kind, "test")


def batch(**more):
    return {name: np.asarray(x, np.int32) for name, x in (BATCH | more).items()}


def test_examples_of_packed_rows_are_rows_of_the_artefact():
    def run(inputs):
        assert inputs["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
        assert inputs["input_ids"].tolist() == [[2, 5, 0, 0], [6, 7, 8, 0], [9, 9, 9, 9]]
        assert inputs["token_type_ids"].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        return {"logits": inputs["input_ids"].sum(1, keepdims=True).astype(np.float32)}

    model = replayed(model_of("text-classification"), run)
    assert model.outputs_of(batch())["logits"][..., 0].tolist() == [[7, 21], [36, 0]]
    assert len(model.seen) == 1


def test_outputs_of_tokens_return_to_their_places():
    model = replayed(model_of("fill-mask"), lambda inputs: {"logits": inputs["input_ids"][..., None].astype(np.float32)})
    assert model.outputs_of(batch())["logits"][..., 0].tolist() == BATCH["input_ids"]
    some = model.outputs_of(batch(token_positions=[[4, 1], [0, 5]]))["logits"]
    assert some[..., 0].tolist() == [[8, 5], [9, 0]]


def test_a_choice_is_a_row_of_its_own():
    def run(inputs):
        assert inputs["input_ids"].shape == (3, 1, 4)
        return {"logits": inputs["input_ids"].sum(-1).astype(np.float32)}

    model = replayed(model_of("multiple-choice"), run)
    assert model.outputs_of(batch())["logits"].reshape(2, 2).tolist() == [[7, 21], [36, 0]]


def test_the_difference_is_that_of_real_tokens():
    mask = np.asarray([[1, 1, 0], [1, 0, 0]])
    right = np.asarray([[[1.0], [4.0], [7.0]], [[2.0], [0.0], [9.0]]])
    wrong = right + 9 * (1 - mask)[..., None]
    model = model_of("token-classification")
    assert difference(model, {"logits": wrong}, {"logits": right}, mask) == {"largest": 0.0, "relative": 0.0}
    wrong[0, 0, 0] += 0.5
    assert difference(model, {"logits": wrong}, {"logits": right}, mask) == {"largest": 0.5, "relative": 0.125}


def test_random_inputs_have_padding_and_no_other_padding_ids():
    model = model_of("text-classification")
    inputs = random_inputs(model)
    assert inputs.keys() == {"input_ids", "attention_mask", "token_type_ids"}
    assert ((inputs["input_ids"] != 0) == (inputs["attention_mask"] == 1)).all()
    assert 0 < inputs["attention_mask"].mean() < 1
    assert inputs["input_ids"].shape[1] == 48  # the model's positions
