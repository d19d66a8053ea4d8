"""ModernBERT (Warner et al. 2024, arXiv:2412.13663): rotary positions, gated pre-norm layers, local attention."""

import math
from dataclasses import replace
from typing import Any

from jaxft.core.errors import UserError
from jaxft.models.encoder.config import DropoutSite, Rotary
from jaxft.models.families.common import classes, heads, words
from jaxft.models.families.family import ConfigReader, Family
from jaxft.models.heads import LABELS, TOKENS, Field, Part, Transform

_NAMES = {"transform.dense": "head.dense", "transform.LayerNorm": "head.norm", "classifier": "classifier"}
_HEAD = Transform(Field("classifier_activation", "gelu"), norm=True, use_bias=Field("classifier_bias", False))
_POOLED = Part(Field("classifier_pooling", "cls"), LABELS, _NAMES, _HEAD, dropout=("classifier_dropout",))
_FULL, _LOCAL = "full_attention", "sliding_attention"


def _rope(read: ConfigReader, kind: str, old_name: str, default: float) -> tuple[float, float]:
    """(theta, stretch) of one kind of layer, from the new or the old fields of config.json."""
    kind_fields = replace(read, values=read.mapping("rope_parameters")).mapping(kind)
    table = replace(read, values={"rope_theta": read.get(old_name, default), **kind_fields, **read.mapping("rope_scaling")})
    rope_type = table.get("rope_type", table.get("type", "default"))
    if rope_type not in ("default", "linear"):
        raise UserError(f"{read.where}: rope_type {rope_type!r}: jaxft computes only 'default', 'linear'")
    return table.number("rope_theta", default), table.number("factor", 1.0) if rope_type == "linear" else 1.0


def _more(read: ConfigReader) -> dict[str, Any]:
    layers, hidden = read.integer("num_hidden_layers", 22), read.integer("hidden_size", 768)
    every = read.integer("global_attn_every_n_layers", 3)
    kinds = read.texts("layer_types", [_LOCAL if i % every else _FULL for i in range(layers)])
    if len(kinds) != layers or not set(kinds) <= {_FULL, _LOCAL}:
        raise UserError(f"{read.where}: layer_types must be {layers} times {_FULL} or {_LOCAL}")
    if hidden // read.integer("num_attention_heads", 12) % 2:
        raise UserError(f"{read.where}: rotations need an even number of features a head")
    spread = read.number("initializer_range", 0.02) or 0.02
    return {
        "absolute_positions": False,
        "pre_norm": True,
        "gated": True,
        "fused": True,
        "norm_bias": bool(read.get("norm_bias", False)),
        "attention_bias": bool(read.get("attention_bias", False)),
        "mlp_bias": bool(read.get("mlp_bias", False)),
        "rotary": Rotary(
            *_rope(read, _FULL, "global_rope_theta", 160_000.0),
            *_rope(read, _LOCAL, "local_rope_theta", 10_000.0),
            window=read.integer("local_attention", 128) // 2,
            local=tuple(kind == _LOCAL for kind in kinds),
        ),
        "init_cutoff": read.number("initializer_cutoff_factor", 2.0),
        "init_output": spread / math.sqrt(2.0 * layers),
        "init_head": hidden**-0.5,
    }


MODERNBERT = Family(
    prefix="model",
    classes=classes("ModernBert"),
    heads=heads(
        _POOLED,
        replace(words(_HEAD, "head.dense", "head.norm", "decoder"), use_bias=Field("decoder_bias", True)),
        tag=replace(_POOLED, source=TOKENS),
        answer=replace(_POOLED, source=TOKENS, outputs=2),
    ),
    fields={
        "vocab_size": ("vocab_size", 50368),
        "hidden_size": ("hidden_size", 768),
        "num_layers": ("num_hidden_layers", 22),
        "num_heads": ("num_attention_heads", 12),
        "intermediate_size": ("intermediate_size", 1152),
        "max_positions": ("max_position_embeddings", 8192),
        "activation": ("hidden_activation", "gelu"),
        "layer_norm_eps": ("norm_eps", 1e-5),
        "initializer_range": ("initializer_range", 0.02),
        "pad_token_id": ("pad_token_id", 50283),
    },
    names={
        "embeddings.word_embeddings": "embeddings.tok_embeddings",
        "embeddings.LayerNorm": "embeddings.norm",
        "layer.*.attention.LayerNorm": "layers.*.attn_norm",
        "layer.*.attention.self.qkv": "layers.*.attn.Wqkv",
        "layer.*.attention.output.dense": "layers.*.attn.Wo",
        "layer.*.LayerNorm": "layers.*.mlp_norm",
        "layer.*.intermediate.dense": "layers.*.mlp.Wi",
        "layer.*.output.dense": "layers.*.mlp.Wo",
        "final_norm": "final_norm",
    },
    sites={
        DropoutSite.EMBEDDINGS: ("embedding_dropout",),
        DropoutSite.ATTENTION: ("attention_dropout",),
        DropoutSite.ATTENTION_OUTPUT: ("attention_dropout",),
        DropoutSite.INTERMEDIATE: ("mlp_dropout",),
    },
    dropouts={"embedding_dropout": 0.0, "attention_dropout": 0.0, "mlp_dropout": 0.0, "classifier_dropout": 0.0},
    more=_more,
    pooler=False,
    hidden_dropouts=("embedding_dropout", "mlp_dropout"),
    attention_dropouts=("attention_dropout",),
    ignored=(),
    flax=False,
)
