"""Several named heads after one pass of the encoder."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxft.core import random_keys
from jaxft.models import forward
from jaxft.models.encoder.encoder import Encoder
from jaxft.models.model import MAIN, make_model
from tests.support import tiny, zoo


@pytest.fixture
def passes(monkeypatch):
    """A count of the encoder's passes."""
    count, apply = [], Encoder.apply

    def counted(self, *parts, **more):
        count.append(self)
        return apply(self, *parts, **more)

    monkeypatch.setattr(Encoder, "apply", counted)
    return count


def test_two_heads_share_a_pass_of_the_encoder(passes):
    """Each gives what it gives alone; the parameters of both have names, and their dropout keys of their own."""
    config = tiny.CONFIG | {
        "num_hidden_layers": 1,
        "classifier_dropout": 0.5,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    alone = {name: make_model(config, name, "tiny") for name in ("text-classification", "token-classification")}
    text, tags = (model.heads[MAIN] for model in alone.values())
    model = replace(alone["text-classification"], heads={MAIN: text, "tags": tags, "again": text})
    params = tiny.random_params(model)
    params["heads"]["again"] = params["heads"][MAIN]
    batch = forward.batch_of(model, zoo.inputs_for("bert", "text-classification", config, rows=2, shortest=4, length=8))

    @jax.jit
    def both(params, batch):
        return model.apply_heads(params, batch, [MAIN, "tags"])

    outputs = both(params, batch)
    assert len(passes) == 1
    for name in (MAIN, "tags"):
        single = model.apply(params, batch, head=name)["logits"]
        np.testing.assert_allclose(outputs[name]["logits"], single, rtol=1e-5, atol=1e-6)
    assert outputs["tags"]["logits"].shape == (*batch["input_ids"].shape, tags.num_labels)
    drawn = model.apply_heads(params, batch, [MAIN, "again"], key=random_keys.root_key(0))
    assert not np.array_equal(drawn[MAIN]["logits"], drawn["again"]["logits"])
