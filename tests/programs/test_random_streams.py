"""What is drawn is drawn once: no two layers, places, micro-batches or steps share a stream of random numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import optim
from jaxft.config import OptimConfig
from jaxft.core import random_keys
from jaxft.models import forward, heads
from jaxft.models.encoder import attention, blocks, disentangled
from jaxft.models.model import make_model
from jaxft.step.train_step import init_state, train_step
from tests.support import tiny, zoo
from tests.support.steps import RECORDER


@pytest.mark.parametrize("family", zoo.families(("bert", "albert")))
def test_every_dropout_has_a_key_of_its_own(family, monkeypatch):
    """ALBERT applies the same layers several times."""
    kind = "text-classification"
    config = zoo.fixed(family, kind)
    model = make_model(config, kind, "zoo")
    keys = []

    def note(x, rate, key):
        if key is not None:
            keys.append(tuple(np.asarray(jax.random.key_data(key)).ravel().tolist()))
        return x

    def plain(q, k, v, bias, seen, rate, key):
        p = note(jax.nn.softmax(attention._scores(q, k, bias, seen), axis=-1), rate, key)
        return attention.batched(p, v, (3, 2)).swapaxes(1, 2)

    monkeypatch.setattr(attention, "_attention", plain)
    for module in (attention, blocks, disentangled, heads):
        monkeypatch.setattr(module, "dropout", note)
    with jax.disable_jit():  # so that a scan calls every layer
        batch = forward.batch_of(model, zoo.inputs_for(family, kind, config, rows=1, shortest=4, length=4))
        model.apply(tiny.random_params(model), batch, key=random_keys.root_key(0))
    assert len(keys) > 3 * model.encoder.config.num_layers
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_micro_batches_and_steps_have_streams_of_their_own(micro_batches):
    """The key of micro-batch k of step n is fold_in(fold_in(root, n), k)."""

    def loss(params, batch, key, hyper):
        return (jax.random.uniform(key) + 0 * params["w"].sum(), jnp.float32(1)), {}

    root = random_keys.root_key(7)
    state = init_state({"w": jnp.ones(2)}, RECORDER, root, optim.hyperparameters(OptimConfig()))
    step = jax.jit(partial(train_step, loss_fn=loss, optimizer=RECORDER))
    for number in range(2):
        state, metrics = step(state, {}, {"x": jnp.zeros((micro_batches, 1))})
        of_step = jax.random.fold_in(root, number)
        drawn = [float(jax.random.uniform(jax.random.fold_in(of_step, k))) for k in range(micro_batches)]
        assert len(set(drawn)) == micro_batches
        assert float(metrics["loss"]) == pytest.approx(np.mean(drawn), rel=1e-6)
