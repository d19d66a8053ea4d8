"""Model families as data: how a config.json is read, what its fields default to, and how its parameters are called.

A family is a row of FAMILIES. A family that needs no new mathematics is one more row here and one golden.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxft.errors import UserError, nearest
from jaxft.models.encoder import EncoderConfig
from jaxft.models.layers import ACTIVATIONS


@dataclass(frozen=True)
class Family:
    """One row.

    Attributes:
      prefix: what Hugging Face's models with a head put before the encoder's names (`bert.`).
      architectures: head kind -> Hugging Face class name in `architectures`.
      fields: EncoderConfig field -> (config.json field, default of the Hugging Face config class).
      encoder_names: (Hugging Face module prefix, ours) from ours-is-empty to most specific; longest match wins.
      head_names: head kind -> {Hugging Face module prefix: ours}, outside the encoder prefix.
      ignored: buffers that are no parameters (they are written back as they came).
    """

    prefix: str
    architectures: Mapping[str, str]
    fields: Mapping[str, tuple[str, Any]]
    encoder_names: Mapping[str, str]
    head_names: Mapping[str, Mapping[str, str]]
    ignored: tuple[str, ...]


BERT = Family(
    prefix="bert",
    architectures={
        "feature-extraction": "BertModel",
        "text-classification": "BertForSequenceClassification",
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
        "dropout": ("hidden_dropout_prob", 0.1),
        "attention_dropout": ("attention_probs_dropout_prob", 0.1),
        "pad_token_id": ("pad_token_id", 0),
    },
    encoder_names={"embeddings": "embeddings", "encoder.layer": "layer", "pooler": "pooler"},
    head_names={
        "feature-extraction": {},
        "text-classification": {"classifier": "classifier"},
    },
    ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
)

FAMILIES: dict[str, Family] = {"bert": BERT}


def family_of(hf_config: Mapping[str, Any], where: str) -> Family:
    """The row for a config.json.

    Raises:
      UserError: for a missing or unknown `model_type`.
    """
    kind = hf_config.get("model_type")
    if kind is None:
        raise UserError(f'{where}: no "model_type"; jaxft reads {", ".join(FAMILIES)}')
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f'{where}: model_type "{kind}" is not one that jaxft reads ({", ".join(FAMILIES)}){nearest(str(kind), FAMILIES)}'
        )
    return FAMILIES[kind]


def encoder_config(family: Family, hf_config: Mapping[str, Any], where: str) -> EncoderConfig:
    """Translate a config.json.

    Raises:
      UserError: naming the field that jaxft cannot honour.
    """
    values = {}
    for ours, (theirs, default) in family.fields.items():
        value = hf_config.get(theirs, default)
        values[ours] = default if value is None else value
    for ours, (theirs, default) in family.fields.items():
        value, least = values[ours], 0 if ours == "pad_token_id" else 1
        if isinstance(default, int) and (not isinstance(value, int) or value < least):
            raise UserError(f"{where}: {theirs} is {value!r}: must be a whole number, {least} or more")
        if isinstance(default, float) and not (isinstance(value, int | float) and 0 <= value < float("inf")):
            raise UserError(f"{where}: {theirs} is {value!r}: must be a number, 0 or more")
    config = EncoderConfig(**values)
    if str(config.activation) not in ACTIVATIONS:
        raise UserError(
            f'{where}: hidden_act "{config.activation}" is unknown{nearest(str(config.activation), ACTIVATIONS)}'
        )
    if config.hidden_size % config.num_heads:
        raise UserError(
            f"{where}: hidden_size {config.hidden_size} is not a multiple of num_attention_heads {config.num_heads}"
        )
    for field, right in {
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    }.items():
        if hf_config.get(field, right) != right:
            raise UserError(f"{where}: {field} is {hf_config[field]!r}: jaxft computes only {right!r}")
    return config


def kind_of(family: Family, hf_config: Mapping[str, Any]) -> str | None:
    """The task that a checkpoint's `architectures` names, if jaxft has its head."""
    named = hf_config.get("architectures")
    for architecture in named if isinstance(named, list) else []:
        for kind, name in family.architectures.items():
            if architecture in (name, f"Flax{name}"):
                return kind
    return None
