"""Loads models from files, and saves them as Hugging Face directories."""

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
from jaxft.core.paths import check_url
from jaxft.core.tree import Params
from jaxft.core.upload import written_directory
from jaxft.models import families, student, vocab_resize
from jaxft.models.encoder import adapters
from jaxft.models.encoder.config import Policy
from jaxft.models.families.family import Family
from jaxft.models.heads import LABELS
from jaxft.models.model import MAIN, Model, Origin, are_generic, labels_of, make_model
from jaxft.models.peft import adapter_names, read_adapter, save_adapter
from jaxft.models.weights import tensor_files
from jaxft.models.weights.flax_msgpack import write_msgpack
from jaxft.models.weights.merge import MatchedTensors, Report, StoredModel

DTYPES = ("float32", "bfloat16")
_PRETRAINING = {"pretraining", "fill-mask", "next-sentence-prediction"}  # tasks whose heads share parts


def load(
    path: str,
    task: str | None = None,
    num_labels: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    renamed: bool = False,
    revision: str | None = None,
    num_layers: int | None = None,
    layers: Sequence[int] | str | None = None,
    config: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    unroll: int | None = None,
    seed: int = 0,
    from_scratch: bool = False,
) -> tuple[Model, Params]:
    """Loads a model and its parameters (numpy float32, layers stacked).

    Args:
      path: directory, hub id, or `package:NAME/SUBDIR`; the base of an adapter directory (PEFT's) is loaded, too.
      task: Hugging Face task name; None takes the checkpoint's head.
      num_labels: number of labels; if it differs from the checkpoint's, the head is new.
      labels: label names. If they differ from the checkpoint's, the head is new; if only the order differs, the outputs of
        the checkpoint's head are reordered.
      renamed: if the names differ but not their number, they are new names for the outputs of the checkpoint's head.
      revision: branch, tag or commit of a hub id.
      num_layers: keep only the first `num_layers` layers.
      layers: keep only these layers, counted from 0, or those of a rule: `last 3`, `every 2`, `uniform 6` (see
        `student.chosen_layers`).
      config: other values for fields of config.json, of a model from scratch.
      dtype: `float32` or `bfloat16`, of activations and matrix products.
      unroll: layers per iteration of the scan over layers; None takes the best number for the device.
      seed: seed for newly initialised parameters.
      from_scratch: initialise all parameters; only config.json is read from the directory.

    Raises:
      UserError: if files are missing, damaged, of an unknown kind, or do not fit together.
    """
    backend.prepare()
    if dtype not in DTYPES:
        raise UserError(f'dtype is "{dtype}": must be one of {", ".join(DTYPES)}')
    directory = model_source.resolve(path, revision)
    if read_adapter.is_adapter_directory(directory):
        if num_layers is not None or layers is not None or from_scratch:
            raise UserError(
                f"{path}: is an adapter, which neither num_layers nor layers nor from_scratch fits; merge it first"
            )
        stored = read_adapter.open_adapter(directory)
        kind = task or stored.kind
        if kind == stored.kind and num_labels is None and labels is None:
            labels = stored.labels
        more = {"num_layers": _fewer_layers(stored), "dtype": dtype, "unroll": unroll, "seed": seed}
        base = stored.config
        loaded = load(base.base, kind, num_labels, labels=labels, revision=base.revision, **more)
        return read_adapter.attach_adapter(stored, *read_adapter.resize_vocabulary(stored, *loaded))
    where = str(directory / "config.json")
    if config and not from_scratch:
        raise UserError(f"{path}: its weights have the sizes of config.json: other ones (config) need from_scratch")
    hf_config = student.with_changes(tensor_files.read_model_config(directory), config or {}, where)
    family = families.family_of(hf_config, where)
    kind = task or families.kind_of(family, hf_config) or "feature-extraction"
    kept = None
    if num_layers is not None or layers is not None:
        if num_layers is not None and layers is not None:
            raise UserError("num_layers and layers exclude each other: layers: first N is num_layers: N")
        given = layers if layers is not None else num_layers or 0
        hf_config, kept = student.with_layers(family, hf_config, given, path, where)
    before = labels_of(hf_config)
    hf_config, new_head = _with_labels(family, kind, hf_config, num_labels, labels, renamed)
    model = replace(make_model(hf_config, kind, where, policy=Policy(dtype, unroll)), directory=directory)
    if from_scratch:
        _check_memory(model.abstract(), where)
        params = jax.tree.map(np.asarray, jax.jit(model.init)(random_keys.root_key(seed)))
        return replace(model, report=Report(0, ("all parameters",), ())), params
    stored, layout = tensor_files.open_weights(directory)
    if model.encoder.config.parameter_layers > len(stored):
        raise UserError(
            f"{directory}: weights and config.json do not fit; config.json has {model.encoder.config.parameter_layers:,} "
            f"layers, the weights are {len(stored):,} tensors"
        )
    abstract = model.abstract()
    expected = {name: x.shape for name, x in tree.unstacked_shapes(abstract).items()}
    last_layer = [name for name in expected if name.startswith("heads.") and ".classifier." in name]
    checkpoint = StoredModel(stored, layout, model.naming, str(directory))
    matched = checkpoint.match(expected, fresh=last_layer if new_head else (), layers=kept)
    fresh = model.initialised(matched.report.new, seed)
    params = tree.map_with_path(lambda path, leaf: _load_leaf(path, leaf, matched, fresh), abstract)
    after = labels_of(hf_config)
    if not new_head and before != after and set(before) == set(after):
        order = [before.index(label) for label in after]
        params = tree.map_with_path(lambda p, x: x[..., order] if tree.names(p)[0] in last_layer else x, params)
    origin = Origin(
        dtypes={name: tensor.dtype for name, tensor in matched.tensors.items()},
        buffers={name: tensor.read() for name, tensor in matched.buffers.items()},
        copies=matched.copies,
    )
    return replace(model, origin=origin, report=replace(matched.report, layers=tuple(kept or ()))), params


