"""BERT (Devlin et al. 2019, arXiv:1810.04805)."""

from typing import Any

from jaxft.models.families.common import BERT_ACT, CLASSIFIER, NEXT, OWN_HEAD, PRETRAIN, classes, heads, inside, words
from jaxft.models.families.family import Family
from jaxft.models.heads import LABELS, POOLER, Part, Transform

_CLS = "cls.predictions"
BERT_WORDS = words(
    Transform(BERT_ACT, norm=True), f"{_CLS}.transform.dense", f"{_CLS}.transform.LayerNorm", f"{_CLS}.decoder", _CLS
)
_NEXT = Part(POOLER, 2, {"classifier": "cls.seq_relationship"})
BERT = Family(
    prefix="bert",
    classes=classes("Bert", NEXT, PRETRAIN),
    heads=heads(Part(POOLER, LABELS, CLASSIFIER, dropout=OWN_HEAD), BERT_WORDS)
    | {
        NEXT: {"logits": _NEXT},
        PRETRAIN: {
            "prediction_logits": inside(BERT_WORDS, "predictions"),
            "seq_relationship_logits": inside(_NEXT, "seq_relationship"),
        },
    },
    fields={
        "vocab_size": ("vocab_size", 30522),
        "hidden_size": ("hidden_size", 768),
        "num_layers": ("num_hidden_layers", 12),
        "num_heads": ("num_attention_heads", 12),
        "intermediate_size": ("intermediate_size", 3072),
        "max_positions": ("max_position_embeddings", 512),
        "type_vocab_size": ("type_vocab_size", 2),
        "activation": ("hidden_act", "gelu"),
        "layer_norm_eps": ("layer_norm_eps", 1e-12),
        "initializer_range": ("initializer_range", 0.02),
        "pad_token_id": ("pad_token_id", 0),
    },
    names={"embeddings": "embeddings", "layer.*": "encoder.layer.*", "pooler": "pooler"},
    dropouts={"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "classifier_dropout": None},
)


def bert_fields(**defaults: Any) -> dict[str, tuple[str, Any]]:
    """BERT's `fields`, with other defaults for some of them."""
    return BERT.fields | {name: (BERT.fields[name][0], default) for name, default in defaults.items()}
