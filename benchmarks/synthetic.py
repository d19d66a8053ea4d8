"""Runs without files: a BERT of a given size with random weights, token ids of given lengths, no tokenizer, no hub.

A step's time does not depend on its words, so these batches cost what real batches of the same lengths cost.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from jaxft.config import Config
from jaxft.core import random_keys
from jaxft.core.ragged import offsets_of
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder.encoder import Policy
from jaxft.models.model import Model, make_model
from jaxft.parallel import sharding
from jaxft.run.assembly import apply_plan, assemble
from jaxft.run.setup import Run, train_sampler
from jaxft.tasks.task import Split
from jaxft.tasks.text_classification import TextClassification


@dataclass(frozen=True)
class Size:
    """The size of an encoder, whose heads have a width of 64 (32 in MiniLM)."""

    layers: int
    hidden: int
    heads: int

    def config(self, labels: int = 2) -> dict[str, Any]:
        """config.json; everything else is Hugging Face's default, such as dropout 0.1."""
        return {
            "model_type": "bert",
            "architectures": ["BertForSequenceClassification"],
            "vocab_size": 30522,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.hidden,
            "max_position_embeddings": 512,
            "id2label": {str(i): f"label {i}" for i in range(labels)},
        }


SIZES = {"tiny": Size(2, 64, 2), "minilm": Size(6, 384, 12), "base": Size(12, 768, 12), "large": Size(24, 1024, 16)}


def glue_lengths(count: int, longest: int = 128, seed: int = 0) -> np.ndarray:
    """Lengths like those of GLUE's pairs of sentences: log-normal, with a median of 38 and 5 % cut at 128, scaled to
    `longest`."""
    drawn = np.random.default_rng(seed).lognormal(np.log(38), 0.7, count) * (longest / 128)
    return np.clip(np.round(drawn), 6, longest).astype(np.int64)


def model_of(size: str, dtype: str = "float32", unroll: int | None = None) -> Model:
    """A text classifier, without parameters."""
    model = make_model(SIZES[size].config(), "text-classification", size)
    return replace(model, policy=Policy(dtype, unroll))


def run_of(
    size: str, lengths: np.ndarray, config: Config, devices: list[Any] | None = None, *, abstract: bool = False
) -> Run:
    """A `Run` as `make_run` makes it of a config.

    Args:
      size: one of SIZES.
      lengths: tokens of each example.
      config: plan, optimizer, batch size, layout, dtype, dropout rates; its paths are not read.
      devices: as in `make_run`.
      abstract: parameters are shapes only, for programs that are compiled but not run.
    """
    model = model_of(size, config.train.dtype, config.runtime.unroll)
    mesh = sharding.make_mesh(config.mesh, devices)
    params = model.abstract() if abstract else jax.tree.map(np.asarray, jax.jit(model.init)(random_keys.root_key(0)))
    assembled = assemble(model, params, None, config, mesh)
    examples = examples_of(lengths, SIZES[size].config()["vocab_size"], config.seed)
    steps_per_epoch = -(-len(examples) // config.train.batch_size)
    total = config.train.max_steps or steps_per_epoch
    model, params, plan = apply_plan(assembled, config, steps_per_epoch=steps_per_epoch, total_steps=total)
    return Run(
        config=config,
        model=model,
        params=params,
        tokenizer=None,
        task=TextClassification(("label 0", "label 1")),
        data={"train": Split(None, examples, "synthetic")},
        mesh=mesh,
        plan=plan,
        sampler=train_sampler(examples, config, mesh, epochs=-(-total // steps_per_epoch)),
        total_steps=total,
    )


def examples_of(lengths: np.ndarray, vocabulary: int, seed: int = 0) -> Examples:
    """Random words, whose frequencies follow Zipf's law, and random labels."""
    rng, offsets = np.random.default_rng(seed), offsets_of(lengths)
    ids = (999 + np.exp(rng.uniform(0, np.log(vocabulary - 999), offsets[-1]))).astype(np.int32)
    ids[offsets[:-1]], ids[offsets[1:] - 1] = 101, 102
    tokens = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    return Examples(tokens, offsets, {"labels": rng.integers(0, 2, len(lengths), dtype=np.int32)})
