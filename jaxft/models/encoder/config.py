"""An encoder's configuration in the field's terms: what `families` translates every config.json into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from jaxft.models.encoder.adapters import Bottleneck, Lora
from jaxft.models.encoder.layers import Initializer, normal_init, sinusoids

Fields = tuple[str, ...]  # config.json fields in the order in which a rate is looked for; none is no dropout


class DropoutSite(StrEnum):
    """Where an encoder drops."""

    EMBEDDINGS = "embeddings"
    """After the norm of the embeddings."""
    ATTENTION = "attention"
    """The probabilities of attention."""
    ATTENTION_OUTPUT = "attention_output"
    """The output of attention, before the residual."""
    INTERMEDIATE = "intermediate"
    """Between the two dense layers of the feed-forward sublayer (pre-norm layers only)."""
    OUTPUT = "output"
    """The output of the feed-forward sublayer, before the residual; DeBERTa's relative embeddings and convolution, too."""


@dataclass(frozen=True)
class Relative:
    """DeBERTa's disentangled attention: which terms, how many rows of relative embeddings."""

    terms: tuple[str, ...]
    buckets: int
    longest: int
    share_keys: bool

    @property
    def span(self) -> int:
        """Half the rows of the table."""
        return self.buckets if self.buckets > 0 else self.longest


@dataclass(frozen=True)
class Convolution1D:
    """DeBERTa's convolution beside the first layer."""

    size: int
    groups: int
    activation: str


@dataclass(frozen=True)
class Rotary:
    """ModernBERT's rotations and the layers that see a window only."""

    theta: float
    stretch: float
    local_theta: float
    local_stretch: float
    window: int
    local: tuple[bool, ...]


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder in the field's terms; `families` translates every config.json into this.

    Attributes:
      embedding_size: of the lookup tables; 0 is the hidden size.
      projection: from embedding to hidden size: none, `before_norm` (DeBERTa, no bias) or `after_norm` (ALBERT, ELECTRA).
      absolute_positions: whether positions are added to the embeddings.
      position_offset: row of the first token's position (RoBERTa counts from pad_token_id + 1).
      zero_position: row of the position table that starts as zeros.
      sinusoidal: whether the position table starts as sinusoids; it is trained like any other.
      masked_embeddings: embeddings of padding are zeros (DeBERTa).
      pre_norm: norms stand before the sublayers (ModernBERT).
      gated: the feed-forward sublayer is a product of two halves.
      fused: query, key and value are one kernel.
      norm_bias, attention_bias, mlp_bias: whether those have biases.
      groups, inner: ALBERT's sharing: `groups` sets of `inner` layers run for num_layers applications; 0 is no sharing.
      distance_bias: rows of MPNet's relative bias; 0 is none.
      relative, relative_norm, attention_terms: DeBERTa's; the number of terms scales the scores.
      convolution, rotary: DeBERTa's and ModernBERT's.
      new_words: the last rows of the word table, and of a decoder, that are leaves of their own (`models/rows`).
      init_cutoff, init_output, init_head: ModernBERT's truncated normal, the spread of kernels that write to the residual
        stream, and of a head's last layer.
      adapter: what the adapters compute where the parameters have them.
      in_loop: whether these are layers in a loop, which writes out what is kept for the backward pass (`layers.recomputed`).
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    type_vocab_size: int
    activation: str
    layer_norm_eps: float
    initializer_range: float
    pad_token_id: int
    embedding_size: int = 0
    projection: str = "none"
    absolute_positions: bool = True
    position_offset: int = 0
    zero_position: int | None = None
    sinusoidal: bool = False
    masked_embeddings: bool = False
    pre_norm: bool = False
    gated: bool = False
    fused: bool = False
    norm_bias: bool = True
    attention_bias: bool = True
    mlp_bias: bool = True
    groups: int = 0
    inner: int = 1
    distance_bias: int = 0
    relative: Relative | None = None
    relative_norm: bool = False
    attention_terms: int = 1
    convolution: Convolution1D | None = None
    rotary: Rotary | None = None
    new_words: int = 0
    init_cutoff: float | None = None
    init_output: float | None = None
    init_head: float | None = None
    adapter: Lora | Bottleneck | None = None
    in_loop: bool = False

    @property
    def lora(self) -> Lora | None:
        """The numbers of LoRA."""
        return self.adapter if isinstance(self.adapter, Lora) else None

    @property
    def bottleneck(self) -> Bottleneck | None:
        """The numbers of bottleneck adapters."""
        return self.adapter if isinstance(self.adapter, Bottleneck) else None

    @property
    def width(self) -> int:
        """Size of the lookup tables."""
        return self.embedding_size or self.hidden_size

    @property
    def parameter_layers(self) -> int:
        """Layers that have parameters of their own."""
        return self.groups * self.inner if self.groups else self.num_layers

    @property
    def usable_positions(self) -> int | None:
        """Tokens an example may have; None where positions are only relative."""
        if self.absolute_positions or self.rotary:
            return self.max_positions - self.position_offset
        return None

    @property
    def first_layer_differs(self) -> bool:
        """Whether layer 0 has other parameters than the rest."""
        return self.pre_norm or self.convolution is not None

    def kernel_init(self, stddev: float | None = None) -> Initializer:
        """Of dense kernels."""
        return normal_init(self.initializer_range if stddev is None else stddev, cutoff=self.init_cutoff)

    def output_init(self) -> Initializer:
        """Of kernels that write to the residual stream."""
        return self.kernel_init(self.init_output)

    def table_init(self, zero_row: int | None = None) -> Initializer:
        """Of lookup tables."""
        row = zero_row if self.init_cutoff is None else None
        return normal_init(self.initializer_range, zero_row=row, cutoff=self.init_cutoff)

    def position_init(self) -> Initializer:
        """Of the table of absolute positions."""
        return sinusoids if self.sinusoidal else self.table_init(self.zero_position)


