"""Parameters that a checkpoint lacks have the initial distributions of Hugging Face, in every family."""
# ruff: noqa: E402

import jax
import numpy as np
import pytest
from scipy import stats

from jaxft.core import random_keys

torch = pytest.importorskip("torch")

import transformers

from jaxft.core import tree
from jaxft.models.families import FAMILIES
from jaxft.models.model import make_model
from tests.support import zoo, zoo_torch


def fresh(family: str, kind: str, config: dict) -> dict[str, np.ndarray]:
    """Hugging Face's parameters before any training."""
    torch.manual_seed(0)
    config_class = getattr(transformers, f"{zoo_torch.NAMES[family]}Config")
    model = getattr(transformers, FAMILIES[family].classes[kind])(config_class(**config))
    return {name: x.detach().numpy() for name, x in model.named_parameters(remove_duplicate=False)}


HEADS = ("text-classification", "fill-mask")
CASES = [  # alternating; the other head of each family is slow
    pytest.param(family, kind, marks=() if (i + j) % 2 else pytest.mark.slow)
    for i, family in enumerate(FAMILIES)
    for j, kind in enumerate(HEADS)
]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_initial_parameters_have_transformers_distributions(family, kind):
    config = zoo.fixed(family, kind) | {"initializer_range": 0.07}
    model = make_model(config, kind, "zoo")
    ours = tree.unstack(jax.tree.map(np.asarray, jax.jit(model.init)(random_keys.root_key(0))))
    theirs = fresh(family, kind, config)
    for name, x in ours.items():
        y = theirs[model.naming.hf_name(name)]
        y = y.T if name.endswith(".kernel") else y
        assert x.shape == y.shape, name
        if len(np.unique(y)) == 1:
            assert np.array_equal(x, y), name
            continue
        assert np.array_equal((x == 0).all(-1), (y == 0).all(-1)), name  # the rows of padding
        assert stats.ks_2samp(x.ravel(), y.ravel()).pvalue > 1e-4, name


def test_sinusoids_of_distilbert_are_transformers():
    name, kind = "embeddings.position_embeddings.weight", "feature-extraction"
    for dim in (24, 30):
        config = zoo.fixed("distilbert", kind) | {"sinusoidal_pos_embds": True, "dim": dim, "n_heads": 3}
        params = make_model(config, kind, "zoo").init(random_keys.root_key(0))
        table = params["encoder"]["embeddings"]["position_embeddings"]["embedding"]
        assert np.array_equal(table, fresh("distilbert", kind, config)[name])
