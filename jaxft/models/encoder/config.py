"""The configuration of an encoder, its dropout rates, and how it is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from jaxft.models.encoder.adapters import Bottleneck, Lora
from jaxft.models.encoder.layers import Initializer, normal_init, sinusoids

Fields = tuple[str, ...]  # fields of config.json in which a dropout rate is looked up, in order; empty means no dropout


class DropoutSite(StrEnum):
    """A place of an encoder with dropout."""

    EMBEDDINGS = "embeddings"
    """After the norm of the embeddings."""
    ATTENTION = "attention"
    """The probabilities of attention."""
    ATTENTION_OUTPUT = "attention_output"
    """The output of attention, before the residual."""
    INTERMEDIATE = "intermediate"
    """Between the two dense layers of the feed-forward sublayer (pre-norm layers only)."""
    OUTPUT = "output"
    """The output of the feed-forward sublayer, before the residual; DeBERTa's relative embeddings and convolution."""

    def name_in(self, layer: int) -> str:
        """The dotted name of the site in a layer, such as encoder.layer.3.attention.self.dropout."""
        module = {DropoutSite.ATTENTION: "attention.self", DropoutSite.ATTENTION_OUTPUT: "attention.output"}.get(self, self)
        return f"encoder.layer.{layer}.{module}.dropout"


EMBEDDINGS = "encoder.embeddings.dropout"
LAYER_SITES = (DropoutSite.ATTENTION, DropoutSite.ATTENTION_OUTPUT, DropoutSite.INTERMEDIATE, DropoutSite.OUTPUT)


@dataclass(frozen=True)
class Relative:
    """DeBERTa's disentangled attention.

    Attributes:
      terms: `c2p` (content to position), `p2c` (position to content), or both.
      buckets: `position_buckets`; 0 or less for no buckets.
      longest: `max_relative_positions`.
      share_keys: whether positions use the projections of the content.
    """

    terms: tuple[str, ...]
    buckets: int
    longest: int
    share_keys: bool

    @property
    def span(self) -> int:
        """Half the number of rows of the table of relative embeddings."""
        return self.buckets if self.buckets > 0 else self.longest


@dataclass(frozen=True)
class Convolution1D:
    """DeBERTa's convolution, parallel to the first layer."""

    size: int
    groups: int
    activation: str


@dataclass(frozen=True)
class Rotary:
    """ModernBERT's rotary positions and local attention.

    Attributes:
      theta, stretch: base of the wavelengths and divisor of the frequencies, for layers with global attention.
      local_theta, local_stretch: the same for layers with local attention.
      window: the largest distance of a visible token in local attention.
      local: for each layer, whether its attention is local.
    """

    theta: float
    stretch: float
    local_theta: float
    local_stretch: float
    window: int
    local: tuple[bool, ...]


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder in terms that all families share; `Family.encoder_config` translates config.json to it.

    Attributes:
      embedding_size: 0 means the hidden size.
      projection: from embedding to hidden size: none, `before_norm` (DeBERTa, no bias) or `after_norm` (ALBERT, ELECTRA).
      absolute_positions: whether positions are added to the embeddings.
      position_offset: row of the first token's position (RoBERTa counts from pad_token_id + 1).
      zero_position: row of the position table that is initialised to zeros.
      sinusoidal: the position table is initialised to sinusoids; it is trained like any other table.
      masked_embeddings: embeddings of padding are zeros (DeBERTa).
      pre_norm: norms are before the sublayers (ModernBERT).
      gated: the feed-forward sublayer is a product of two halves.
      fused: query, key and value have one common kernel.
      groups, inner: ALBERT's sharing: `groups` groups of `inner` layers, applied num_layers times in total; 0 means that
        layers are not shared.
      distance_bias: rows of MPNet's table of relative position biases; 0 means none.
      relative_norm, attention_terms: DeBERTa's norm of relative embeddings; the number of terms that scores are scaled by.
      new_words: number of last rows of the word table, and of a decoder, that are separate leaves (`models/vocab_resize`).
      init_cutoff: ModernBERT truncates the normal initialisation at this number of standard deviations.
      init_output, init_head: standard deviation of kernels that write to the residual stream, and of a head's last layer.
      in_loop: whether the layers run in a loop, which writes everything saved for the backward pass to memory
        (`layers.remat`).
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
        return self.adapter if isinstance(self.adapter, Lora) else None

    @property
    def width(self) -> int:
        """Width of the embedding tables."""
        return self.embedding_size or self.hidden_size

    @property
    def parameter_layers(self) -> int:
        """The number of layers with different parameters."""
        return self.groups * self.inner if self.groups else self.num_layers

    @property
    def applied_layers(self) -> int:
        """The number of layers that run, counting each application of a shared one."""
        return self.num_layers * self.inner

    @property
    def usable_positions(self) -> int | None:
        """The maximum number of tokens per example; None if positions are only relative."""
        return self.max_positions - self.position_offset if self.absolute_positions or self.rotary else None

    @property
    def first_layer_differs(self) -> bool:
        """Whether layer 0 has other kinds of parameters than the rest."""
        return self.pre_norm or self.convolution is not None

    def kernel_init(self, stddev: float | None = None) -> Initializer:
        return normal_init(self.initializer_range if stddev is None else stddev, cutoff=self.init_cutoff)

    def output_init(self) -> Initializer:
        """The initialiser of kernels that write to the residual stream."""
        return self.kernel_init(self.init_output)

    def table_init(self, zero_row: int | None = None) -> Initializer:
        row = zero_row if self.init_cutoff is None else None
        return normal_init(self.initializer_range, zero_row=row, cutoff=self.init_cutoff)

    def position_init(self) -> Initializer:
        return sinusoids if self.sinusoidal else self.table_init(self.zero_position)