def reinitialise(model: Model, params: Params, names: Sequence[str], seed: int) -> tuple[Model, Params]:
    """Initialises parameters (dotted names) again, with the distributions of `init`, and adds them to the model's report.

    `params` are numpy arrays; or shapes, which are returned unchanged.
    """
    if not names:
        return model, params
    model = replace(model, report=replace(model.report or Report(0, (), ()), reinitialised=tuple(names)))
    if isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct):
        return model, params
    return model, tree.restack(tree.unstack(params) | model.initialised(names, seed), params)


def merge(model: Model, params: Params) -> tuple[Model, Params]:
    """Merges LoRA into the kernels, as `W + scale A B` or by DoRA's formula, and returns a model without adapters.

    Args:
      model, params: from `load`, or trained.

    Returns:
      The model and its parameters, numpy float32.

    Raises:
      UserError: if there is no LoRA to merge.
    """
    lora = model.encoder.config.lora
    if lora is None:
        has = "bottleneck adapters, which are separate layers" if model.adapted else "no adapters"
        raise UserError(f"nothing to merge: the model has {has}")
    merged = read_adapter.with_adapters(model, None, None)
    # Merged kernels are float32, whatever the dtype of the base.
    return replace(merged, origin=replace(model.origin, dtypes={})), adapters.merge(jax.tree.map(np.asarray, params), lora)


def save(model: Model, params: Params, directory: str | Path, *, flax: bool = False, checksums: bool = False) -> None:
    """Writes config.json, model.safetensors and the tokenizer's files; `flax` adds flax_model.msgpack.

    Rows of new words that are separate leaves are joined to their tables. For a model with adapters, this writes an adapter
    directory instead (see `peft`), without model.safetensors; `merge` it first to write a model directory.

    Args:
      model, params: from `load`, or trained; arrays on any device. They are stored in the types of the checkpoint's tensors.
      directory: is made if it does not exist; it may be a URL (gs://bucket/model).
      flax: also write the weights as Hugging Face's Flax classes read them.
      checksums: also write checksums.json, by which `load` notices a file that has been damaged, or changed.

    Raises:
      UserError: if the disk is full or read-only, or Hugging Face's Flax never had the family; existing files are then
        unchanged.
    """
    check_url("the directory to save to", str(directory))
    with written_directory(str(directory)) as local:
        _save(model, params, local, flax=flax, checksums=checksums)