@dataclass(frozen=True)
class DropoutRates:
    """Dropout rates: floats, or traced scalars in a sweep.

    Attributes:
      values: by field of config.json.
      fields: site -> fields of config.json; the default rate of the site is that of the first field that has one.
      head: replaces what config.json says for every head.
      sites: rates of single sites, which come before all others; so do those of `layers` and `heads`.
      layers: number of the layer -> site -> rate.
      heads: by name of the head.
      by_keys: dropout of attention drops keys, not single probabilities (see `attend`).
    """

    values: Mapping[str, Any]
    fields: Mapping[DropoutSite, Fields] = field(default_factory=dict)
    head: Any = None
    sites: Mapping[DropoutSite, Any] = field(default_factory=dict)
    layers: Mapping[int, Mapping[DropoutSite, Any]] = field(default_factory=dict)
    heads: Mapping[str, Any] = field(default_factory=dict)
    by_keys: bool = False

    def of(self, site: DropoutSite) -> Any:
        """The rate of a site."""
        return self.sites[site] if site in self.sites else self._first(self.fields.get(site, ()))

    def of_head(self, name: str, fields: Fields) -> Any:
        """The rate at a place of a head that has these fields of config.json; without fields it does not drop."""
        own = self.heads.get(name, self.head)
        return self._first(fields) if own is None or not fields else own

    def _first(self, fields: Fields) -> Any:
        return next((self.values[f] for f in fields if self.values.get(f) is not None), 0.0)

    def override(self, fields: Fields, rate: Any) -> "DropoutRates":
        """The same with another rate for some fields of config.json; None changes nothing."""
        return self if rate is None else replace(self, values={**self.values, **dict.fromkeys(fields, rate)})

    def at(self, sites: Mapping[DropoutSite, Any]) -> "DropoutRates":
        """The same with other rates at some sites."""
        return replace(self, sites={**self.sites, **sites}) if sites else self

    def of_layer(self, number: int) -> "DropoutRates":
        """The rates of one layer."""
        return self.at(self.layers.get(number, {}))

    def of_layers(self, numbers: Sequence[int]) -> tuple["DropoutRates", dict[DropoutSite, list[Any]]]:
        """(the rates that some layers have in common, those in which they differ: site -> a rate for each layer)."""
        common = self.of_layer(numbers[0])
        if not any(number in self.layers for number in numbers):
            return common, {}
        each = [self.of_layer(number) for number in numbers]
        rates = {site: [x.of(site) for x in each] for site in DropoutSite}
        return common, {site: x for site, x in rates.items() if any(rate is not x[0] for rate in x)}


@dataclass(frozen=True)
class Policy:
    """How, not what, is computed: nothing here changes results beyond rounding.

    Attributes:
      dtype: of activations and matrix products.
      unroll: layers in one turn of the loop over them; None takes the best for the platform (`unrolled_layers`).
      attention: auto, plain, cudnn or splash (see `kernels`).
      platform: of the devices that the program is for: cpu, gpu or tpu.
      mesh: of these devices; None for one.
    """

    dtype: str = "float32"
    unroll: int | None = 1
    attention: str = "auto"
    platform: str = "cpu"
    mesh: Any = None

    @property
    def unrolled_layers(self) -> int:
        """Layers in one turn of the loop, if there are as many.

        More save its copies of activations, which are a quarter of the memory traffic of a BERT base step compiled for H200
        (benchmarks/aot.py; on CPU benchmarks/alternatives.py), and cost time to compile: on TPUs, where a step in a loop is
        limited by its operations, many minutes.
        """
        return self.unroll or (1 if self.platform == "tpu" else 12)


PLAIN = Policy()
