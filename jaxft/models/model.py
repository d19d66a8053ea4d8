"""The `Model` dataclass: everything about a model except its parameters."""

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
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
from jaxft.models.encoder.config import EMBEDDINGS, LAYER_SITES, PLAIN, DropoutRates, DropoutSite, Policy
from jaxft.models.encoder.dropout import fold
from jaxft.models.encoder.encoder import Encoder
from jaxft.models.families.family import Family
from jaxft.models.heads import LABELS, POOLER, Head
from jaxft.models.weights.merge import Report
from jaxft.models.weights.tensor_names import Naming

MAX_LABELS = 10**6  # of a config.json without id2label
MAIN = "main"  # the name of the head of a loaded model


@dataclass(frozen=True)
class Origin:
    """How parameters were stored in the checkpoint, so that they are saved in the same form.

    Attributes:
      dtypes: parameter name -> dtype in the file.
      buffers: tensors that are not parameters, by their names in the file.
      copies: names in the file of tensors that repeat a parameter -> name of the parameter.
    """

    dtypes: Mapping[str, np.dtype] = field(default_factory=dict)
    buffers: Mapping[str, np.ndarray] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Model:
    """Everything about a model except its parameters.

    Attributes:
      hf_config: the original config.json, with the labels of the current head.
      encoder: the encoder; `encoder.config` has its sizes.
      heads: by name; "main" is the head of the task.
      rates: dropout rates of training.
      policy: the types of activations, and the devices that the model is traced for.
      directory: the directory that it was loaded from, for its tokenizer.
      origin: the types in which the checkpoint stores parameters.
      report: which parameters were loaded, are new, or were not used.
      adapted: which modules have adapters; None without adapters.
      head_configs: config.json that each of several heads would have alone; empty for one head.
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
    head_configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """The model's entry in FAMILIES."""
        return families.FAMILIES[self.hf_config["model_type"]]

    @property
    def labels(self) -> list[str]:
        """Label names in the order of their ids."""
        return labels_of(self.hf_config)

    @property
    def naming(self) -> Naming:
        """The parameter names of Hugging Face's class for the main head."""
        head = self.heads[MAIN]
        return Naming(self.family, MAIN, head.kind, head.parts, self.encoder.config.inner)

    def abstract(self) -> Params:
        """Shapes and dtypes of the parameters, including adapters."""
        params = jax.eval_shape(lambda: self.init(random_keys.root_key(0)))
        kind = self.encoder.config.adapter
        return adapters.add(params, self.adapted.modules, kind) if self.adapted and kind else params

    def init(self, key: jax.Array) -> Params:
        """Random parameters of encoder and heads, without adapters (see `adapters.add`)."""
        heads = {
            name: head.init(self.encoder.config, jax.random.fold_in(key, OfModel.FIRST_HEAD + i))
            for i, (name, head) in enumerate(sorted(self.heads.items()))
        }
        return {"encoder": self.encoder.init(jax.random.fold_in(key, OfModel.ENCODER)), "heads": heads}

    def initialised(self, names: Sequence[str], seed: int) -> dict[str, np.ndarray]:
        """Random values of some parameters by dotted name; initialising all of them would take seconds to compile."""
        if not names:
            return {}

        def random(key: jax.Array) -> dict[str, jax.Array]:
            values = tree.unstack(self.init(key))
            return {name: values[name] for name in names}

        return jax.tree.map(np.asarray, jax.jit(random)(random_keys.root_key(seed)))

    def apply(
        self,
        params: Params,
        inputs: dict[str, jax.Array],
        *,
        head: str = MAIN,
        key: jax.Array | None = None,
        rates: DropoutRates | None = None,
        between: Callable[[jax.Array, Any], jax.Array] | None = None,
        outputs: Collection[str] = (),
    ) -> dict[str, jax.Array]:
        """Applies the encoder and one head to a batch; `jaxft.forward` does it for the inputs of Hugging Face.

        Args:
          params: stacked, as `load` gives them.
          inputs: int32 [R, T] `input_ids` (or float32 [R, T, D] `inputs_embeds`), `token_type_ids`, `position_ids` from 0 in
            each example, `segment_ids`, the number of the example in its row from 1 (0 for padding); and int32 [R, M]
            `first_token`, where each example begins.
          head: name of the head.
          key: for dropout; without it the result is deterministic.
          rates: dropout rates in place of the model's.
          between: maps hidden states [R, T, D] and the number of layers below them (mixup).
          outputs: outputs of the encoder to return in addition to those of the head (see `Encoder.apply`).

        Returns:
          Arrays by Hugging Face's output names, such as `logits` [R, M, C] or, for tags, [R, T, C].
        """
        return self.apply_heads(params, inputs, [head], key=key, rates=rates, between=between, outputs=outputs)[head]

    def apply_heads(
        self,
        params: Params,
        inputs: dict[str, jax.Array],
        heads: Sequence[str],
        *,
        key: jax.Array | None = None,
        rates: DropoutRates | None = None,
        between: Callable[[jax.Array, Any], jax.Array] | None = None,
        outputs: Collection[str] = (),
        own: Mapping[str, Mapping[str, jax.Array]] = MappingProxyType({}),
    ) -> dict[str, dict[str, jax.Array]]:
        """The encoder once, and the outputs of several heads by their names; each head but MAIN has a separate key.

        `outputs` of the encoder are among those of each head. `own` are inputs of a single head, by its name.
        """
        rates = rates or self.rates
        with jax.named_scope("encoder"):
            encoded = self.encoder.apply(
                params["encoder"], inputs, rates=rates, key=key, policy=self.policy, between=between, outputs=outputs
            )

        def of_head(name: str) -> dict[str, jax.Array]:
            hidden = encoded["last_hidden_state"]
            k = key if name == MAIN else fold(key, zlib.crc32(name.encode()))
            read = {**inputs, **own.get(name, {})}
            with jax.named_scope(f"heads/{name}"):
                found = self.heads[name].apply(self.encoder, params, name, hidden, read, rates=rates, key=k)
            return found | {name: encoded[name] for name in outputs}

        return {name: of_head(name) for name in heads}

    def on(self, mesh: jax.sharding.Mesh, attention: str = "auto", *, checkpoint_layers: bool = False) -> "Model":
        """The model for the devices of a mesh, with the other fields of `Policy`."""
        own = {"attention": attention, "platform": mesh.devices.flat[0].platform, "checkpoint_layers": checkpoint_layers}
        return replace(self, policy=replace(self.policy, mesh=mesh, **own))

    def override(
        self, *, dropout: Any = None, attention_dropout: Any = None, classifier_dropout: Any = None
    ) -> DropoutRates:
        """The dropout rates, with those of hidden states, of attention probabilities, or of the head replaced unless None.

        If the checkpoint has no rate for the head, the head follows the hidden states.
        """
        values = dict(self.rates.values)
        for fields, rate in ((self.family.hidden_dropouts, dropout), (self.family.attention_dropouts, attention_dropout)):
            values |= {} if rate is None else dict.fromkeys(fields, rate)
        return replace(self.rates, values=values, head=self.rates.head if classifier_dropout is None else classifier_dropout)


