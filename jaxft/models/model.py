"""A model: everything about it but its parameters."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.core import random_keys, tree
from jaxft.core.errors import UserError
from jaxft.core.random_streams import OfModel
from jaxft.core.tree import Params
from jaxft.models import families
from jaxft.models.encoder import adapters
from jaxft.models.encoder.adapters import Adapted
from jaxft.models.encoder.config import PLAIN, DropoutRates, Policy
from jaxft.models.encoder.encoder import Encoder
from jaxft.models.families.family import Family
from jaxft.models.heads import LABELS, POOLER, Head
from jaxft.models.weights.merge import Report
from jaxft.models.weights.tensor_names import Naming

MOST_LABELS = 10**6  # that nobody has named
MAIN = "main"  # the name of the head when there is one


@dataclass(frozen=True)
class Origin:
    """What is needed to write a checkpoint back as it came.

    Attributes:
      dtypes: by our names.
      buffers: tensors that are no parameters, by the file's names.
      copies: the file's names of tensors that repeat one of ours -> ours.
    """

    dtypes: Mapping[str, np.dtype] = field(default_factory=dict)
    buffers: Mapping[str, np.ndarray] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Model:
    """Everything about a model but its parameters.

    Attributes:
      hf_config: config.json as it came (with labels of the present head).
      encoder: the encoder.
      heads: named heads.
      rates: dropout rates of training.
      policy: how to compute.
      directory: where it came from, for its tokenizer.
      origin: for writing it back unchanged.
      report: what became of the checkpoint's tensors.
      adapted: where it has adapters.
    """

    hf_config: Mapping[str, Any]
    encoder: Encoder
    heads: Mapping[str, Head]
    rates: DropoutRates
    policy: Policy
    directory: Path | None = None
    origin: Origin = field(default_factory=Origin)
    report: Report | None = None
    adapted: Adapted | None = None

    @property
    def family(self) -> Family:
        """The row of FAMILIES."""
        return families.FAMILIES[self.hf_config["model_type"]]

    @property
    def labels(self) -> list[str]:
        """Label names in the order of their ids."""
        return labels_of(self.hf_config)

    @property
    def naming(self) -> Naming:
        """How Hugging Face's class for the main head calls the parameters."""
        head = self.heads[MAIN]
        return Naming(self.family, MAIN, head.kind, head.parts, self.encoder.config.inner)

    def abstract(self) -> Params:
        """Shapes and types of the parameters, adapters among them."""
        params = jax.eval_shape(self.init, random_keys.root_key(0))
        kind = self.encoder.config.adapter
        return adapters.add(params, self.adapted.modules, kind) if self.adapted and kind else params

    def init(self, key: jax.Array) -> Params:
        """Random parameters of encoder and heads; adapters come later (`adapters.add`)."""
        heads = {
            name: head.init(self.encoder.config, jax.random.fold_in(key, OfModel.FIRST_HEAD + i))
            for i, (name, head) in enumerate(sorted(self.heads.items()))
        }
        return {"encoder": self.encoder.init(jax.random.fold_in(key, OfModel.ENCODER)), "heads": heads}

    def initialised(self, names: Sequence[str], seed: int) -> dict[str, np.ndarray]:
        """Random values of some parameters by dotted name, and only these: the whole would take seconds to compile."""
        if not names:
            return {}

        def random(key: jax.Array) -> dict[str, jax.Array]:
            every = tree.unstack(self.init(key))
            return {name: every[name] for name in names}

        return jax.tree.map(np.asarray, jax.jit(random)(random_keys.root_key(seed)))

    def apply(
        self,
        params: Params,
        inputs: dict[str, jax.Array],
        *,
        head: str = MAIN,
        key: jax.Array | None = None,
        rates: DropoutRates | None = None,
    ) -> dict[str, jax.Array]:
        """Encoder and one head on a batch (see `Encoder.apply` and `Head.apply`); deterministic without a key."""
        return self.apply_heads(params, inputs, [head], key=key, rates=rates)[head]

    def apply_heads(
        self,
        params: Params,
        inputs: dict[str, jax.Array],
        heads: Sequence[str],
        *,
        key: jax.Array | None = None,
        rates: DropoutRates | None = None,
    ) -> dict[str, dict[str, jax.Array]]:
        """The encoder once, and the outputs of several heads by their names; each head but MAIN has a key of its own."""
        rates = rates or self.rates
        with jax.named_scope("encoder"):
            found = self.encoder.apply(params["encoder"], inputs, rates=rates, key=key, policy=self.policy)
        hidden = found["last_hidden_state"]

        def outputs(name: str) -> dict[str, jax.Array]:
            own = key if name == MAIN or key is None else jax.random.fold_in(key, zlib.crc32(name.encode()))
            with jax.named_scope(f"heads/{name}"):
                return self.heads[name].apply(self.encoder, params, name, hidden, inputs, rates=rates, key=own)

        return {name: outputs(name) for name in heads}

    def on(self, mesh: jax.sharding.Mesh, attention: str = "auto") -> "Model":
        """The model computed on the devices of a mesh, with this attention (see `Policy`)."""
        platform = mesh.devices.flat[0].platform
        return replace(self, policy=replace(self.policy, attention=attention, platform=platform, mesh=mesh))

    def override(
        self, *, dropout: Any = None, attention_dropout: Any = None, classifier_dropout: Any = None
    ) -> DropoutRates:
        """The rates with those of hidden states, of attention probabilities, or of the head replaced; None keeps.

        A head whose checkpoint names no rate of its own follows the hidden states.
        """
        rates = self.rates.override(self.family.hidden_dropouts, dropout)
        rates = rates.override(self.family.attention_dropouts, attention_dropout)
        return rates if classifier_dropout is None else replace(rates, head=classifier_dropout)


