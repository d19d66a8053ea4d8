"""Models of some layers of a checkpoint are transformers' models without the others, and transformers loads them."""
# ruff: noqa: E402

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import jaxft
from tests.support import zoo, zoo_torch

KIND = "text-classification"
LAYERS = [0, 2, 3]


def layers_of(model) -> tuple[object, str, torch.nn.ModuleList]:
    """The module that holds the layers, and its attribute."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ModuleList) and name in ("layer", "layers"):
                return module, name, child
    raise AssertionError("no layers")


@pytest.mark.parametrize("family", [x for x in zoo.families() if x.id != "albert"])
def test_a_model_of_some_layers_is_transformers_without_the_others(family, tmp_path):
    config = zoo.fixed(family, KIND)
    for name in ("num_hidden_layers", "n_layers"):
        if name in config:
            config[name] = 5
    config.pop("layer_types", None)  # ModernBERT's local layers follow from their numbers
    theirs = zoo_torch.torch_model(family, KIND, config)
    theirs.save_pretrained(tmp_path / "whole")
    parent, name, whole = layers_of(theirs)
    assert len(whole) == 5
    setattr(parent, name, torch.nn.ModuleList([whole[i] for i in LAYERS]))
    inputs = zoo.inputs_for(family, KIND, config)
    expected = zoo_torch.run_torch(theirs, inputs)["logits"]

    model, params = jaxft.load(str(tmp_path / "whole"), layers=LAYERS)
    jaxft.save(model, params, tmp_path / "student")
    loaded = zoo_torch.from_pretrained(type(theirs), tmp_path / "student")
    for found in (jaxft.forward(model, params, inputs)["logits"], zoo_torch.run_torch(loaded, inputs)["logits"]):
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
