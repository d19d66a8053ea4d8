"""The loss of a run: the task's loss, with transformed word embeddings, in loss wrappers."""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.config import cli
from jaxft.core import random_keys
from jaxft.data.augmentation.pairs import LABELLED
from jaxft.losses import OutputPair
from jaxft.run.loss import make_loss, run_loss
from jaxft.step.pairs import COUNTS
from jaxft.step.parameters import Parameters

TABLE = np.arange(12, dtype=np.float32).reshape(6, 2)
PARAMS = Parameters({"encoder": {"embeddings": {"word_embeddings": {"embedding": jnp.asarray(TABLE)}}}})
BATCH = {"input_ids": jnp.asarray([[1, 4]])}

ONE = SimpleNamespace(group=1)  # examples of one sequence each


def teacher_of(apply):
    return SimpleNamespace(key="teacher", is_live=True, model=SimpleNamespace(apply=apply))


class Echo:
    """A model whose outputs are its inputs; a task whose loss is their sum."""

    def override(self):
        return None

    def apply(self, params, inputs, **_):
        return inputs

    def run_model(self, model, params, inputs, **options):
        return model.apply(params, inputs, **options)

    def loss(self, outputs, batch, train):
        return jnp.sum(outputs.get("inputs_embeds", 0)), jnp.float32(1)

    def soft_pairs(self, outputs, teacher, batch):
        """A squared error of 20 against the teacher, which has no outputs, and none between the passes of R-Drop."""
        return [OutputPair("identity", jnp.full((1, 1), 0 if teacher else 20**0.5), jnp.zeros((1, 1)), jnp.ones(1))]


def test_embeddings_are_transformed_in_order_and_in_training_only():
    transformations = [lambda words, batch, key: words + batch["input_ids"][..., None], lambda words, batch, key: words * 2]
    loss = make_loss(Echo(), Echo(), transformations)  # type: ignore[arg-type]
    _, outputs = loss(PARAMS, BATCH, random_keys.root_key(0), {})
    np.testing.assert_array_equal(outputs["inputs_embeds"], 2 * (TABLE[None, [1, 4]] + [[[1], [4]]]))
    assert "inputs_embeds" not in loss(PARAMS, BATCH, None, {})[1]


def test_loss_wrappers_of_the_config_are_applied_in_order():
    """Each of R-Drop's two passes is mixed with the loss against the teacher; evaluation has the task's own loss."""
    options = ["--regularization.r_drop=3", "--regularization.neftune=1e-30", "--distill.temperature=2"]
    config = cli.parse({}, options, origin="test")
    echo = Echo()
    calls = []
    teacher = teacher_of(lambda params, batch, **_: calls.append("teacher") or {})
    run = SimpleNamespace(config=config, model=echo, task=echo, teachers=[teacher], prototype=ONE, total_steps=9)
    batch = BATCH | {"segment_ids": jnp.ones((1, 2), jnp.int32), "first_token": jnp.zeros((1, 1), jnp.int32)}
    params = replace(PARAMS, teachers={"teacher": {}})
    (total, weight), outputs = run_loss(run)(params, batch, random_keys.root_key(0), {})  # type: ignore[arg-type]
    assert calls == ["teacher", "teacher"]
    assert outputs["inputs_embeds"].shape == (1, 2, 2)
    hard = TABLE[[1, 4]].sum()
    assert (float(total), float(weight)) == (hard / 2 + 20 / 2, 1.0)
    assert run_loss(run)(params, batch, None, {})[0][0] == 0  # type: ignore[arg-type]


class Weighs(Echo):
    """Its texts have the weight 8, but its loss, which stands for one of the user's, has the weight 1."""

    def text_weights(self, batch):
        return jnp.full((1, 4), 2.0)


@pytest.mark.parametrize(("alpha", "weight"), [(0, 1), (3, 8)])
def test_a_loss_of_the_user_is_weighed_like_what_is_added_to_it(alpha, weight):
    """Its mean stays. Alone, it keeps its own weight."""
    options = ["--task.loss=my_module:my_loss", f"--regularization.r_drop={alpha}", "--regularization.neftune=1e-30"]
    config = cli.parse({}, options, origin="test")
    run = SimpleNamespace(config=config, model=Echo(), task=Weighs(), teachers=[], total_steps=9)
    batch = BATCH | {"segment_ids": jnp.ones((1, 2), jnp.int32), "first_token": jnp.zeros((1, 1), jnp.int32)}
    found = run_loss(run)(PARAMS, batch, random_keys.root_key(0), {})[0]  # type: ignore[arg-type]
    hard = TABLE[[1, 4]].sum()
    assert np.allclose(found, (weight * hard, weight))


class Weighted(Echo):
    """Each example costs 2, and 6 against the teacher."""

    def apply(self, params, inputs, **_):
        return {"logits": jnp.zeros((1, 6, 3))}

    def loss(self, outputs, batch, train):
        return 2 * batch["weights"].sum(), batch["weights"].sum()

    def soft_pairs(self, outputs, teacher, batch):
        zeros = jnp.zeros((1, 6, 1))
        return [OutputPair("identity", zeros + (0 if teacher else 6**0.5), zeros, batch["weights"])]


def test_teachers_and_r_drop_are_for_labelled_examples():
    """Texts without labels neither count in these losses nor in the weight that divides them."""
    options = ["--unlabelled.data=x.csv", "--unlabelled.weight=0", "--regularization.r_drop=3", "--distill.alpha=0.5"]
    config, task = cli.parse({}, options, origin="test"), Weighted()
    own = {"teachers": [teacher_of(lambda params, batch, **_: {})], "prototype": ONE, "total_steps": 9}
    run = SimpleNamespace(config=config, model=task, task=task, sampler=SimpleNamespace(micro_batches=1), **own)
    labelled = jnp.asarray([[1, 1, 0, 0, 0, 0]], jnp.float32)
    batch = BATCH | {"weights": jnp.ones((1, 6)), LABELLED: labelled, COUNTS: jnp.asarray([2.0, 2.0])}
    params = replace(PARAMS, teachers={"teacher": {}})
    total, weight = run_loss(run)(params, batch, random_keys.root_key(0), {})[0]  # type: ignore[arg-type]
    assert (float(total), float(weight)) == (2 * (2 + 6) / 2, 2.0)
