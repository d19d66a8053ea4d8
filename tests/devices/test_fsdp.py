"""mesh.fsdp: parameters are gathered where they are used, gradients are summed, and activations stay on their devices."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from jaxft import optim
from jaxft.config import MeshConfig
from jaxft.core import random_keys, tree
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.parallel import sharding
from jaxft.preflight import hlo
from jaxft.run.loss import make_loss
from jaxft.step.compilation import abstract_batch, lower_train
from jaxft.step.parameters import Parameters
from jaxft.step.stages import state_shardings
from jaxft.step.train_step import eval_step, init_state
from jaxft.tasks.text_classification import TextClassification
from tests.support.families import LABELS, LENGTHS, PLANS, SETTINGS, examples, planned

ROWS, LENGTH = 64, 24  # activations are several times as large as parameters
NUMBERS = 128  # bytes of the loss, its weight and norms


def programs(family: str, plan: dict):
    """(bytes of what is trained, of all parameters, the train step, the evaluation step), compiled for 2 x 4 devices."""
    model, params, made = planned(family, plan)
    data = replace(examples(model), columns={"labels": np.zeros(len(LENGTHS), np.int32)})
    sampler = make_sampler(np.full(ROWS, LENGTH), batch_size=ROWS, max_length=LENGTH, layout="pad", seed=0, shards=8)
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=4))
    batch = abstract_batch(sampler, next(iter(sampler.shapes)), data, sharding.batch_sharding(mesh))
    optimizer, hyper = optim.make_optimizer(SETTINGS, made, 10), optim.hyperparameters(SETTINGS)
    trained, frozen = (sharding.shapes(mesh, x) for x in made.split(params))
    state = jax.eval_shape(lambda p: init_state(p, optimizer, random_keys.root_key(0), hyper), trained)
    state = jax.tree.map(sharding.with_sharding, state, state_shardings(mesh, state))
    task = TextClassification(LABELS)
    loss = make_loss(model, task)
    train = lower_train(loss, optimizer, state, Parameters(frozen), batch).compile()
    evaluate = partial(eval_step, loss_fn=loss, summarise=task.summarise)
    evaluation = sharding.lower(evaluate, mesh, Parameters(frozen).combined(trained), batch).compile()
    return 4 * tree.count(trained), 4 * tree.count(params), train, evaluation


@pytest.mark.parametrize(
    ("family", "plan"),
    [("distilbert", {}), ("modernbert", {}), ("deberta-v2", PLANS["lora"])],
    ids=["distilbert", "modernbert", "deberta-v2, lora"],
)
def test_parameters_are_gathered_and_gradients_reduced_and_nothing_else(family, plan):
    """Each parameter once in forward and once in backward, each gradient once; their sizes do not grow with the rows."""
    trained, every, train, evaluation = programs(family, plan)
    moved = {kind: x.size for kind, x in hlo.by_kind(hlo.collectives(train.as_text())).items()}
    assert 0 < moved["all-gather"] <= 2 * every
    # Gradients are reduced over fsdp, and a quarter of each again over data. DeBERTa's relative embeddings are projected in
    # every layer, which adds partial gradients of their table.
    assert trained <= moved["all-reduce"] <= (1.25 if family != "deberta-v2" else 1.6) * trained + NUMBERS
    assert sum(moved.values()) - moved["all-gather"] - moved["all-reduce"] <= 0.1 * every
    [gathered] = [x for x in hlo.collectives(evaluation.as_text()) if x.kind == "all-gather"]
    assert 0 < gathered.size <= every