def make_model(hf_config: Mapping[str, Any], kind: str, where: str, *, policy: Policy = PLAIN) -> Model:
    """Makes a model from the content of a config.json (the file `where`, for messages), with a head for the task `kind`.

    Raises:
      UserError: naming a field with a value that jaxft does not support, or a head that the family lacks.
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


def dropout_sites(model: Model) -> list[str]:
    """Names such as encoder.embeddings.dropout, encoder.layer.3.attention.self.dropout, heads.main.dropout."""
    c = model.encoder.config
    sites = [site for site in LAYER_SITES if site != DropoutSite.INTERMEDIATE or c.pre_norm]
    layers = [site.name_in(i) for i in range(c.parameter_layers) for site in sites]
    parts = {name: head.parts.values() for name, head in model.heads.items()}
    heads = [f"heads.{name}.dropout" for name, p in parts.items() if any(part.input_dropout or part.dropout for part in p)]
    return [EMBEDDINGS, *layers, *heads]


def has_dropout(model: Model) -> bool:
    """Whether any dropout site of the encoder or of a head has a rate above 0."""
    rates, count = model.rates, model.encoder.config.parameter_layers
    if rates.of(DropoutSite.EMBEDDINGS) or any(rates.of_layer(i).of(site) for i in range(count) for site in LAYER_SITES):
        return True
    parts = [(name, part) for name, head in model.heads.items() for part in head.parts.values()]
    return any(rates.of_head(name, fields) for name, part in parts for fields in (part.input_dropout, part.dropout))


def with_dropout_rates(model: Model, own: Mapping[str, float]) -> Model:
    """The model with these rates at single dropout sites, by name."""
    return replace(model, rates=replace(model.rates, own=own))


def stored_options(hf_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What jaxft has stored in config.json about the task: `task_specific_params.jaxft`."""
    return (hf_config.get("task_specific_params") or {}).get("jaxft") or {}


def as_stored_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The field of config.json that `stored_options` reads."""
    return {"task_specific_params": {"jaxft": dict(options)}}


def labels_of(hf_config: Mapping[str, Any]) -> list[str]:
    """Label names in the order of their ids (Hugging Face's default is LABEL_0 and LABEL_1)."""
    if id2label := hf_config.get("id2label"):
        try:
            return [str(id2label[key]) for key in sorted(id2label, key=int)]
        except (TypeError, ValueError) as error:
            raise UserError(f"config.json: id2label is {id2label!r}: must map numbers to names") from error
    count = hf_config.get("num_labels", hf_config.get("_num_labels", 2))
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_LABELS:
        raise UserError(f"config.json: num_labels is {count!r}: must be a whole number, {MAX_LABELS:,} at most")
    return [f"LABEL_{i}" for i in range(count)]


def are_generic(labels: Sequence[str]) -> bool:
    """Whether these are the default labels LABEL_0, LABEL_1 ..."""
    return list(labels) == [f"LABEL_{i}" for i in range(len(labels))]
