"""The door: `load` a model from files, `save` it as a Hugging Face directory."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.core import backend, model_source, random_keys, tree
from jaxft.core.errors import UserError, some
from jaxft.core.tree import Params
from jaxft.core.urls import refuse_url
from jaxft.models import families, vocab_resize
from jaxft.models.encoder import adapters
from jaxft.models.encoder.config import Policy
from jaxft.models.families.family import Family
from jaxft.models.heads import LABELS
from jaxft.models.model import MAIN, Model, Origin, are_generic, labels_of, make_model
from jaxft.models.peft import adapter_names, read_adapter, save_adapter
from jaxft.models.weights import tensor_files
from jaxft.models.weights.flax_msgpack import write_msgpack
from jaxft.models.weights.merge import Checkpoint, Found, Report

DTYPES = ("float32", "bfloat16")
_PRETRAINING = {"pretraining", "fill-mask", "next-sentence-prediction"}  # heads that have parts in common


def load(
    path: str,
    task: str | None = None,
    num_labels: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    renamed: bool = False,
    revision: str | None = None,
    num_layers: int | None = None,
    dtype: str = "float32",
    unroll: int | None = None,
    seed: int = 0,
    from_scratch: bool = False,
) -> tuple[Model, Params]:
    """A model and its parameters (numpy float32, layers stacked).

    Args:
      path: directory, hub id, or `package:NAME/SUBDIR`; an adapter directory (PEFT's) loads the base that it names, too.
      task: Hugging Face task name; None takes the checkpoint's own head.
      num_labels: size of a head; another size than the checkpoint's means a new head.
      labels: label names; other names than the checkpoint's mean a new head, the same in another order its outputs in it.
      renamed: other names are new names for the outputs of the checkpoint's head, if it has as many.
      revision: of a hub id.
      num_layers: keep only the first so many layers.
      dtype: `float32` or `bfloat16`, of activations and matrix products.
      unroll: layers in one turn of the loop over them; None takes the best for the device.
      seed: of what is newly initialised.
      from_scratch: everything is; of the directory only config.json is read.

    Raises:
      UserError: when the files are missing, torn, unknown or do not fit together.
    """
    backend.prepare()
    if dtype not in DTYPES:
        raise UserError(f'dtype is "{dtype}": must be one of {", ".join(DTYPES)}')
    directory = model_source.resolve(path, revision)
    if read_adapter.is_adapter(directory):
        if num_layers is not None or from_scratch:
            raise UserError(f"{path}: is an adapter, which neither num_layers nor from_scratch fits; merge it first")
        stored = read_adapter.open_adapter(directory)
        kind = task or stored.kind
        if kind == stored.kind and num_labels is None and labels is None:
            labels = stored.labels
        more = {"num_layers": _fewer_layers(stored), "dtype": dtype, "unroll": unroll, "seed": seed}
        base = stored.settings
        found = load(base.base, kind, num_labels, labels=labels, revision=base.revision, **more)
        return read_adapter.fit(stored, *read_adapter.with_words(stored, *found))
    hf_config = tensor_files.read_model_config(directory)
    where = str(directory / "config.json")
    family = families.family_of(hf_config, where)
    kind = task or families.kind_of(family, hf_config) or "feature-extraction"
    if num_layers is not None:
        hf_config = _with_depth(family, hf_config, num_layers, path, where)
    before = labels_of(hf_config)
    hf_config, new_head = _with_labels(family, kind, hf_config, num_labels, labels, renamed)
    model = make_model(hf_config, kind, where)
    model = replace(model, policy=Policy(dtype, unroll), directory=directory)
    if from_scratch:
        abstract = model.abstract()
        _check_memory(abstract, where)
        params = jax.tree.map(np.asarray, jax.jit(model.init)(random_keys.root_key(seed)))
        return replace(model, report=Report(0, ("all parameters",), ())), params
    stored, layout = tensor_files.open_weights(directory)
    if model.encoder.config.parameter_layers > len(stored):
        raise UserError(
            f"{directory}: weights and config.json do not fit; config.json has {model.encoder.config.parameter_layers:,} "
            f"layers, the weights are {len(stored):,} tensors"
        )
    abstract = model.abstract()
    expected = _unstacked_shapes(abstract)
    last_layer = [name for name in expected if name.startswith("heads.") and ".classifier." in name]
    checkpoint = Checkpoint(stored, layout, model.naming, str(directory))
    found = checkpoint.find(expected, fresh=last_layer if new_head else (), dropped_layers=num_layers is not None)
    fresh = model.initialised(found.report.new, seed)
    params = tree.map_with_path(lambda path, leaf: _leaf(path, leaf, found, fresh), abstract)
    if not new_head and (order := _order(before, labels_of(hf_config))):
        params = tree.map_with_path(lambda p, x: x[..., order] if tree.names(p)[0] in last_layer else x, params)
    origin = Origin(
        dtypes={name: tensor.dtype for name, tensor in found.tensors.items()},
        buffers={name: tensor.read() for name, tensor in found.buffers.items()},
        copies=found.copies,
    )
    return replace(model, origin=origin, report=found.report), params


def reinitialise(model: Model, params: Params, names: Sequence[str], seed: int) -> tuple[Model, Params]:
    """The model with new values for some parameters (dotted names), as `init` draws them; its report says so.

    Args:
      model: to be given new values.
      params: numpy arrays, or shapes, which stay as they are.
      names: of the parameters.
      seed: of the values.
    """
    if not names:
        return model, params
    model = replace(model, report=replace(model.report or Report(0, (), ()), again=tuple(names)))
    if isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct):
        return model, params
    return model, tree.restack(tree.unstack(params) | model.initialised(names, seed), params)


def merge(model: Model, params: Params) -> tuple[Model, Params]:
    """The ordinary model that does what one with LoRA does: its kernels are `W + scale A B`, or DoRA's.

    Raises:
      UserError: when there is no LoRA to merge.
    """
    lora = model.encoder.config.lora
    if lora is None:
        has = "bottleneck adapters, which are layers of their own" if model.adapted else "no adapters"
        raise UserError(f"nothing to merge: the model has {has}")
    merged = read_adapter.with_adapters(model, None, None)
    # Sums are float32, whatever type the base had.
    return replace(merged, origin=replace(model.origin, dtypes={})), adapters.merge(jax.tree.map(np.asarray, params), lora)


def save(model: Model, params: Params, directory: str | Path, *, flax: bool = False) -> None:
    """Write config.json, model.safetensors and the tokenizer's files; `flax` adds flax_model.msgpack.

    Rows of new words that are leaves of their own go back into their tables. Of a model with adapters, write an adapter
    directory in place of model.safetensors (see `peft`); `merge` it first for an ordinary one.

    Raises:
      UserError: when the disk is full or read-only, or Hugging Face's Flax never had the family; nothing is
        half-written then.
    """
    refuse_url("the directory to save to", str(directory))
    directory = Path(directory)
    kind, family, naming = model.heads[MAIN].kind, model.family, model.naming
    if flax and not family.flax:
        raise UserError(
            f"{directory}: Hugging Face's Flax has no {model.hf_config['model_type']}, so none reads its msgpack"
        )
    params = jax.tree.map(np.asarray, params)
    config = dict(model.hf_config) | {"architectures": [family.classes[kind]]}
    writers: dict[str, Any] = {
        "config.json": lambda p: p.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"),
    }
    for path in model_source.tokenizer_files(model.directory) if model.directory else []:
        if path.resolve().parent != directory.resolve():
            writers[path.name] = partial(shutil.copyfile, path)
    if model.adapted:
        if flax:
            raise UserError(f"{directory}: an adapter has no msgpack; merge it first")
        if (directory / "config.json").is_file() and not read_adapter.is_adapter(directory):
            raise UserError(f"{directory}: holds a whole model; give an adapter a directory of its own")
        tensor_files.write_directory(
            directory, writers | save_adapter.adapter_writers(model, vocab_resize.join_rows(params))
        )
        return
    flat = {
        name: np.asarray(x).astype(model.origin.dtypes.get(name, np.float32), copy=False)
        for name, x in tree.unstack(vocab_resize.join_rows(params)).items()
    }
    tensors = {naming.theirs(name): x.T if name.endswith(".kernel") else x for name, x in flat.items()}
    tensors |= {copy: flat[of] for copy, of in model.origin.copies.items() if of in flat}
    spare = naming.spare()
    tensors |= {name: flat[of] for name, of in spare.items() if of in flat}
    for name, x in model.origin.buffers.items():
        bare = name.removeprefix(f"{family.prefix}.")
        tensors[name if name in spare else naming.prefix + bare] = x
    writers[tensor_files.SAFETENSORS] = partial(tensor_files.write_safetensors, tensors)
    if flax:
        written = {naming.theirs(name, flax=True): x for name, x in flat.items()}
        writers[tensor_files.MSGPACK] = partial(write_msgpack, written)
    tensor_files.write_directory(directory, writers, remove=(read_adapter.CONFIG, adapter_names.WEIGHTS))


def _fewer_layers(stored: read_adapter.AdapterDirectory) -> int | None:
    """How many layers of the base the adapted model has, if not all."""
    base = tensor_files.read_model_config(model_source.resolve(stored.settings.base, stored.settings.revision))
    theirs, own = (families.family_of(x, str(stored.path)).encoder_config(x, "") for x in (base, stored.hf_config))
    return own.num_layers if own.num_layers < theirs.num_layers else None


def _leaf(path: tree.Path, leaf: Any, found: Found, fresh: Mapping[str, np.ndarray]) -> np.ndarray:
    """One parameter, read tensor by tensor into its place, so that a checkpoint is in memory only once."""

    def value(name: str) -> np.ndarray:
        return found.read(name) if name in found.tensors else fresh[name]

    dotted = tree.names(path)
    if not tree.is_stacked(path):
        return np.ascontiguousarray(value(dotted[0]), np.float32)
    array = np.empty(leaf.shape, np.float32)
    for i, name in enumerate(dotted):
        array[i] = value(name)
    return array


def _with_depth(family: Family, hf_config: dict[str, Any], num_layers: int, path: str, where: str) -> dict[str, Any]:
    """config.json of the first so many layers."""
    config = family.encoder_config(hf_config, where)
    if not 0 < num_layers <= config.num_layers:
        raise UserError(f"model.num_layers is {num_layers} but {path} has {config.num_layers} layers")
    if config.groups > 1:
        raise UserError(f"model.num_layers: {path} shares {config.groups} groups of layers, which cannot be cut short")
    # Depth goes back under the name it came from.
    shorter = hf_config | {family.fields["num_layers"][0]: num_layers}
    return shorter | ({"layer_types": kinds[:num_layers]} if (kinds := hf_config.get("layer_types")) else {})


def _with_labels(
    family: Family,
    kind: str,
    hf_config: dict[str, Any],
    num_labels: int | None,
    labels: Sequence[str] | None,
    renamed: bool,
) -> tuple[dict[str, Any], bool]:
    """(config.json with the labels of the head that will be, whether the last layer of that head is new).

    What comes before the last layer is loaded if the checkpoint has it, as Hugging Face does.
    """
    own_kind = families.kind_of(family, hf_config)
    same_kind = own_kind == kind or {own_kind, kind} <= _PRETRAINING
    if not any(part.outputs == LABELS for part in family.heads.get(kind, {}).values()):
        if num_labels is not None or labels is not None:
            raise UserError(f'num_labels and labels say nothing to task "{kind}", which has no labels')
        if kind == "question-answering" and len(labels_of(hf_config)) != 2:  # Hugging Face reads start and end from it
            drop = ("id2label", "label2id", "num_labels", "_num_labels")
            return {name: x for name, x in hf_config.items() if name not in drop}, not same_kind
        return hf_config, not same_kind
    have = labels_of(hf_config)
    if labels is None:
        labels = have if num_labels in (None, len(have)) else [f"LABEL_{i}" for i in range(num_labels or 0)]
    if num_labels is not None and num_labels != len(labels):
        raise UserError(f"num_labels is {num_labels} but {len(labels)} labels are named")
    if not labels or len(set(labels)) < len(labels):
        raise UserError(f"labels must be one or more different names, got {some(list(labels))}")
    if same_kind and (list(labels) == have or (len(labels) == len(have) and are_generic(labels))):
        return hf_config, False
    named = {"id2label": {str(i): x for i, x in enumerate(labels)}, "label2id": {x: i for i, x in enumerate(labels)}}
    return hf_config | named, not same_kind or not (set(labels) == set(have) or (renamed and len(labels) == len(have)))


def _order(before: Sequence[str], after: Sequence[str]) -> list[int] | None:
    """Where labels in another order were before."""
    return [before.index(x) for x in after] if before != after and set(before) == set(after) else None


def _check_memory(abstract: Params, where: str) -> None:
    """Refuse parameters that no start could make."""
    needed = 4 * tree.count(abstract)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else sys.maxsize
    if needed > there:
        raise UserError(f"{where}: asks for {needed / 1e9:,.0f} GB of parameters; this machine has {there / 1e9:,.0f} GB")


def _unstacked_shapes(abstract: Params) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path, leaf in tree.flatten(abstract).items():
        shape = leaf.shape[1:] if tree.is_stacked(path) else leaf.shape
        shapes |= dict.fromkeys(tree.names(path), tuple(shape))
    return shapes
