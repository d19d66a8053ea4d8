"""The door: `load` a model from files, run it `forward`, `save` it as a Hugging Face directory."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import runtime, tree
from jaxft.errors import UserError, some
from jaxft.models import families, files, names, source
from jaxft.models.encoder import Encoder, Policy, Rates
from jaxft.models.heads import Head
from jaxft.tree import Params

DTYPES = ("float32", "bfloat16")
MAIN = "main"  # the name of the head when there is one


@dataclass(frozen=True)
class Origin:
    """What is needed to write a checkpoint back as it came: types by our names, buffers by the file's names."""

    dtypes: Mapping[str, np.dtype] = field(default_factory=dict)
    buffers: Mapping[str, np.ndarray] = field(default_factory=dict)


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
    """

    hf_config: Mapping[str, Any]
    encoder: Encoder
    heads: Mapping[str, Head]
    rates: Rates
    policy: Policy
    directory: Path | None = None
    origin: Origin = field(default_factory=Origin)
    report: names.Report | None = None

    @property
    def family(self) -> families.Family:
        """The row of FAMILIES."""
        return families.FAMILIES[self.hf_config["model_type"]]

    @property
    def labels(self) -> list[str]:
        """Label names in the order of their ids."""
        return labels_of(self.hf_config)

    def abstract(self) -> Params:
        """Shapes and types of the parameters."""
        return jax.eval_shape(self.init, runtime.root_key(0))

    def init(self, key: jax.Array) -> Params:
        """Random parameters of encoder and heads."""
        heads = {
            name: head.init(self.encoder.config, jax.random.fold_in(key, i + 1))
            for i, (name, head) in enumerate(sorted(self.heads.items()))
        }
        return {"encoder": self.encoder.init(jax.random.fold_in(key, 0)), "heads": heads}

    def apply(
        self,
        params: Params,
        inputs: dict[str, jax.Array],
        *,
        head: str = MAIN,
        key: jax.Array | None = None,
        rates: Rates | None = None,
    ) -> dict[str, jax.Array]:
        """Encoder and one head on a batch (see `Encoder.apply` and `Head.apply`); deterministic without a key."""
        rates = rates or self.rates
        hidden = self.encoder.apply(params["encoder"], inputs, rates=rates, key=key, policy=self.policy)
        return self.heads[head].apply(
            self.encoder,
            params,
            head,
            hidden["last_hidden_state"],
            inputs,
            rates=rates,
            key=key,
        )


def load(
    path: str,
    task: str | None = None,
    num_labels: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    revision: str | None = None,
    num_layers: int | None = None,
    dtype: str = "float32",
    unroll: int | None = None,
    seed: int = 0,
) -> tuple[Model, Params]:
    """A model and its parameters (numpy float32, layers stacked).

    Args:
      path: directory, hub id, or `package:NAME/SUBDIR`.
      task: Hugging Face task name; None takes the checkpoint's own head.
      num_labels: size of a head; another size than the checkpoint's means a new head.
      labels: label names; other names than the checkpoint's mean a new head.
      revision: of a hub id.
      num_layers: keep only the first so many layers.
      dtype: `float32` or `bfloat16`, of activations and matrix products.
      unroll: layers unrolled in the compiled program; None takes the measured best for the device.
      seed: of what is newly initialised.

    Raises:
      UserError: when the files are missing, torn, unknown or do not fit together.
    """
    runtime.prepare()
    if dtype not in DTYPES:
        raise UserError(f'dtype is "{dtype}": must be one of {", ".join(DTYPES)}')
    directory = source.resolve(path, revision)
    hf_config = files.read_config(directory)
    where = str(directory / "config.json")
    family = families.family_of(hf_config, where)
    kind = task or families.kind_of(family, hf_config) or "feature-extraction"
    if kind not in family.architectures:
        raise UserError(f'task "{kind}" has no head for {hf_config["model_type"]}; it has {", ".join(family.architectures)}')
    config = families.encoder_config(family, hf_config, where)
    if num_layers is not None:
        if not 0 < num_layers <= config.num_layers:
            raise UserError(f"model.num_layers is {num_layers} but {path} has {config.num_layers} layers")
        config = replace(config, num_layers=num_layers)
    hf_config, new_head = _with_labels(family, kind, hf_config, num_labels, labels)
    # Depth goes back under the name it came from.
    hf_config = hf_config | {family.fields["num_layers"][0]: config.num_layers}
    model = Model(
        hf_config=hf_config,
        encoder=Encoder(config),
        heads={MAIN: Head(kind, len(labels_of(hf_config)))},
        rates=rates_of(hf_config, config),
        policy=Policy(dtype, unroll or default_unroll(config.num_layers)),
        directory=directory,
    )
    tensors, layout = files.read_weights(directory)
    abstract = model.abstract()
    expected = _unstacked_shapes(abstract)
    found, report = names.from_file(
        tensors,
        layout,
        family,
        kind,
        expected,
        fresh=[name for name in expected if name.startswith("heads.")] if new_head else (),
        where=str(directory),
        dropped_layers=num_layers is not None,
    )
    buffers = {name: x for name, x in tensors.items() if name.endswith(family.ignored)}
    origin = Origin({name: x.dtype for name, x in found.items()}, buffers)
    flat = {name: np.asarray(x, np.float32) for name, x in found.items()}
    if report.new:

        def random(key: jax.Array) -> dict[str, jax.Array]:  # only what is new: the whole would take seconds to compile
            every = tree.unstack(model.init(key))
            return {name: every[name] for name in report.new}

        flat |= jax.tree.map(np.asarray, jax.jit(random)(runtime.root_key(seed)))
    params = tree.restack(flat, abstract)
    return replace(model, origin=origin, report=report), params


def forward(model: Model, params: Params, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Run a model without dropout.

    Args:
      model, params: from `load`.
      inputs: [B, T] `input_ids` (or float `inputs_embeds` [B, T, D]); `attention_mask`, `token_type_ids` and
        `position_ids` as in Hugging Face, where absent ones are ones, zeros and 0, 1, 2, ...

    Returns:
      numpy float32 by Hugging Face's output names, such as `logits` [B, labels].

    Raises:
      UserError: for an id outside the vocabulary or a row longer than the model's positions.
    """
    arrays = {name: np.asarray(x) for name, x in inputs.items()}
    if "input_ids" not in arrays and "inputs_embeds" not in arrays:
        raise UserError(f"forward needs input_ids or inputs_embeds, got {', '.join(arrays) or 'nothing'}")
    shape = arrays["input_ids" if "input_ids" in arrays else "inputs_embeds"].shape[:2]
    _check_ranges(model, arrays, shape)
    positions = np.arange(shape[1])[None]
    batch = {
        "segment_ids": arrays.get("attention_mask", np.ones(shape)),
        "token_type_ids": arrays.get("token_type_ids", np.zeros(shape)),
        "position_ids": np.broadcast_to(np.asarray(arrays.get("position_ids", positions)), shape),
        "first_token": np.zeros((shape[0], 1)),
    }
    batch = {name: jnp.asarray(x, jnp.int32) for name, x in batch.items()}
    if "inputs_embeds" in arrays:
        batch["inputs_embeds"] = jnp.asarray(arrays["inputs_embeds"], jnp.float32)
    else:
        batch["input_ids"] = jnp.asarray(arrays["input_ids"], jnp.int32)
    outputs = _forward(model, params, batch)
    squeezed = {"logits", "pooler_output"}  # [B, 1, ...]: one example a row
    return {k: np.asarray(v[:, 0] if k in squeezed else v, np.float32) for k, v in outputs.items()}


