"""Reads PEFT's directory format, adapter_config.json and adapter_model.safetensors, without PEFT.

Tensors are named `base_model.model.` + Hugging Face's name of the module + `.lora_A.weight` [r, in], `.lora_B.weight`
[out, r] or `.lora_magnitude_vector` [out]. Other parameters that differ from the base keep their names (with `.base_layer`
before the leaf in a module with LoRA). Bottleneck adapters, which PEFT lacks, are `.adapter_down` and `.adapter_up`, each
with weight and bias, of the dense layer that they follow. A config.json beside them contains what PEFT's format lacks: the
labels and options of the head.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.core import model_source, tree
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.models import families
from jaxft.models.encoder import adapters
from jaxft.models.encoder.adapters import Adapted, Bottleneck, Lora
from jaxft.models.heads import LABELS
from jaxft.models.model import MAIN, Model, labels_of, make_model
from jaxft.models.peft.adapter_config import CONFIG, AdapterConfig, read_adapter_config
from jaxft.models.peft.adapter_names import ROOT, TRANSPOSED, WEIGHTS, file_name, module_name, parent
from jaxft.models.vocab_resize import Sources, with_vocabulary
from jaxft.models.weights import StoredTensor, tensor_files
from jaxft.models.weights.merge import finite
from jaxft.models.weights.tensor_names import WORDS, Naming, unwrapped


@dataclass(frozen=True)
class AdapterDirectory:
    """An opened adapter directory.

    Attributes:
      config: adapter_config.json.
      hf_config: config.json of the adapted model; if there is none, that of the base with the adapter's head.
      tensors: name in the file, without PEFT's prefix -> tensor.
    """

    path: Path
    config: AdapterConfig
    hf_config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    @property
    def kind(self) -> str:
        """Task of the head."""
        return families.kind_of(families.family_of(self.hf_config, str(self.path)), self.hf_config) or "feature-extraction"

    @property
    def labels(self) -> list[str] | None:
        """Labels of the head; None if it has none."""
        parts = families.family_of(self.hf_config, str(self.path)).heads[self.kind].values()
        return labels_of(self.hf_config) if any(part.outputs == LABELS for part in parts) else None


def is_adapter_directory(directory: Path) -> bool:
    """Whether a directory holds an adapter."""
    return (directory / CONFIG).is_file()


def read_hf_config(directory: Path) -> Mapping[str, Any]:
    """The config.json of a model directory, or of the adapted model of an adapter directory."""
    if is_adapter_directory(directory):
        return open_adapter(directory).hf_config
    return tensor_files.read_model_config(directory)


def open_adapter(directory: Path) -> AdapterDirectory:
    """Opens an adapter directory, reading only headers of the weights.

    Raises:
      UserError: if files are missing or damaged, or the base is not found.
    """
    adapter_config = read_adapter_config(directory)
    if not (directory / WEIGHTS).is_file():
        raise UserError(f"{directory}: has {CONFIG} but no {WEIGHTS}")
    stored = tensor_files.open_safetensors(directory / WEIGHTS)
    # With `bias: all`, PEFT writes the biases of saved modules again, under the names of its wrappers.
    wrapped = (".original_module.", ".modules_to_save.")
    bare = {unwrapped(unwrapped(name).removeprefix(ROOT)): name for name in stored if not any(w in name for w in wrapped)}
    tensors = {name: stored[file_name] for name, file_name in bare.items()}
    try:
        base = model_source.resolve(adapter_config.base, adapter_config.revision)
    except UserError as error:
        raise UserError(
            f"{directory}: its base model cannot be found ({error}); correct base_model_name_or_path in {CONFIG}"
        ) from error
    if is_adapter_directory(base):
        raise UserError(f"{directory}: its base model {base} is an adapter, too; merge that one first")
    if (directory / "config.json").is_file():
        return AdapterDirectory(directory, adapter_config, tensor_files.read_model_config(directory), tensors)
    hf_config = tensor_files.read_model_config(base)
    family = families.family_of(hf_config, str(base / "config.json"))
    kind = adapter_config.task or "feature-extraction"
    if kind not in family.classes:
        raise UserError(f"{directory}: is for {kind}, for which {hf_config['model_type']} has no head")
    config = {**hf_config, "architectures": [family.classes[kind]]}
    for part in family.parts(kind, hf_config, str(base)).values():
        tensor = tensors.get(f"{part.names.get('classifier')}.weight")
        if part.outputs == LABELS and tensor and tensor.shape[0] != len(labels_of(config)):
            config |= {"id2label": {str(i): f"LABEL_{i}" for i in range(tensor.shape[0])}}
    return AdapterDirectory(directory, adapter_config, config, tensors)


def resize_vocabulary(stored: AdapterDirectory, model: Model, params: Params) -> tuple[Model, Params]:
    """Resizes the base's vocabulary to the adapter's number of words if the adapter contains word embeddings.

    `attach_adapter` then loads the rows.
    """
    shape, old = _Reader(stored, model.naming).shape(WORDS), model.encoder.config.vocab_size
    if shape is None or shape[0] == old:
        return model, params
    rows = np.arange(shape[0])
    ids = {field: x for field, x in stored.hf_config.items() if field.endswith("_token_id")}
    return with_vocabulary(model, params, Sources(np.where(rows < old, rows, -1), {}, ids), "mean", 0)


def attach_adapter(stored: AdapterDirectory, model: Model, params: Params) -> tuple[Model, Params]:
    """Loads the adapter's parameters into the base (numpy); its head is loaded if the model's has the same task and labels.

    Smaller ranks are padded with zeros to the largest, and differences of alpha are multiplied into B. The sums are the
    same, and all layers have one rank and scale.

    Raises:
      UserError: naming the first tensor that is not in the base, or has another shape.
    """
    config, naming = stored.config, model.naming
    use_head = model.heads[MAIN].kind == stored.kind and (stored.labels is None or stored.labels == model.labels)
    reader, flat = _Reader(stored, naming), tree.unstack(params)
    kind, loaded = config.kind, {}
    dense = [name for name in adapters.dense_modules(params) if use_head or not name.startswith("heads.")]
    if isinstance(kind, Bottleneck):
        dense = [m for m in dense if m.endswith(".dense")]
        downs = {m: f"{parent(m)}.{adapters.ADAPTER}.down.kernel" for m in dense}
        modules = [m for m in dense if reader.has(downs[m])]
        if wrong := [shape for m in modules if (shape := reader.shape(downs[m])) and shape[0] != kind.size]:
            raise UserError(f"{reader.where}: a bottleneck is {list(wrong[0])}, {CONFIG} has the size {kind.size}")
    else:
        modules = [m for m in dense if reader.has(f"{m}.lora_a")]
        without = [m for m in dense if m.startswith("encoder.") and m not in modules]
        expected = config.expected([module_name(naming, m) for m in without])
        missing = [m for m, is_expected in zip(without, expected, strict=True) if is_expected]
        if missing and modules:
            raise UserError(
                f"{reader.where}: lacks {reader.key(f'{missing[0]}.lora_a')}, which target_modules of {CONFIG} asks for: "
                f"the adapter was made for another model than {config.base}"
            )
    if isinstance(kind, Lora) and modules:
        ranks = {module: reader.rank(module) for module in modules}
        kind = replace(kind, rank=max(ranks.values()))
        scales = config.scales({module_name(naming, module): rank for module, rank in ranks.items()})
        for module, rank in ranks.items():
            size, out = flat[f"{module}.kernel"].shape
            a, b = (reader.take(f"{module}.{x}", s) for x, s in (("lora_a", (size, rank)), ("lora_b", (rank, out))))
            padding = kind.rank - rank
            loaded[f"{module}.lora_a"] = np.pad(a, ((0, 0), (0, padding)))
            scale = scales[module_name(naming, module)] / kind.scale if kind.scale else 1.0
            loaded[f"{module}.lora_b"] = np.pad(b, ((0, padding), (0, 0))) * np.float32(scale)
            if kind.dora:
                loaded[f"{module}.magnitude"] = reader.take(f"{module}.magnitude", (out,))
    adapted = adapters.add(params, modules, kind)
    if isinstance(kind, Bottleneck):
        loaded = {n: reader.take(n, x.shape) for n, x in tree.unstack(adapted).items() if adapters.is_adapter(n)}
    others = [name for name in flat if reader.has(name) and (use_head or not name.startswith("heads."))]
    loaded |= {name: reader.take(name, flat[name].shape) for name in others}
    reader.check_all_taken(() if use_head else _head_modules(stored))
    if not modules:
        raise UserError(f"{stored.path / WEIGHTS}: holds no adapter")
    report = model.report
    if report:
        new = tuple(name for name in report.new if name not in loaded)
        report = replace(report, loaded=report.loaded + len(loaded), new=new)
    model = replace(
        with_adapters(model, kind, Adapted(tuple(modules), config.base, config.revision, frozenset(others))),
        hf_config=stored.hf_config if use_head else model.hf_config,
        directory=stored.path if model_source.tokenizer_files(stored.path) else model.directory,
        origin=replace(model.origin, dtypes={**model.origin.dtypes, **reader.dtypes}),
        report=report,
    )

    def leaf(path: tree.Path, x: np.ndarray) -> np.ndarray:
        names = tree.names(path)
        if not any(name in loaded for name in names):
            return x
        if not tree.is_stacked(path):
            return np.ascontiguousarray(loaded[names[0]], np.float32)
        return np.stack([loaded[name] if name in loaded else x[i] for i, name in enumerate(names)]).astype(np.float32)

    return model, tree.map_with_path(leaf, adapted)


def with_adapters(model: Model, kind: Lora | Bottleneck | None, adapted: Adapted | None) -> Model:
    """The model with adapters, or without if `kind` is None; parameters are not changed."""
    encoder = replace(model.encoder, config=replace(model.encoder.config, adapter=kind))
    return replace(model, encoder=encoder, adapted=adapted)


class _Reader:
    """Reads the tensors of an adapter directory by our names, each of them once."""

    def __init__(self, stored: AdapterDirectory, naming: Naming) -> None:
        self.where, self.base, self.naming = stored.path / WEIGHTS, stored.config.base, naming
        self.prefix = f"{naming.family.prefix}."  # removed, since models without a head do not have it
        self.remaining = {name.removeprefix(self.prefix): (name, tensor) for name, tensor in stored.tensors.items()}
        self.dtypes: dict[str, np.dtype] = {}

    def key(self, name: str) -> str:
        """The name in the file of a parameter, without prefixes."""
        plain, in_base = (file_name(self.naming, name, x).removeprefix(self.prefix) for x in ((), {parent(name)}))
        return in_base if in_base in self.remaining else plain

    def has(self, name: str) -> bool:
        return self.key(name) in self.remaining

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape in the file; None if the parameter is not there."""
        return tuple(self.remaining[self.key(name)][1].shape) if self.has(name) else None

    def rank(self, module: str) -> int:
        shape = self.remaining[self.key(f"{module}.lora_a")][1].shape
        return shape[0] if len(shape) == 2 else 0

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Reads a parameter of a given shape, in our layout, as float32."""
        key = self.key(name)
        if key not in self.remaining:
            raise UserError(f"{self.where}: lacks {key}")
        stored_name, tensor = self.remaining.pop(key)
        transposed = name.endswith(TRANSPOSED)
        expected = shape[::-1] if transposed else shape
        if tensor.shape != expected or 0 in tensor.shape:
            raise UserError(
                f"{self.where}: {stored_name} is {list(tensor.shape)}, the base model {self.base} asks for {list(expected)}"
            )
        self.dtypes[name] = tensor.dtype
        x = finite(tensor.read(), str(self.where), stored_name).astype(np.float32)
        return x.T if transposed else x

    def check_all_taken(self, ignored: Collection[str]) -> None:
        """Raises a UserError for a tensor that was not read, except those of some modules (Hugging Face's names)."""
        if unknown := [key for key in self.remaining if not key.startswith(tuple(f"{name}." for name in ignored))]:
            name, tensor = self.remaining[unknown[0]]
            raise UserError(
                f"{self.where}: {name} {list(tensor.shape)} is not in the base model {self.base}: the adapter was "
                "made for another model, or with an option that jaxft does not support"
            )


def _head_modules(stored: AdapterDirectory) -> set[str]:
    """Hugging Face's names of the modules of the adapter's head."""
    model = make_model(stored.hf_config, stored.kind, str(stored.path))
    names = tree.all_names(model.abstract())
    return {module_name(model.naming, parent(name)) for name in names if name.startswith("heads.")}
