"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108)."""

from dataclasses import replace

from jaxft.models.encoder.config import DropoutSite
from jaxft.models.families.common import CLASSIFIER, QUESTION, classes, heads, words
from jaxft.models.families.family import Family
from jaxft.models.heads import FIRST, LABELS, TOKENS, Field, Part, Transform

_POOLED = Part(
    FIRST,
    LABELS,
    {"transform.dense": "pre_classifier", "classifier": "classifier"},
    Transform("relu"),
    dropout=("seq_classif_dropout",),
)
DISTILBERT = Family(
    prefix="distilbert",
    classes=classes("DistilBert"),
    heads=heads(
        _POOLED,
        words(Transform(Field("activation", "gelu"), norm=True), "vocab_transform", "vocab_layer_norm", "vocab_projector"),
        tag=Part(TOKENS, LABELS, CLASSIFIER, dropout=("dropout",)),
        answer=replace(QUESTION, dropout=("qa_dropout",)),
    ),
    fields={
        "vocab_size": ("vocab_size", 30522),
        "hidden_size": ("dim", 768),
        "num_layers": ("n_layers", 6),
        "num_heads": ("n_heads", 12),
        "intermediate_size": ("hidden_dim", 3072),
        "max_positions": ("max_position_embeddings", 512),
        "activation": ("activation", "gelu"),
        "initializer_range": ("initializer_range", 0.02),
        "pad_token_id": ("pad_token_id", 0),
    },
    names={
        "embeddings": "embeddings",
        "layer.*.attention.self.query": "transformer.layer.*.attention.q_lin",
        "layer.*.attention.self.key": "transformer.layer.*.attention.k_lin",
        "layer.*.attention.self.value": "transformer.layer.*.attention.v_lin",
        "layer.*.attention.output.dense": "transformer.layer.*.attention.out_lin",
        "layer.*.attention.output.LayerNorm": "transformer.layer.*.sa_layer_norm",
        "layer.*.intermediate.dense": "transformer.layer.*.ffn.lin1",
        "layer.*.output.dense": "transformer.layer.*.ffn.lin2",
        "layer.*.output.LayerNorm": "transformer.layer.*.output_layer_norm",
    },
    sites={
        DropoutSite.EMBEDDINGS: ("dropout",),
        DropoutSite.ATTENTION: ("attention_dropout",),
        DropoutSite.OUTPUT: ("dropout",),
    },
    dropouts={"dropout": 0.1, "attention_dropout": 0.1, "seq_classif_dropout": 0.2, "qa_dropout": 0.1},
    more=lambda read: {"layer_norm_eps": 1e-12, "sinusoidal": bool(read.get("sinusoidal_pos_embds", False))},
    pooler=False,
    hidden_dropouts=("dropout",),
    attention_dropouts=("attention_dropout",),
)
