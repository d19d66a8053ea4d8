"""Tests compile with little optimisation (conftest.py); a user's options give the same numbers."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxft.core import random_keys, tree
from jaxft.models import forward
from jaxft.models.model import make_model
from tests.support import ROOT, tiny, zoo

DROPOUT = {
    "bert": True,
    "deberta-v2": False,
    "modernbert": False,
}  # one of each attention; random bits compile slowly
KIND = "token-classification"


def gradients(family: str) -> dict[str, np.ndarray]:
    """By parameter."""
    config = zoo.fixed(family, KIND)
    model = make_model(config, KIND, "zoo")
    batch = forward.batch_of(model, zoo.inputs_for(family, KIND, config))

    def loss(params: tree.Params, key: jax.Array | None) -> jax.Array:
        return (model.apply(params, batch, key=key)["logits"] ** 2).sum()

    key = random_keys.root_key(0) if DROPOUT[family] else None
    grads = jax.jit(jax.grad(loss))(tiny.random_params(model), key)
    return {f"{family} {name}": np.asarray(x) for name, x in tree.unstack(jax.device_get(grads)).items()}


def every_family() -> dict[str, np.ndarray]:
    return {name: x for family in DROPOUT for name, x in gradients(family).items()}


@pytest.mark.slow
def test_the_users_options_give_the_same_gradients(tmp_path):
    options = {name: x for name, x in os.environ.items() if name != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.programs.test_compile_options", str(tmp_path / "user.npz")]
    subprocess.run(command, env=options, check=True, cwd=ROOT)
    found, right = every_family(), dict(np.load(tmp_path / "user.npz"))
    assert found.keys() == right.keys()
    for family in DROPOUT:
        names = [name for name in right if name.startswith(family)]
        largest = max(np.abs(right[name]).max() for name in names)
        assert largest > 1e-2
        for name in names:
            assert np.abs(found[name] - right[name]).max() <= 1e-5 * largest, name


if __name__ == "__main__":
    np.savez(sys.argv[1], **every_family())
