"""ELECTRA, discriminator and generator (Clark et al. 2020, arXiv:2003.10555)."""

from dataclasses import replace
from typing import Any

from jaxft.models.families.bert import BERT
from jaxft.models.families.common import (
    ANSWER,
    BERT_ACT,
    CHOOSE,
    CLASSIFY,
    FEATURES,
    FILL,
    OWN_HEAD,
    PRETRAIN,
    TAG,
    classes,
    two_layers,
    words,
)
from jaxft.models.families.family import ConfigReader
from jaxft.models.heads import FIRST, TOKENS, Field, Part, Transform


def _factorised(read: ConfigReader) -> dict[str, Any]:
    same = read.integer("embedding_size", 128) == read.integer("hidden_size", 256)
    return {"projection": "none" if same else "after_norm"}


_ELECTRA_CHOOSE = Part(
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
    heads={
        FEATURES: {},
        CLASSIFY: {"logits": two_layers("gelu", OWN_HEAD)},
        TAG: BERT.heads[TAG],
        ANSWER: BERT.heads[ANSWER],
        CHOOSE: {"logits": _ELECTRA_CHOOSE},
        FILL: {
            "logits": words(Transform("gelu", True, True), "generator_predictions", "generator_lm_head", "generator_lm_head")
        },
        PRETRAIN: {
            "logits": Part(
                TOKENS,
                1,
                {
                    "transform.dense": "discriminator_predictions.dense",
                    "classifier": "discriminator_predictions.dense_prediction",
                },
                Transform(BERT_ACT),
                squeeze=True,
            )
        },
    },
    fields=BERT.fields
    | {
        "embedding_size": ("embedding_size", 128),
        "hidden_size": ("hidden_size", 256),
        "num_heads": ("num_attention_heads", 4),
        "intermediate_size": ("intermediate_size", 1024),
    },
    names={"embeddings": "embeddings", "embeddings.projection": "embeddings_project", "layer.*": "encoder.layer.*"},
    dropouts=BERT.dropouts | {"summary_first_dropout": None, "summary_last_dropout": 0.1},
    more=_factorised,
    pooler=False,
)
