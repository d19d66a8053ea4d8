"""MPNet (Song et al. 2020, arXiv:2004.09297): one table of relative position biases for all layers."""

from dataclasses import replace
from typing import Any

from jaxft.models.families.common import CLASSIFIER, CLASSIFY, TAG, classes, two_layers
from jaxft.models.families.family import ConfigReader
from jaxft.models.families.roberta import ROBERTA
from jaxft.models.heads import LABELS, TOKENS, Part


def _mpnet(read: ConfigReader) -> dict[str, Any]:
    # Hugging Face uses 32 buckets and counts positions from 2, whatever config.json says.
    return {
        "distance_bias": read.integer("relative_attention_num_buckets", 32, 32),
        "position_offset": 2,
        "zero_position": 1,
        "pad_token_id": 1,
    }


MPNET = replace(
    ROBERTA,
    prefix="mpnet",
    classes=classes("MPNet"),
    heads=ROBERTA.heads
    | {
        CLASSIFY: {"logits": two_layers("tanh", ("hidden_dropout_prob",))},
        TAG: {"logits": Part(TOKENS, LABELS, CLASSIFIER, dropout=("hidden_dropout_prob",))},
    },
    fields={k: v for k, v in ROBERTA.fields.items() if k != "type_vocab_size"} | {"vocab_size": ("vocab_size", 30527)},
    names={
        "embeddings": "embeddings",
        "layer.*": "encoder.layer.*",
        "layer.*.attention.self.query": "encoder.layer.*.attention.attn.q",
        "layer.*.attention.self.key": "encoder.layer.*.attention.attn.k",
        "layer.*.attention.self.value": "encoder.layer.*.attention.attn.v",
        "layer.*.attention.output.dense": "encoder.layer.*.attention.attn.o",
        "layer.*.attention.output.LayerNorm": "encoder.layer.*.attention.LayerNorm",
        "relative_attention_bias": "encoder.relative_attention_bias",
        "pooler": "pooler",
    },
    dropouts={"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    more=_mpnet,
    flax=False,
)