def make_model(hf_config: Mapping[str, Any], kind: str, where: str, *, policy: Policy = PLAIN) -> Model:
    """A model from a config.json.

    Args:
      hf_config: its content.
      kind: task name of the head.
      where: for messages.
      policy: how to compute.

    Raises:
      UserError: naming the field that jaxft cannot honour, or a head that the family lacks.
    """
    family = families.family_of(hf_config, where)
    if kind not in family.classes:
        raise UserError(f'task "{kind}" has no head for {hf_config["model_type"]}; it has {", ".join(family.classes)}')
    parts = family.parts(kind, hf_config, where)
    labelled = any(part.outputs == LABELS for part in parts.values())
    pooler = family.pooler if kind == "feature-extraction" else any(p.source == POOLER for p in parts.values())
    return Model(
        hf_config=hf_config,
        encoder=Encoder(family.encoder_config(hf_config, where), pooler),
        heads={MAIN: Head(kind, parts, len(labels_of(hf_config)) if labelled else 0)},
        rates=family.rates(hf_config, where),
        policy=policy,
    )


def stored_options(hf_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What jaxft has stored in config.json about the task: `task_specific_params.jaxft`."""
    return (hf_config.get("task_specific_params") or {}).get("jaxft") or {}


def as_stored_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The field of config.json that `stored_options` reads."""
    return {"task_specific_params": {"jaxft": dict(options)}}


def labels_of(hf_config: Mapping[str, Any]) -> list[str]:
    """Label names in the order of their ids (Hugging Face's default is LABEL_0 and LABEL_1)."""
    id2label = hf_config.get("id2label")
    if id2label:
        try:
            return [str(id2label[key]) for key in sorted(id2label, key=int)]
        except (TypeError, ValueError) as error:
            raise UserError(f"config.json: id2label is {id2label!r}: must map numbers to names") from error
    count = hf_config.get("num_labels", hf_config.get("_num_labels", 2))
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_LABELS:
        raise UserError(f"config.json: num_labels is {count!r}: must be a whole number, {MOST_LABELS:,} at most")
    return [f"LABEL_{i}" for i in range(count)]


def are_generic(labels: Sequence[str]) -> bool:
    """Whether nobody has named these labels."""
    return list(labels) == [f"LABEL_{i}" for i in range(len(labels))]
