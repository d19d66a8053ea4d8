"""FLOPs of forward passes and train steps, counted by the compiler on a model that matrix products dominate."""

from functools import partial
from typing import Any

import jax
import numpy as np

from jaxft import optim
from jaxft.config import MeshConfig, OptimConfig, PlanConfig
from jaxft.core import random_keys
from jaxft.data.batching.batch_sampler import Shape, make_sampler
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder.config import Policy
from jaxft.models.model import make_model
from jaxft.parallel import sharding
from jaxft.param_plan import make_plan
from jaxft.run.loss import make_loss
from jaxft.step.compilation import abstract_batch
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import eval_step, init_state, train_step
from jaxft.tasks.text_classification import TextClassification

DEPTH, ROWS, LENGTH = 6, 8, 32


CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 64,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": LENGTH,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


class Costs:
    """FLOPs of compiled forward passes and train steps on one batch shape."""

    def __init__(self, config: dict[str, Any] = CONFIG) -> None:
        self.model = make_model(config, "text-classification", "test", policy=Policy(unroll=config["num_hidden_layers"]))
        self.params = jax.eval_shape(self.model.init, random_keys.root_key(0))
        self.task = TextClassification(("a", "b"))
        self.loss = make_loss(self.model, self.task)
        tokens = np.ones(LENGTH * ROWS, np.int32)
        offsets = np.arange(ROWS + 1) * LENGTH
        self.examples = Examples(
            {"input_ids": tokens, "token_type_ids": tokens}, offsets, {"labels": np.zeros(ROWS, np.int32)}
        )
        self.place = sharding.batch_sharding(sharding.make_mesh(MeshConfig(1)))

    def batch(self, rows: int, parts: int = 1):
        sampler = make_sampler(
            self.examples.lengths, batch_size=ROWS, max_length=LENGTH, layout="pad", seed=0, micro_batches=parts
        )
        return abstract_batch(sampler, Shape(rows, LENGTH, 1), self.examples, self.place)

    def forward(self, rows: int) -> float:
        step = jax.jit(partial(eval_step, loss_fn=self.loss, summarise=self.task.summarise))
        return flops(step.lower(Parameters(self.params), self.batch(rows)))

    def train(self, preset: dict, *, clip: float | None = 1.0, parts: int = 1, step: int = 0) -> float:
        plan = make_plan(PlanConfig(**preset), self.params, DEPTH)
        optimizer = optim.make_optimizer(OptimConfig(clip=clip), plan, 10)
        trainable, frozen = plan.split(self.params, step)
        hyper = optim.hyperparameters(OptimConfig(clip=clip))
        state = jax.eval_shape(lambda p: init_state(p, optimizer, random_keys.root_key(0), hyper), trainable)
        program = jax.jit(partial(train_step, loss_fn=self.loss, optimizer=optimizer))
        return flops(program.lower(state, Parameters(frozen), self.batch(ROWS, parts)))


def flops(lowered) -> float:
    return lowered.compile().cost_analysis()["flops"]
