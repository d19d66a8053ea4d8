"""Dropout acts where Hugging Face's acts: on the same tensors, with the rate of the same field of config.json.

In both programs dropout is replaced by a function that notes the rate and the tensor it is given, and changes nothing. So
both compute the same, and every tensor that Hugging Face would drop must be one that jaxft would drop.
"""
# ruff: noqa: E402

import jax
import numpy as np
import pytest

from jaxft.core import random_keys

torch = pytest.importorskip("torch")

import jaxft
from jaxft.models import forward, heads
from jaxft.models.encoder import attention, blocks, disentangled
from jaxft.models.families import FAMILIES
from tests.support import zoo, zoo_torch

Sites = list[tuple[float, np.ndarray]]


def of_torch(model, inputs, monkeypatch) -> Sites:
    seen: Sites = []

    def note(x, p=0.5, training=True, inplace=False):
        if training and p > 0:
            seen.append((p, x.detach().numpy().copy()))
        return x

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "dropout", note)  # which nn.Dropout calls, too
        model.train()(**{name: torch.tensor(x) for name, x in inputs.items()})
    return seen


def of_jaxft(model, params, inputs, monkeypatch) -> Sites:
    seen: Sites = []

    def note(x, rate, key, *, shared=False):
        if key is not None and rate > 0:
            seen.append((rate, np.asarray(x)))
        return x

    def plain(q, k, v, bias, seen, rate, key):
        p = note(jax.nn.softmax(attention._scores(q, k, bias, seen), axis=-1), rate, key)
        return attention.batched(p, v, (3, 2)).swapaxes(1, 2)

    batch = forward.batch_of(model, inputs)
    with monkeypatch.context() as patch, jax.disable_jit():  # so that a scan calls every layer
        patch.setattr(attention, "_attention", plain)
        for module in (attention, blocks, disentangled, heads):
            patch.setattr(module, "dropout", note)
        model.apply(params, batch, key=random_keys.root_key(0))
    return seen


def same(found: tuple[float, np.ndarray], expected: tuple[float, np.ndarray]) -> bool:
    """The same rate on the same numbers; jaxft has an axis for the examples of a row."""
    x, y = found[1].squeeze(), expected[1].squeeze()
    return found[0] == expected[0] and x.shape == y.shape and np.abs(x - y).max() <= 1e-4 * np.abs(y).max()


def optional(family: str, kind: str) -> set[str]:
    """The rates of a head that config.json may lack."""
    row = FAMILIES[family]
    parts = row.parts(kind, {}, "zoo").values()
    return {f for part in parts for f in (*part.input_dropout, *part.dropout) if row.dropouts[f] is None}


GIVEN = [pytest.param(*x.values, set(), id=x.id, marks=x.marks) for x in zoo.pairs()]
ABSENT = [
    pytest.param(family, kind, absent, id=f"{family}-{kind}-without-{'-'.join(absent)}", marks=pytest.mark.slow)
    for family, kind in zoo.PAIRS
    if (absent := optional(family, kind))
]


@pytest.mark.parametrize(("family", "kind", "absent"), GIVEN + ABSENT)
def test_dropout_sites_are_transformers(family, kind, absent, tmp_path, monkeypatch):
    rates = {name: (i + 1) / 16 for i, name in enumerate(FAMILIES[family].dropouts)}
    config = {name: value for name, value in (zoo.fixed(family, kind) | rates).items() if name not in absent}
    theirs = zoo_torch.torch_model(family, kind, config)
    theirs.save_pretrained(tmp_path)
    inputs = zoo.inputs_for(family, kind, config, rows=2, shortest=6, length=6)
    expected = of_torch(theirs, inputs, monkeypatch)
    found = of_jaxft(*jaxft.load(str(tmp_path)), inputs, monkeypatch)
    assert len(expected) > 2 * 3  # layers, at least their attention and what follows it
    for site in expected:
        i = next((i for i, other in enumerate(found) if same(other, site)), None)
        assert i is not None, (site[0], site[1].shape)
        del found[i]
    assert not found, [(rate, x.shape) for rate, x in found]
