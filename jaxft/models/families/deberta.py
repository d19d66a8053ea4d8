"""DeBERTa-v2 and v3 (He et al. 2021, arXiv:2006.03654 and arXiv:2111.09543): disentangled attention and a convolution."""

from dataclasses import replace
from typing import Any

from jaxft.core.errors import UserError
from jaxft.models.encoder.config import Convolution1D, Relative
from jaxft.models.families.bert import BERT, BERT_WORDS, bert_fields
from jaxft.models.families.common import BERT_ACT, CLASSIFIER, FILL, classes, heads
from jaxft.models.families.family import ConfigReader, Family
from jaxft.models.heads import FIRST, LABELS, TOKENS, VOCABULARY, Field, Part, Transform

_CLASSIFY = Part(
    FIRST,
    LABELS,
    {"transform.dense": "pooler.dense", "classifier": "classifier"},
    Transform(Field("pooler_hidden_act", "gelu")),
    input_dropout=("pooler_dropout",),
    dropout=("cls_dropout", "hidden_dropout_prob"),
)
_LM_HEAD = "lm_predictions.lm_head"
# Always tied, and without a copy of the word embeddings in the file.
_NEW_WORDS = Part(
    TOKENS,
    VOCABULARY,
    {"transform.dense": f"{_LM_HEAD}.dense", "transform.LayerNorm": f"{_LM_HEAD}.LayerNorm", "decoder": _LM_HEAD},
    Transform(BERT_ACT, norm=True),
)


def _more(read: ConfigReader) -> dict[str, Any]:
    hidden = read.integer("hidden_size", 1536)
    width = read.integer("embedding_size", hidden)
    terms = read.get("pos_att_type", [])
    terms = [t.strip() for t in terms.lower().split("|")] if isinstance(terms, str) else read.texts("pos_att_type", [])
    values: dict[str, Any] = {
        "embedding_size": width,
        "projection": "none" if width == hidden else "before_norm",
        "absolute_positions": bool(read.get("position_biased_input", True)),
        "masked_embeddings": True,
        "attention_terms": 1 + ("c2p" in terms) + ("p2c" in terms),
        "relative_norm": "layer_norm" in str(read.get("norm_rel_ebd", "none")).lower(),
    }
    read.choice("pooler_hidden_size", hidden, (hidden,))
    head_size = hidden // read.integer("num_attention_heads", 24)
    read.choice("attention_head_size", head_size, (head_size,))
    if read.get("relative_attention", False):
        longest = read.integer("max_relative_positions", -1, -1)
        values["relative"] = Relative(
            terms=tuple(t for t in ("c2p", "p2c") if t in terms),
            buckets=read.integer("position_buckets", -1, -1),
            longest=longest if longest >= 1 else read.integer("max_position_embeddings", 512),
            share_keys=bool(read.get("share_att_key", False)),
        )
    if size := read.integer("conv_kernel_size", 0, 0):
        groups = read.integer("conv_groups", 1)
        if size % 2 == 0 or hidden % groups:
            raise UserError(
                f"{read.where}: conv_kernel_size {size} with conv_groups {groups}: the size must be odd and the groups "
                f"divide hidden_size {hidden}"
            )
        values["convolution"] = Convolution1D(size, groups, read.activation("conv_act", "tanh"))
    return values


DEBERTA_V2 = Family(
    prefix="deberta",
    classes=classes("DebertaV2"),
    heads=heads(
        _CLASSIFY,
        replace(BERT_WORDS, transform=Transform(BERT_ACT, narrow=True, norm=True)),
        tag=Part(TOKENS, LABELS, CLASSIFIER, dropout=("hidden_dropout_prob",)),
    ),
    variants={("legacy", False): {FILL: {"logits": _NEW_WORDS}}},
    fields=bert_fields(
        vocab_size=128100,
        hidden_size=1536,
        num_layers=24,
        num_heads=24,
        intermediate_size=6144,
        type_vocab_size=0,
        layer_norm_eps=1e-7,
    ),
    names={
        "embeddings": "embeddings",
        "embeddings.projection": "embeddings.embed_proj",
        "layer.*": "encoder.layer.*",
        "layer.*.attention.self.query": "encoder.layer.*.attention.self.query_proj",
        "layer.*.attention.self.key": "encoder.layer.*.attention.self.key_proj",
        "layer.*.attention.self.value": "encoder.layer.*.attention.self.value_proj",
        "layer.*.attention.self.position_key": "encoder.layer.*.attention.self.pos_key_proj",
        "layer.*.attention.self.position_query": "encoder.layer.*.attention.self.pos_query_proj",
        "layer.0.convolution": "encoder.conv.conv",
        "layer.0.convolution.LayerNorm": "encoder.conv.LayerNorm",
        "relative_embeddings": "encoder.rel_embeddings",
        "relative_norm": "encoder.LayerNorm",
    },
    dropouts={"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "pooler_dropout": 0.0, "cls_dropout": None},
    more=_more,
    pooler=False,
    # v3 checkpoints contain a position table that their model does not have.
    ignored=(*BERT.ignored, "embeddings.position_embeddings.weight"),
    flax=False,
)