def save(model: Model, params: Params, directory: str | Path, *, flax: bool = False) -> None:
    """Write config.json, model.safetensors and the tokenizer's files; `flax` adds flax_model.msgpack.

    Raises:
      UserError: when the disk is full or read-only; nothing is half-written then.
    """
    directory = Path(directory)
    kind = model.heads[MAIN].kind
    flat = {
        name: np.asarray(x).astype(model.origin.dtypes.get(name, np.float32), copy=False)
        for name, x in tree.unstack(jax.tree.map(np.asarray, params)).items()
    }
    tensors = names.to_file(flat, model.family, kind)
    prefix = "" if kind == "feature-extraction" else f"{model.family.prefix}."
    buffers = {prefix + n.removeprefix(f"{model.family.prefix}."): x for n, x in model.origin.buffers.items()}
    config = dict(model.hf_config) | {"architectures": [model.family.architectures[kind]]}
    writers: dict[str, Any] = {
        "config.json": lambda p: p.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"),
        files.SAFETENSORS: partial(files.write_safetensors, tensors | buffers),
    }
    if flax:
        writers[files.MSGPACK] = partial(files.write_msgpack, names.to_file(flat, model.family, kind, flax=True))
    for path in source.tokenizer_files(model.directory) if model.directory else []:
        if path.resolve().parent != directory.resolve():
            writers[path.name] = partial(shutil.copyfile, path)
    files.write_directory(directory, writers)


