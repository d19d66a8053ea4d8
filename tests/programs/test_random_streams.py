"""No two layers, dropout sites, micro-batches or steps share a stream of random numbers."""

import ast
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import optim
from jaxft.config import OptimConfig
from jaxft.core import random_keys, random_streams, tree
from jaxft.core.random_streams import OfHead, OfLayer, OfMicroBatch, OfSeed, OfStep
from jaxft.models import families, forward, heads
from jaxft.models.encoder import attention, blocks, disentangled
from jaxft.models.model import make_model
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import init_state, train_step
from tests.support import ROOT, tiny, zoo
from tests.support.steps import RECORDER


def bits(key) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())


@pytest.mark.parametrize("family", zoo.families(("bert", "albert")))
def test_every_dropout_has_a_key_of_its_own(family, monkeypatch):
    """Also in R-Drop's second pass and compared with other streams; ALBERT applies the same layers several times."""
    kind = "text-classification"
    config = zoo.fixed(family, kind)
    model = make_model(config, kind, "zoo")
    keys = []

    def note(x, rate, key, **_):
        if key is not None:
            keys.append(bits(key))
        return x

    def plain(q, k, v, bias, seen, rate, key):
        p = note(jax.nn.softmax(attention._scores(q, k, bias, seen), axis=-1), rate, key)
        return attention.batched(p, v, (3, 2)).swapaxes(1, 2)

    monkeypatch.setattr(attention, "_attention", plain)
    for module in (attention, blocks, disentangled, heads):
        monkeypatch.setattr(module, "dropout", note)
    with jax.disable_jit():  # so that a scan calls every layer
        batch = forward.batch_of(model, zoo.inputs_for(family, kind, config, rows=1, shortest=4, length=4))
        params = tiny.random_params(model)
        of_step = jax.random.fold_in(random_keys.root_key(0), 0)
        keys += [bits(jax.random.fold_in(of_step, stream)) for stream in OfStep]
        first = jax.random.fold_in(of_step, 0)
        for key in (first, jax.random.fold_in(first, OfMicroBatch.SECOND_PASS)):
            model.apply(params, batch, key=key)
            keys.append(bits(jax.random.fold_in(key, OfMicroBatch.NEFTUNE)))
    assert len(keys) > 2 * 3 * model.encoder.config.num_layers
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_micro_batches_and_steps_have_streams_of_their_own(micro_batches):
    """The key of micro-batch k of step n is fold_in(fold_in(root, n), k)."""

    def loss(params, batch, key, hyper):
        return (jax.random.uniform(key) + 0 * params.model["w"].sum(), jnp.float32(1)), {}

    root = random_keys.root_key(7)
    state = init_state({"w": jnp.ones(2)}, RECORDER, root, optim.hyperparameters(OptimConfig()))
    step = jax.jit(partial(train_step, loss_fn=loss, optimizer=RECORDER))
    for number in range(2):
        state, metrics = step(state, Parameters({}), {"x": jnp.zeros((micro_batches, 1))})
        of_step = jax.random.fold_in(root, number)
        drawn = [float(jax.random.uniform(jax.random.fold_in(of_step, k))) for k in range(micro_batches)]
        assert len(set(drawn)) == micro_batches
        assert float(metrics["loss"]) == pytest.approx(np.mean(drawn), rel=1e-6)


MANY = 10**9  # epochs, micro-batches, layers


def test_no_stream_is_a_number_that_counts_steps_epochs_or_layers():
    assert min(OfSeed) >= 2**32  # epochs and checksums are below
    assert min(OfStep) > MANY
    assert OfMicroBatch.SECOND_PASS > MANY < OfLayer.ADAPTERS
    assert max(OfMicroBatch.EMBEDDINGS, OfMicroBatch.LAYERS, OfMicroBatch.HEAD) < OfMicroBatch.SHARED_MODULES


def test_the_input_of_a_head_has_its_own_stream():
    for family in families.FAMILIES.values():
        for parts in family.heads.values():
            first = next(iter(parts.values()), None)
            assert first is None or not first.input_dropout or len(parts) <= OfHead.INPUT


@pytest.mark.parametrize("family", zoo.families())
def test_names_give_different_streams(family):
    """Checksums of parameters (mixout) and of dense layers (adapters) differ, also from the epochs of a usual run."""
    model = make_model(zoo.fixed(family, "text-classification"), "text-classification", "zoo")
    params = model.abstract()
    stacks, layers = ({".".join(path) for path in tree.flatten(params)}, set(tree.all_names(params)))
    for names in (stacks, {name.removesuffix(".kernel") for name in layers}):
        found = {zlib.crc32(name.encode()) for name in names}
        assert len(found) == len(names)
        assert min(found) > 1000


def test_every_stream_is_in_the_registry():
    """No number is folded into a key elsewhere, and no generator has another key; MinHash has constants of its own."""
    own = [Path(random_streams.__file__), ROOT / "jaxft/data/cleaning/minhash.py"]
    for path in (ROOT / "jaxft").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "Philox(" not in text or path in own, path
        constants = {
            target.id
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, int)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            if ast.unparse(call.func).rpartition(".")[2] in ("fold", "fold_in"):
                numbers = [
                    ast.unparse(x)
                    for arg in call.args
                    for x in ast.walk(arg)
                    if (isinstance(x, ast.Constant) and isinstance(x.value, int))
                    or (isinstance(x, ast.Name) and x.id in constants)
                ]
                assert not numbers, f"{path}: {ast.unparse(call)}"