@dataclass(frozen=True)
class DropoutRates:
    """Dropout rates, floats or traced scalars.

    Attributes:
      values: by field of config.json.
      fields: site -> fields of config.json; the default rate of the site is that of the first field that has one.
      head: replaces the rates of config.json for all heads.
      own: rates of single sites by dotted name (see `dropout_sites`), which replace all others.
      sites: the same for the sites of one layer.
      by_keys: dropout of attention drops keys, not single probabilities (see `attend`).
    """

    values: Mapping[str, Any]
    fields: Mapping[DropoutSite, Fields] = field(default_factory=dict)
    head: Any = None
    own: Mapping[str, Any] = field(default_factory=dict)
    sites: Mapping[DropoutSite, Any] = field(default_factory=dict)
    by_keys: bool = False

    def of(self, site: DropoutSite) -> Any:
        """The rate of the embeddings, or of a site of the layer that `of_layer` has chosen."""
        if site == DropoutSite.EMBEDDINGS and EMBEDDINGS in self.own:
            return self.own[EMBEDDINGS]
        return self.sites[site] if site in self.sites else self._first(self.fields.get(site, ()))

    def of_head(self, name: str, fields: Fields) -> Any:
        """The rate at a place of a head whose rate is in these fields of config.json; 0 without fields."""
        own = self.own.get(f"heads.{name}.dropout", self.head)
        return self._first(fields) if own is None or not fields else own

    def _first(self, fields: Fields) -> Any:
        return next((self.values[f] for f in fields if self.values.get(f) is not None), 0.0)

    def at(self, sites: Mapping[DropoutSite, Any]) -> "DropoutRates":
        """These rates with other rates at some sites."""
        return replace(self, sites={**self.sites, **sites}) if sites else self

    def of_layer(self, number: int) -> "DropoutRates":
        names = {site: site.name_in(number) for site in LAYER_SITES}
        return self.at({site: self.own[name] for site, name in names.items() if name in self.own})

    def of_layers(self, numbers: Sequence[int]) -> tuple["DropoutRates", dict[DropoutSite, list[Any]]]:
        """(the rates that the layers have in common, site -> rate of each layer, for the sites at which they differ)."""
        each = [self.of_layer(number) for number in numbers]
        rates = {site: [x.of(site) for x in each] for site in LAYER_SITES}
        return each[0], {site: x for site, x in rates.items() if any(rate is not x[0] for rate in x)}


@dataclass(frozen=True)
class Policy:
    """How a model is computed; nothing here changes results beyond rounding.

    Attributes:
      dtype: dtype of activations and matrix products.
      unroll: layers per iteration of the scan over layers; None takes the best for the platform (`unrolled_layers`).
      attention: auto, plain, cudnn or splash (see `fused_attention`).
      platform: platform of the devices that the program is for: cpu, gpu or tpu.
      mesh: mesh of these devices; None for one device.
      checkpoint_layers: whether the backward pass saves only the input of each layer, and computes the layer again (Chen et
        al. 2016, arXiv:1604.06174; `gradient_checkpointing` in transformers). Layers are then in a loop, so that the
        compiler does not undo it.
    """

    dtype: str = "float32"
    unroll: int | None = 1
    attention: str = "auto"
    platform: str = "cpu"
    mesh: Any = None
    checkpoint_layers: bool = False

    @property
    def unrolled_layers(self) -> int:
        """The maximum number of layers per iteration of the scan.

        Unrolling saves the loop's copies of activations, which are a quarter of the memory traffic of a BERT base step
        compiled for H200 (benchmarks/aot.py; on CPU benchmarks/alternatives.py), but takes time to compile: many minutes on
        TPUs, where a step in a loop is limited by its operations and not by memory.
        """
        return 1 if self.checkpoint_layers else self.unroll or (1 if self.platform == "tpu" else 12)


PLAIN = Policy()