def labels_of(hf_config: Mapping[str, Any]) -> list[str]:
    """Label names in the order of their ids (Hugging Face's default is LABEL_0 and LABEL_1)."""
    id2label = hf_config.get("id2label")
    if id2label:
        try:
            return [str(id2label[key]) for key in sorted(id2label, key=int)]
        except (TypeError, ValueError) as error:
            raise UserError(f"config.json: id2label is {id2label!r}: must map numbers to names") from error
    return [f"LABEL_{i}" for i in range(hf_config.get("num_labels", hf_config.get("_num_labels", 2)))]


def are_generic(labels: Sequence[str]) -> bool:
    """Whether nobody has named these labels."""
    return list(labels) == [f"LABEL_{i}" for i in range(len(labels))]


def rates_of(hf_config: Mapping[str, Any], config: Any) -> Rates:
    """The dropout rates that a config.json asks for."""
    classifier = hf_config.get("classifier_dropout")
    return Rates(config.dropout, config.attention_dropout, config.dropout if classifier is None else classifier)


def default_unroll(num_layers: int) -> int:
    """Layers to unroll. Measured on CPU (benchmarks/step.py): a full unroll saves the scan's copies of activations."""
    return min(num_layers, 12)


def _with_labels(
    family: families.Family, kind: str, hf_config: dict[str, Any], num_labels: int | None, labels: Sequence[str] | None
) -> tuple[dict[str, Any], bool]:
    """(config.json with the labels of the head that will be, whether that head is new)."""
    if kind == "feature-extraction":
        return hf_config, False
    have = labels_of(hf_config)
    if labels is None:
        labels = have if num_labels in (None, len(have)) else [f"LABEL_{i}" for i in range(num_labels or 0)]
    if num_labels is not None and num_labels != len(labels):
        raise UserError(f"num_labels is {num_labels} but {len(labels)} labels are named")
    if not labels or len(set(labels)) < len(labels):
        raise UserError(f"labels must be one or more different names, got {some(list(labels))}")
    same_kind = families.kind_of(family, hf_config) == kind
    if same_kind and (list(labels) == have or (len(labels) == len(have) and are_generic(labels))):
        return hf_config, False
    named = {"id2label": {str(i): x for i, x in enumerate(labels)}, "label2id": {x: i for i, x in enumerate(labels)}}
    return hf_config | named, True


def _unstacked_shapes(abstract: Params) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path, leaf in tree.flatten(abstract).items():
        shape = leaf.shape[1:] if tree.is_stacked(path) else leaf.shape
        shapes |= dict.fromkeys(tree.names(path), tuple(shape))
    return shapes


def _check_ranges(model: Model, arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
    config = model.encoder.config
    limits = {
        "input_ids": (config.vocab_size, "vocabulary"),
        "token_type_ids": (config.type_vocab_size, "type vocabulary"),
        "position_ids": (config.max_positions, "positions"),
    }
    for name, (size, what) in limits.items():
        if name in arrays and arrays[name].size and not 0 <= arrays[name].min() <= arrays[name].max() < size:
            raise UserError(f"{name} holds {arrays[name].max()} but the {what} of this model ends at {size - 1}")
    if "position_ids" not in arrays and shape[1] > config.max_positions:
        raise UserError(f"rows of {shape[1]} tokens, but this model has {config.max_positions} positions")


@partial(jax.jit, static_argnames="model")
def _forward(model: Model, params: Params, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return model.apply(params, batch)
