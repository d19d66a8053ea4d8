"""A model with new words, in every family, is what transformers' resize_token_embeddings makes of it."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import transformers

import jaxft
from jaxft.models.families import FAMILIES
from jaxft.models.vocab_resize import Sources, split_rows, with_vocabulary
from tests.support.zoo import fixed
from tests.support.zoo_torch import from_pretrained, torch_model

NEW = 4


@pytest.mark.parametrize("family", [name for name in FAMILIES if "fill-mask" in FAMILIES[name].classes])
def test_the_parameters_are_those_of_a_resized_model(family, tmp_path):
    config = fixed(family, "fill-mask")
    theirs = torch_model(family, "fill-mask", config)
    theirs.save_pretrained(tmp_path / "old")
    size = config["vocab_size"]
    sources = Sources(np.r_[np.arange(size), -np.ones(NEW, int)], {size + i: [i, 7, i] for i in range(NEW)}, {})
    model, params = with_vocabulary(*jaxft.load(str(tmp_path / "old"), "fill-mask"), sources, "mean", 0)
    jaxft.save(*split_rows(model, params, NEW), tmp_path / "new")

    shapes = {name: x.shape for name, x in theirs.state_dict().items()}
    theirs.resize_token_embeddings(size + NEW, mean_resizing=False)
    expected = {name: x.numpy().copy() for name, x in theirs.state_dict().items()}
    grown = {name for name, x in expected.items() if x.shape != shapes[name]}
    assert grown
    for name in grown:
        expected[name][size:] = [expected[name][[i, 7, i]].mean(0) for i in range(NEW)]
    loaded = from_pretrained(type(theirs), tmp_path / "new")
    assert loaded.config.vocab_size == size + NEW
    found = {name: x.numpy() for name, x in loaded.state_dict().items()}
    assert found.keys() == expected.keys()
    for name in expected.keys() - model.naming.unused_biases().keys():  # which transformers does not use
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-7, err_msg=name)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "new").vocab_size == size + NEW