def _save(model: Model, params: Params, directory: Path, *, flax: bool, checksums: bool) -> None:
    kind, family, naming = model.heads[MAIN].kind, model.family, model.naming
    if flax and not family.flax:
        raise UserError(
            f"{directory}: Hugging Face's Flax has no {model.hf_config['model_type']}, so none reads its msgpack"
        )
    params = jax.tree.map(np.asarray, params)
    config = dict(model.hf_config) | {"architectures": [family.classes[kind]]}
    writers: dict[str, Any] = {"config.json": partial(tensor_files.write_json, config)}
    for path in model_source.tokenizer_files(model.directory) if model.directory else []:
        if path.resolve().parent != directory.resolve():
            writers[path.name] = partial(shutil.copyfile, path)
    params = vocab_resize.join_rows(params)
    if model.adapted:
        if flax:
            raise UserError(f"{directory}: an adapter has no msgpack; merge it first")
        if (directory / "config.json").is_file() and not read_adapter.is_adapter_directory(directory):
            raise UserError(f"{directory}: contains a complete model; give the adapter another directory")
        writers |= save_adapter.adapter_writers(model, params)
        tensor_files.write_directory(directory, writers, manifest=checksums)
        return
    flat = {name: np.asarray(x, model.origin.dtypes.get(name, np.float32)) for name, x in tree.unstack(params).items()}
    tensors = {naming.hf_name(name): x.T if name.endswith(".kernel") else x for name, x in flat.items()}
    tensors |= {copy: flat[of] for copy, of in model.origin.copies.items() if of in flat}
    unused_biases = naming.unused_biases()
    tensors |= {name: flat[of] for name, of in unused_biases.items() if of in flat}
    for name, x in model.origin.buffers.items():
        bare = name.removeprefix(f"{family.prefix}.")
        tensors[name if name in unused_biases else naming.prefix + bare] = x
    writers[tensor_files.SAFETENSORS] = partial(tensor_files.write_safetensors, tensors)
    if flax:
        flax_tensors = {naming.hf_name(name, flax=True): x for name, x in flat.items()}
        writers[tensor_files.MSGPACK] = partial(write_msgpack, flax_tensors)
    stale = (read_adapter.CONFIG, adapter_names.WEIGHTS)
    tensor_files.write_directory(directory, writers, remove=stale, manifest=checksums)


def _fewer_layers(stored: read_adapter.AdapterDirectory) -> int | None:
    """The number of layers of the adapted model if the base has more, else None."""
    base_config = tensor_files.read_model_config(model_source.resolve(stored.config.base, stored.config.revision))
    base, adapted = (
        families.family_of(x, str(stored.path)).encoder_config(x, "").num_layers for x in (base_config, stored.hf_config)
    )
    return adapted if adapted < base else None


def _load_leaf(path: tree.Path, leaf: Any, matched: MatchedTensors, fresh: Mapping[str, np.ndarray]) -> np.ndarray:
    """Reads one parameter, tensor by tensor into its stack, so that a checkpoint is in memory only once."""

    def value(name: str) -> np.ndarray:
        return matched.read(name) if name in matched.tensors else fresh[name]

    dotted = tree.names(path)
    if not tree.is_stacked(path):
        return np.ascontiguousarray(value(dotted[0]), np.float32)
    array = np.empty(leaf.shape, np.float32)
    for i, name in enumerate(dotted):
        array[i] = value(name)
    return array


def _with_labels(
    family: Family, kind: str, hf_config: dict[str, Any], num_labels: int | None, labels: Sequence[str] | None, renamed: bool
) -> tuple[dict[str, Any], bool]:
    """(config.json with the labels of the new head, whether the last layer of that head is new).

    Layers before the last are loaded if the checkpoint has them, as in Hugging Face.
    """
    checkpoint_kind = families.kind_of(family, hf_config)
    same_kind = checkpoint_kind == kind or {checkpoint_kind, kind} <= _PRETRAINING
    if not any(part.outputs == LABELS for part in family.heads.get(kind, {}).values()):
        if num_labels is not None or labels is not None:
            raise UserError(f'num_labels and labels have no meaning for task "{kind}", which has no labels')
        # In Hugging Face the two outputs are start and end.
        if kind == "question-answering" and len(labels_of(hf_config)) != 2:
            drop = ("id2label", "label2id", "num_labels", "_num_labels")
            return {name: x for name, x in hf_config.items() if name not in drop}, not same_kind
        return hf_config, not same_kind
    old_labels = labels_of(hf_config)
    if labels is None:
        labels = old_labels if num_labels in (None, len(old_labels)) else [f"LABEL_{i}" for i in range(num_labels or 0)]
    if num_labels is not None and num_labels != len(labels):
        raise UserError(f"num_labels is {num_labels} but {len(labels)} labels are named")
    if not labels or len(set(labels)) < len(labels):
        raise UserError(f"labels must be one or more different names, got {some(list(labels))}")
    same_number = len(labels) == len(old_labels)
    if same_kind and (list(labels) == old_labels or (same_number and are_generic(labels))):
        return hf_config, False
    named = {"id2label": {str(i): x for i, x in enumerate(labels)}, "label2id": {x: i for i, x in enumerate(labels)}}
    same_outputs = set(labels) == set(old_labels) or (renamed and same_number)
    return hf_config | named, not (same_kind and same_outputs)


def _check_memory(abstract: Params, where: str) -> None:
    """Raises a UserError if the parameters do not fit into this machine's memory."""
    needed = 4 * tree.count(abstract)
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else sys.maxsize
    if needed > available:
        raise UserError(
            f"{where}: asks for {needed / 1e9:,.0f} GB of parameters; this machine has {available / 1e9:,.0f} GB"
        )
