"""ELECTRA, discriminator and generator (Clark et al. 2020, arXiv:2003.10555)."""

from dataclasses import replace
from typing import Any

from jaxft.models.families.bert import BERT, bert_fields
from jaxft.models.families.common import BERT_ACT, OWN_HEAD, PRETRAIN, classes, heads, two_layers, words
from jaxft.models.families.family import ConfigReader
from jaxft.models.heads import FIRST, TOKENS, Field, Part, Transform


def _factorised(read: ConfigReader) -> dict[str, Any]:
    same = read.integer("embedding_size", 128) == read.integer("hidden_size", 256)
    return {"projection": "none" if same else "after_norm"}


_WORDS = words(
    Transform("gelu", narrow=True, norm=True),
    "generator_predictions.dense",
    "generator_predictions.LayerNorm",
    "generator_lm_head",
)
_REPLACED = Part(
    TOKENS,
    1,
    {"transform.dense": "discriminator_predictions.dense", "classifier": "discriminator_predictions.dense_prediction"},
    Transform(BERT_ACT),
    squeeze=True,
)
_CHOOSE = Part(
    FIRST,
    1,
    {"transform.dense": "sequence_summary.summary", "classifier": "classifier"},
    Transform(Field("summary_activation", "gelu")),
    input_dropout=("summary_first_dropout",),
    dropout=("summary_last_dropout",),
    squeeze=True,
)
ELECTRA = replace(
    BERT,
    prefix="electra",
    classes=classes("Electra", PRETRAIN),
    heads=heads(two_layers("gelu", OWN_HEAD), _WORDS, choose=_CHOOSE) | {PRETRAIN: {"logits": _REPLACED}},
    fields=bert_fields(hidden_size=256, num_heads=4, intermediate_size=1024) | {"embedding_size": ("embedding_size", 128)},
    names={"embeddings": "embeddings", "embeddings.projection": "embeddings_project", "layer.*": "encoder.layer.*"},
    dropouts=BERT.dropouts | {"summary_first_dropout": None, "summary_last_dropout": 0.1},
    more=_factorised,
    pooler=False,
)
