"""RoBERTa, XLM-R, CamemBERT (Liu et al. 2019, arXiv:1907.11692): BERT with positions counted from the padding id."""

from dataclasses import replace
from typing import Any

from jaxft.models.families.bert import BERT
from jaxft.models.families.common import (
    ANSWER,
    CHOOSE,
    CLASSIFIER,
    CLASSIFY,
    FEATURES,
    FILL,
    OWN_HEAD,
    TAG,
    classes,
    two_layers,
    words,
)
from jaxft.models.families.family import ConfigReader
from jaxft.models.heads import POOLER, Part, Transform

_ROBERTA_WORDS = words(Transform("gelu", norm=True), "lm_head", "lm_head.decoder", "lm_head", "layer_norm")


def _after_padding(read: ConfigReader) -> dict[str, Any]:
    pad = read.integer("pad_token_id", 1, 0)
    return {"position_offset": pad + 1, "zero_position": pad}


ROBERTA = replace(
    BERT,
    prefix="roberta",
    classes=classes("Roberta"),
    heads={
        FEATURES: {},
        CLASSIFY: {"logits": two_layers("tanh", OWN_HEAD)},
        TAG: BERT.heads[TAG],
        ANSWER: BERT.heads[ANSWER],
        CHOOSE: {"logits": Part(POOLER, 1, CLASSIFIER, dropout=("hidden_dropout_prob",), squeeze=True)},
        FILL: {"logits": _ROBERTA_WORDS},
    },
    fields=BERT.fields | {"vocab_size": ("vocab_size", 50265), "pad_token_id": ("pad_token_id", 1)},
    more=_after_padding,
)
XLM_ROBERTA = replace(ROBERTA, classes=classes("XLMRoberta"))
CAMEMBERT = replace(ROBERTA, classes=classes("Camembert"), flax=False)
