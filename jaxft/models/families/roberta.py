"""RoBERTa, XLM-R and CamemBERT (Liu et al. 2019, arXiv:1907.11692), and MPNet (Song et al. 2020, arXiv:2004.09297).

RoBERTa is BERT with positions counted from the padding id; MPNet adds one table of relative position biases for all layers.
"""

from dataclasses import replace
from typing import Any

from jaxft.models.families.bert import BERT, bert_fields
from jaxft.models.families.common import CLASSIFIER, CLASSIFY, OWN_HEAD, TAG, classes, heads, two_layers, words
from jaxft.models.families.family import ConfigReader
from jaxft.models.heads import LABELS, POOLER, TOKENS, Part, Transform

_HIDDEN = ("hidden_dropout_prob",)


def _after_padding(read: ConfigReader) -> dict[str, Any]:
    pad = read.integer("pad_token_id", 1, 0)
    return {"position_offset": pad + 1, "zero_position": pad}


ROBERTA = replace(
    BERT,
    prefix="roberta",
    classes=classes("Roberta"),
    heads=heads(
        two_layers("tanh", OWN_HEAD),
        words(Transform("gelu", norm=True), "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head"),
        choose=Part(POOLER, 1, CLASSIFIER, dropout=_HIDDEN, squeeze=True),
    ),
    fields=bert_fields(vocab_size=50265, pad_token_id=1),
    more=_after_padding,
)
XLM_ROBERTA = replace(ROBERTA, classes=classes("XLMRoberta"))
CAMEMBERT = replace(ROBERTA, classes=classes("Camembert"), flax=False)
MPNET = replace(
    ROBERTA,
    prefix="mpnet",
    classes=classes("MPNet"),
    heads=ROBERTA.heads
    | {
        CLASSIFY: {"logits": two_layers("tanh", _HIDDEN)},
        TAG: {"logits": Part(TOKENS, LABELS, CLASSIFIER, dropout=_HIDDEN)},
    },
    fields={k: v for k, v in ROBERTA.fields.items() if k != "type_vocab_size"} | {"vocab_size": ("vocab_size", 30527)},
    names=BERT.names
    | {
        "layer.*.attention.self.query": "encoder.layer.*.attention.attn.q",
        "layer.*.attention.self.key": "encoder.layer.*.attention.attn.k",
        "layer.*.attention.self.value": "encoder.layer.*.attention.attn.v",
        "layer.*.attention.output.dense": "encoder.layer.*.attention.attn.o",
        "layer.*.attention.output.LayerNorm": "encoder.layer.*.attention.LayerNorm",
        "relative_attention_bias": "encoder.relative_attention_bias",
    },
    dropouts={"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    # Hugging Face uses 32 buckets and counts positions from 2, whatever config.json says.
    more=lambda read: {
        "distance_bias": read.integer("relative_attention_num_buckets", 32, 32),
        "position_offset": 2,
        "zero_position": 1,
        "pad_token_id": 1,
    },
    flax=False,
)
