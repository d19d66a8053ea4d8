"""The sections `model` and `vocabulary`: which encoder a run starts from, and which words it gets."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from jaxft.config.limits import Limit, PathText, PositiveInt, Rate, Section
from jaxft.config.used_by import PLAN_AND_EVALUATE
from jaxft.core.errors import UserError

ASCENDING = Limit("layers in ascending order, such as [0, 2, 4]", lambda x: sorted({*x}) == x != [] and x[0] >= 0)
LAYER_RULE = Limit(
    "a list such as [0, 2, 4], or first, last, every or uniform with a number, such as uniform 6",
    lambda x: re.fullmatch(r"(first|last|every|uniform) [1-9]\d{0,5}", x) is not None,
)


@dataclass(frozen=True)
class ModelConfig(Section):
    """The pretrained encoder."""

    path: PathText | None = None
    """Hub id or directory of the encoder; package:NAME/SUBDIR names weights inside an installed Python package."""
    revision: Annotated[str | None, PLAN_AND_EVALUATE] = None
    """Branch, tag or commit of a hub id."""
    dropout: Rate | None = None
    """Dropout rate of hidden states, from 0 to below 1; null keeps the checkpoint's."""
    attention_dropout: Rate | None = None
    """Dropout rate of attention probabilities, from 0 to below 1; null keeps the checkpoint's."""
    attention_dropout_kind: Literal["probabilities", "keys"] = "probabilities"
    """What dropout in attention drops: probabilities drops each probability on its own, as BERT does; keys drops a key for
    all queries of one head and example. keys changes the noise but not its mean, needs few random numbers, and is supported
    by the fused attention of accelerators."""
    classifier_dropout: Rate | None = None
    """Dropout rate before the head, from 0 to below 1; null keeps the checkpoint's."""
    num_layers: PositiveInt | None = None
    """Number of layers to keep, counted from the bottom; null keeps all."""
    layers: Annotated[list[int], ASCENDING] | Annotated[str, LAYER_RULE] | None = None
    """Layers to keep, counted from 0, such as [0, 2, 4], or a rule: first 3, last 3, every 2, or uniform 6, which spreads 6
    layers from the first to the last; null keeps all."""
    from_scratch: bool = False
    """Start from random weights; only config.json and the tokenizer are read from the checkpoint."""
    config: dict[str, Any] = field(default_factory=dict)
    """With from_scratch: other values for fields of config.json, such as {hidden_size: 192, num_attention_heads: 6}; another
    model_type makes it a model of that family."""
    embeddings: PathText | None = None
    """With from_scratch: directory or hub id of a model with the same vocabulary, whose embeddings are copied."""

    def check(self, prefix: str) -> None:
        """Layers are chosen once, and only random weights have other sizes."""
        if self.num_layers and self.layers is not None:
            raise UserError(f"{prefix}num_layers and {prefix}layers exclude each other: leave one of them at null")
        for name in ("config", "embeddings"):
            if getattr(self, name) and not self.from_scratch:
                why = "a checkpoint has the sizes of its config.json" if name == "config" else "a checkpoint has its own"
                raise UserError(f"{prefix}{name} needs {prefix}from_scratch true: {why}")


@dataclass(frozen=True)
class VocabularyConfig(Section):
    """New words for the tokenizer and the model."""

    words: list[str] | None = None
    """Words to add. The extended tokenizer is saved with the model."""
    file: PathText | None = None
    """File of words to add, one per line."""
    most_frequent: PositiveInt | None = None
    """Number of words to add: the most frequent ones in the training texts that split into `min_pieces` pieces or more."""
    min_pieces: Annotated[int, Limit("at least 2", lambda x: x >= 2)] = 3
    """Smallest number of pieces of a word that most_frequent adds."""
    tokenizer: PathText | None = None
    """Directory or hub id of a tokenizer that replaces the model's; words in both vocabularies keep their embeddings."""
    initialise: Literal["mean", "gaussian", "random"] = "mean"
    """Initial embedding of a new word: mean takes the mean over its pieces; gaussian draws from a Gaussian with the mean and
    covariance of the embedding table (Hewitt 2021); random draws as the model's family initialises its own embeddings."""
