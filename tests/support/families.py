"""Examples, plans and models of every family, for tests of train steps."""

from dataclasses import replace

import numpy as np

from jaxft.config import OptimConfig, cli
from jaxft.core import tree
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder.config import Policy
from jaxft.models.model import Model, make_model
from jaxft.param_plan import ParameterPlan, make_plan
from jaxft.run.adapter_targets import add_adapters, complete_adapters
from tests.support import tiny, zoo

LENGTHS = np.array([7, 3, 12, 1, 9, 5, 10, 2])


def examples(model: Model) -> Examples:
    rng, config = np.random.default_rng(1), model.encoder.config
    total = LENGTHS.sum()
    tokens = {
        "input_ids": rng.integers(0, config.vocab_size, total).astype(np.int32),
        "token_type_ids": rng.integers(0, max(1, config.type_vocab_size), total).astype(np.int32),
    }
    return Examples(tokens, np.concatenate([[0], np.cumsum(LENGTHS)]), {})


KIND, LABELS = "text-classification", ("a", "b", "c")


STAGE = 1  # the step that tests look at with gradual unfreezing: by then the top layer is trained


PLANS = {
    "lora": {"preset": "lora", "lora": {"rank": 3, "targets": "all"}},
    "dora": {"preset": "lora", "lora": {"rank": 3, "targets": "all", "dora": True}},
    "adapters": {"preset": "adapters", "adapters": {"size": 5}},
    "gradual": {"preset": ["gradual", "layerwise_decay"], "unfreeze_every": STAGE},
}


SETTINGS = OptimConfig(name="sgd", learning_rate=0.05, warmup=0, schedule="constant", weight_decay=0.1)


def planned(family: str, plan: dict) -> tuple[Model, tree.Params, ParameterPlan]:
    """A classifier of a family, its parameters with the adapters that a plan asks for, and the plan."""
    config = zoo.fixed(family, KIND) | {"id2label": {str(i): name for i, name in enumerate(LABELS)}}
    model = make_model(config, KIND, "zoo", policy=Policy(unroll=1))  # traced once a stack; programs/test_loops.py
    model = replace(model, rates=model.override(dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0))
    settings = cli.parse({"model": {"path": "zoo"}, "plan": plan}, [], origin="test")
    model, params = add_adapters(model, tiny.random_params(model), settings)
    made = make_plan(settings.plan, params, model.encoder.config.parameter_layers, total_steps=100)
    return *complete_adapters(model, params, made, 0), made
