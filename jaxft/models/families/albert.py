"""ALBERT (Lan et al. 2020, arXiv:1909.11942): shared layers, factorised embeddings."""

from dataclasses import replace

from jaxft.models.encoder.config import DropoutSite
from jaxft.models.families.bert import BERT, bert_fields
from jaxft.models.families.common import CLASSIFIER, PRETRAIN, classes, heads, inside, words
from jaxft.models.families.family import Family
from jaxft.models.heads import LABELS, POOLER, TOKENS, Field, Part, Transform

_WORDS = words(
    Transform(Field("hidden_act", "gelu_new"), narrow=True, norm=True),
    "predictions.dense",
    "predictions.LayerNorm",
    "predictions.decoder",
    "predictions",
)
_LAYER = "encoder.albert_layer_groups.*.albert_layers.*"
_CLASSIFY = Part(POOLER, LABELS, CLASSIFIER, dropout=("classifier_dropout_prob", "hidden_dropout_prob"))
ALBERT = Family(
    prefix="albert",
    classes=classes("Albert", PRETRAIN),
    heads=heads(_CLASSIFY, _WORDS, tag=replace(_CLASSIFY, source=TOKENS))
    | {
        PRETRAIN: {
            "prediction_logits": inside(_WORDS, "predictions"),
            "sop_logits": inside(replace(_CLASSIFY, names={"classifier": "sop_classifier.classifier"}), "sop"),
        }
    },
    fields=bert_fields(vocab_size=30000, hidden_size=4096, num_heads=64, intermediate_size=16384, activation="gelu_new")
    | {"embedding_size": ("embedding_size", 128), "groups": ("num_hidden_groups", 1), "inner": ("inner_group_num", 1)},
    names={
        "embeddings": "embeddings",
        "embeddings.projection": "encoder.embedding_hidden_mapping_in",
        "layer.*.attention.self": f"{_LAYER}.attention",
        "layer.*.attention.output": f"{_LAYER}.attention",
        "layer.*.intermediate.dense": f"{_LAYER}.ffn",
        "layer.*.output.dense": f"{_LAYER}.ffn_output",
        "layer.*.output.LayerNorm": f"{_LAYER}.full_layer_layer_norm",
        "pooler.dense": "pooler",
    },
    dropouts={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.1},
    more=lambda read: {"projection": "after_norm"},
    sites={site: fields for site, fields in BERT.sites.items() if site != DropoutSite.OUTPUT},
)
