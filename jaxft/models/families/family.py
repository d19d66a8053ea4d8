"""The `Family` dataclass: how a config.json is translated, defaults of its fields, parameter names and heads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxft.core.errors import UserError, nearest
from jaxft.models.encoder.config import DropoutRates, DropoutSite, EncoderConfig, Fields
from jaxft.models.encoder.layers import ACTIVATIONS
from jaxft.models.heads import FIRST, MEAN, VOCABULARY, Field, Part

MAX_INTEGER = 2**31 - 1  # the largest int32 index
MAX_LAYERS = 10_000
MAX_NUMBER = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ConfigReader:
    """Reads the fields of a config.json, with errors that name the file and field."""

    values: Mapping[str, Any]
    where: str

    def get(self, name: str, default: Any) -> Any:
        """A field; null counts as absent."""
        value = self.values.get(name)
        return default if value is None else value

    def integer(self, name: str, default: int, least: int = 1, most: int = MAX_INTEGER) -> int:
        """An integer from `least` to `most`."""
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise UserError(f"{self.where}: {name} is {value!r}: must be a whole number from {least} to {most:,}")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number, 0 or more."""
        value = self.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
            raise UserError(f"{self.where}: {name} is {value!r}: must be a number, 0 or more")
        return float(value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; empty if it is absent."""
        value = self.get(name, {})
        if not isinstance(value, Mapping):
            raise UserError(f"{self.where}: {name} is {value!r}: must be an object such as {{...}}")
        return value

    def texts(self, name: str, default: list[str]) -> list[str]:
        """A list of texts."""
        value = self.get(name, default)
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise UserError(f"{self.where}: {name} is {value!r}: must be a list of texts")
        return value

    def choice(self, name: str, default: Any, allowed: Any) -> Any:
        """One of a few values."""
        value = self.get(name, default)
        if value not in allowed:
            raise UserError(f"{self.where}: {name} is {value!r}: jaxft computes only {', '.join(map(repr, allowed))}")
        return value

    def activation(self, name: str, default: str) -> str:
        """A name of ACTIVATIONS."""
        value = str(self.get(name, default))
        if value not in ACTIVATIONS:
            raise UserError(f'{self.where}: {name} "{value}" is unknown{nearest(value, ACTIVATIONS)}')
        return value


SITES: Mapping[DropoutSite, Fields] = {
    DropoutSite.EMBEDDINGS: ("hidden_dropout_prob",),
    DropoutSite.ATTENTION: ("attention_probs_dropout_prob",),
    DropoutSite.ATTENTION_OUTPUT: ("hidden_dropout_prob",),
    DropoutSite.OUTPUT: ("hidden_dropout_prob",),
}


@dataclass(frozen=True)
class Family:
    """The data of one model family.

    Attributes:
      prefix: prefix of the encoder's names in Hugging Face's models with a head (`bert`).
      classes: task -> Hugging Face class name in `architectures`; the first is the model without a head.
      heads: task -> output name -> part. Values that differ between checkpoints are Fields.
      fields: EncoderConfig field -> (config.json field, default of the Hugging Face config class).
      names: our module -> Hugging Face's module inside the encoder; `*` is the number of a layer; the longest match wins.
        Two stars in Hugging Face's name are the group and the layer in it.
      more: computes the EncoderConfig fields that `fields` cannot describe.
      variants: (field of config.json, value) -> heads that replace those of `heads` if the field has this value.
      pooler: whether the model without a head has one.
      dropouts: field of config.json with a dropout rate -> default.
      sites: dropout site of the encoder -> fields of config.json with its rate; the first that is set counts.
      hidden_dropouts, attention_dropouts: the `dropouts` that model.dropout and model.attention_dropout replace.
      ignored: ends of the names of tensors that are not parameters; they are saved unchanged.
      flax: whether transformers 4 had the family in Flax.
    """

    prefix: str
    classes: dict[str, str]
    heads: dict[str, dict[str, Part]]
    fields: dict[str, tuple[str, Any]]
    names: dict[str, str]
    dropouts: dict[str, float | None]
    more: Callable[[ConfigReader], dict[str, Any]] = lambda read: {}
    variants: dict[tuple[str, Any], dict[str, dict[str, Part]]] = field(default_factory=dict)
    pooler: bool = True
    sites: Mapping[DropoutSite, Fields] = field(default_factory=lambda: SITES)
    hidden_dropouts: Fields = ("hidden_dropout_prob",)
    attention_dropouts: Fields = ("attention_probs_dropout_prob",)
    ignored: tuple[str, ...] = ("embeddings.position_ids", "embeddings.token_type_ids")
    flax: bool = True

    def encoder_config(self, hf_config: Mapping[str, Any], where: str) -> EncoderConfig:
        """Translates a config.json.

        Raises:
          UserError: naming a field with a value that jaxft does not support.
        """
        read = ConfigReader(hf_config, where)
        values: dict[str, Any] = {"type_vocab_size": 0}
        for field_name, (hf_field, default) in self.fields.items():
            if isinstance(default, str):
                values[field_name] = read.activation(hf_field, default)
            elif isinstance(default, float):
                values[field_name] = read.number(hf_field, default)
            else:
                least = 0 if field_name in ("pad_token_id", "type_vocab_size") else 1
                most = MAX_LAYERS if field_name == "num_layers" else MAX_INTEGER
                values[field_name] = read.integer(hf_field, default, least, most)
        read.choice("is_decoder", False, (False,))
        read.choice("add_cross_attention", False, (False,))
        read.choice("position_embedding_type", "absolute", ("absolute", "sans_pos"))
        config = EncoderConfig(**(values | self.more(read)))
        # Hugging Face reads 0 as unset.
        config = replace(config, initializer_range=config.initializer_range or 0.02)
        if config.hidden_size % config.num_heads:
            size, heads = self.fields["hidden_size"][0], self.fields["num_heads"][0]
            raise UserError(f"{where}: {size} {config.hidden_size} is not a multiple of {heads} {config.num_heads}")
        if config.pad_token_id >= config.vocab_size:
            pad, vocabulary = self.fields["pad_token_id"][0], self.fields["vocab_size"][0]
            raise UserError(f"{where}: {pad} is {config.pad_token_id}, but {vocabulary} is {config.vocab_size}")
        return config

    def parts(self, kind: str, hf_config: Mapping[str, Any], where: str) -> dict[str, Part]:
        """The parts of a head for this checkpoint, with the values of all Fields."""
        read = ConfigReader(hf_config, where)
        heads = self.heads
        for (name, value), others in self.variants.items():
            if hf_config.get(name) == value:
                heads = {**heads, **others}
        return {output: _resolve(part, read) for output, part in heads[kind].items()}

    def rates(self, hf_config: Mapping[str, Any], where: str) -> DropoutRates:
        """The dropout rates of a config.json.

        Raises:
          UserError: for a rate outside 0 to 1.
        """
        values = {}
        for name, default in self.dropouts.items():
            value = hf_config.get(name, default)
            if value is not None and not (isinstance(value, int | float) and 0 <= value < 1):
                raise UserError(f"{where}: {name} is {value!r}: must be 0 or more and less than 1")
            values[name] = value
        return DropoutRates(values, self.sites)


def _resolve(part: Part, read: ConfigReader) -> Part:
    transform, source = part.transform, part.source
    if transform:
        activation = transform.activation
        if isinstance(activation, Field):
            activation = read.activation(activation.name, activation.default)
        transform = replace(transform, activation=activation, use_bias=_value(transform.use_bias, read))
    if isinstance(source, Field):
        source = {"cls": FIRST, "mean": MEAN}[read.choice(source.name, source.default, ("cls", "mean"))]
    tied = bool(_value(part.tied, read))
    part = replace(part, transform=transform, source=source, use_bias=_value(part.use_bias, read), tied=tied)
    if tied or part.outputs != VOCABULARY:
        return part
    decoder = f"{part.module}.decoder" if part.module else "decoder"
    kernel = next(name.removesuffix(".weight") for name, of in part.copies.items() if of == "words")
    flax_names = {f"{decoder}.bias": f"{part.names[decoder]}.bias"}
    return replace(part, names={**part.names, decoder: kernel}, flax_names=flax_names, copies={})


def _value(value: Any, read: ConfigReader) -> Any:
    return read.get(value.name, value.default) if isinstance(value, Field) else value
