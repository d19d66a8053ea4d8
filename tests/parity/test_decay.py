"""Weight decay acts on the parameters that Hugging Face's Trainer chooses, in every family and head."""

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from transformers import Trainer

from jaxft.config import PlanConfig
from jaxft.models.model import make_model
from jaxft.param_plan import make_plan
from tests.support import zoo, zoo_torch


@pytest.mark.parametrize(("family", "kind"), zoo.PAIRS)
def test_decayed_parameters_are_trainers(family, kind):
    config = zoo.fixed(family, kind)
    theirs = zoo_torch.torch_model(family, kind, config)
    expected = set(Trainer.get_decay_parameter_names(SimpleNamespace(), theirs)) & dict(theirs.named_parameters()).keys()
    model = make_model(config, kind, "zoo")
    settings = make_plan(PlanConfig(), model.abstract(), model.encoder.config.num_layers).settings
    decayed = {model.naming.hf_name(name) for name, setting in settings.items() if setting.weight_decay}
    assert decayed == expected
    assert len(decayed) < len(settings)
