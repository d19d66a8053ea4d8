"""Hidden states and attentions of the encoder are transformers', under the same names."""
# ruff: noqa: E402

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import jaxft
from jaxft.models import forward
from jaxft.models.families import FAMILIES
from tests.support import zoo, zoo_torch

KIND = "feature-extraction"
OUTPUTS = ("hidden_states", "attentions")


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_and_attentions_of_every_layer_are_transformers(family, tmp_path):
    config = zoo.fixed(family, KIND)
    theirs = zoo_torch.torch_model(family, KIND, config)
    theirs.save_pretrained(tmp_path)
    model, params = jaxft.load(str(tmp_path))
    inputs = zoo.inputs_for(family, KIND, config)
    batch, real = forward.batch_of(model, inputs), inputs["attention_mask"] == 1

    apply = jax.jit(lambda p: model.encoder.apply(p, batch, rates=model.rates, outputs=OUTPUTS))
    ours = {name: np.asarray(x) for name, x in apply(params["encoder"]).items()}
    with torch.no_grad():
        names = {f"output_{name}": True for name in OUTPUTS}
        expected = theirs(**{name: torch.tensor(x) for name, x in inputs.items()}, **names)
    for name in OUTPUTS:
        right = np.stack([x.numpy() for x in expected[name]])
        assert ours[name].shape == right.shape
        error = np.abs(ours[name] - right)
        error = error[:, real] if name == "hidden_states" else error.swapaxes(2, 3)[:, real]
        assert error.max() <= 1e-5 * np.abs(right).max(), name
    last = ours["last_hidden_state"]  # the compiler may compute it twice
    assert np.abs(ours["hidden_states"][-1] - last).max() <= 1e-6 * np.abs(last).max()
