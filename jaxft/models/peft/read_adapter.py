"""PEFT's directory format: adapter_config.json and adapter_model.safetensors, read and written without PEFT.

Tensors are called `base_model.model.` + Hugging Face's name of the module + what is stored of it: `.lora_A.weight` [r, in],
`.lora_B.weight` [out, r], `.lora_magnitude_vector` [out]; other parameters that are not as in the base keep their names
(`.base_layer` stands before the leaf of a module with LoRA). Bottleneck adapters, which PEFT lacks, are `.adapter_down`
and `.adapter_up`, each with weight and bias, of the dense layer that they stand behind. A config.json beside them says what
PEFT's format does not: the labels and options of the head.
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
from jaxft.models.peft.adapter_config import CONFIG, Settings, read_settings
from jaxft.models.peft.adapter_names import ROOT, TRANSPOSED, WEIGHTS, file_name, module_name, parent
from jaxft.models.vocab_resize import Sources, with_vocabulary
from jaxft.models.weights import tensor_files
from jaxft.models.weights.merge import finite
from jaxft.models.weights.stored_tensor import Stored
from jaxft.models.weights.tensor_names import Naming, unwrapped


@dataclass(frozen=True)
class AdapterDirectory:
    """An adapter directory, opened.

    Attributes:
      path: where it is.
      settings: adapter_config.json.
      hf_config: config.json of the adapted model; where there is none, the base's with the head that the adapter has.
      tensors: as stored, without what PEFT puts before every name.
    """

    path: Path
    settings: Settings
    hf_config: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    @property
    def kind(self) -> str:
        """Task of the head."""
        family = families.family_of(self.hf_config, str(self.path))
        return families.kind_of(family, self.hf_config) or "feature-extraction"

    @property
    def labels(self) -> list[str] | None:
        """Of the head, if it has any."""
        parts = families.family_of(self.hf_config, str(self.path)).heads[self.kind].values()
        return labels_of(self.hf_config) if any(part.outputs == LABELS for part in parts) else None


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter."""
    return (directory / CONFIG).is_file()


def read_config(directory: Path) -> Mapping[str, Any]:
    """config.json of a model directory, or of the adapted model of an adapter directory."""
    return open_adapter(directory).hf_config if is_adapter(directory) else tensor_files.read_model_config(directory)


def open_adapter(directory: Path) -> AdapterDirectory:
    """Open an adapter directory; of the weights only headers are read.

    Raises:
      UserError: when files are missing or torn, or the base is not where it was.
    """
    settings = read_settings(directory)
    if not (directory / WEIGHTS).is_file():
        raise UserError(f"{directory}: has {CONFIG} but no {WEIGHTS}")
    stored = tensor_files.open_safetensors(directory / WEIGHTS)
    # With bias: all PEFT writes the biases of saved modules once more, under the names of its wrappers.
    wrapped = (".original_module.", ".modules_to_save.")
    bare = {unwrapped(unwrapped(name).removeprefix(ROOT)): name for name in stored if not any(w in name for w in wrapped)}
    tensors = {name: stored[theirs] for name, theirs in bare.items()}
    try:
        base = model_source.resolve(settings.base, settings.revision)
    except UserError as error:
        raise UserError(
            f"{directory}: its base model cannot be found ({error}); put base_model_name_or_path in {CONFIG} right"
        ) from error
    if is_adapter(base):
        raise UserError(f"{directory}: its base model {base} is an adapter, too; merge that one first")
    if (directory / "config.json").is_file():
        return AdapterDirectory(directory, settings, tensor_files.read_model_config(directory), tensors)
    hf_config = tensor_files.read_model_config(base)
    family = families.family_of(hf_config, str(base / "config.json"))
    kind = settings.task or "feature-extraction"
    if kind not in family.classes:
        raise UserError(f"{directory}: is for {kind}, for which {hf_config['model_type']} has no head")
    config = {**hf_config, "architectures": [family.classes[kind]]}
    for part in family.parts(kind, hf_config, str(base)).values():
        tensor = tensors.get(f"{part.names.get('classifier')}.weight")
        if part.outputs == LABELS and tensor and tensor.shape[0] != len(labels_of(config)):
            config |= {"id2label": {str(i): f"LABEL_{i}" for i in range(tensor.shape[0])}}
    return AdapterDirectory(directory, settings, config, tensors)


def with_words(stored: AdapterDirectory, model: Model, params: Params) -> tuple[Model, Params]:
    """The base with as many words as the adapter has rows for, where the adapter holds them (`fit` puts them there)."""
    reader, name = _Reader(stored, model.naming), "encoder.embeddings.word_embeddings.embedding"
    shape = reader.shape(name)
    old = model.encoder.config.vocab_size
    if shape is None or shape[0] == old:
        return model, params
    rows = np.arange(shape[0])
    ids = {field: x for field, x in stored.hf_config.items() if field.endswith("_token_id")}
    return with_vocabulary(model, params, Sources(np.where(rows < old, rows, -1), {}, ids), "mean", 0)


def fit(stored: AdapterDirectory, model: Model, params: Params) -> tuple[Model, Params]:
    """The base with the adapter's parameters; the head is the adapter's if the model's is of its kind and labels.

    Ranks that differ are filled up with zeros to the largest, and alphas that differ go into B: the sums stay what they
    are, and all layers have one scale.

    Args:
      stored: from `open_adapter`.
      model, params: the base, numpy.

    Raises:
      UserError: naming the first tensor that has no place in the base, or another shape.
    """
    settings, naming = stored.settings, model.naming
    own_head = model.heads[MAIN].kind == stored.kind and (stored.labels is None or stored.labels == model.labels)
    reader, flat = _Reader(stored, naming), tree.unstack(params)
    kind, found = settings.kind, {}
    dense = [name for name in adapters.dense_modules(params) if own_head or not name.startswith("heads.")]
    if isinstance(kind, Bottleneck):
        dense = [m for m in dense if m.endswith(".dense")]
        downs = {m: f"{parent(m)}.{adapters.ADAPTER}.down.kernel" for m in dense}
        modules = [m for m in dense if reader.has(downs[m])]
        if wrong := [shape for m in modules if (shape := reader.shape(downs[m])) and shape[0] != kind.size]:
            raise UserError(f"{reader.where}: a bottleneck is {list(wrong[0])}, {CONFIG} has the size {kind.size}")
    else:
        modules = [m for m in dense if reader.has(f"{m}.lora_a")]
        bare = [m for m in dense if m.startswith("encoder.") and m not in modules]
        expected = settings.expected([module_name(naming, m) for m in bare])
        bare = [m for m, wanted in zip(bare, expected, strict=True) if wanted]
        if bare and modules:
            raise UserError(
                f"{reader.where}: lacks {reader.place(f'{bare[0]}.lora_a')}, which target_modules of {CONFIG} asks for: the "
                f"adapter was made for another model than {settings.base}"
            )
    if isinstance(kind, Lora) and modules:
        ranks = {module: reader.rank(module) for module in modules}
        kind = replace(kind, rank=max(ranks.values()))
        scales = settings.scales({module_name(naming, module): rank for module, rank in ranks.items()})
        for module, rank in ranks.items():
            size, out = flat[f"{module}.kernel"].shape
            a, b = (reader.take(f"{module}.{x}", s) for x, s in (("lora_a", (size, rank)), ("lora_b", (rank, out))))
            spare = kind.rank - rank
            found[f"{module}.lora_a"] = np.pad(a, ((0, 0), (0, spare)))
            scale = scales[module_name(naming, module)] / kind.scale if kind.scale else 1.0
            found[f"{module}.lora_b"] = np.pad(b, ((0, spare), (0, 0))) * np.float32(scale)
            if kind.dora:
                found[f"{module}.magnitude"] = reader.take(f"{module}.magnitude", (out,))
    adapted = adapters.add(params, modules, kind)
    if isinstance(kind, Bottleneck):
        found = {n: reader.take(n, x.shape) for n, x in tree.unstack(adapted).items() if adapters.is_adapter(n)}
    others = [name for name in flat if reader.has(name) and (own_head or not name.startswith("heads."))]
    found |= {name: reader.take(name, flat[name].shape) for name in others}
    reader.finish(() if own_head else _head_modules(stored))
    if not modules:
        raise UserError(f"{stored.path / WEIGHTS}: holds no adapter")
    report = model.report
    if report:
        new = tuple(name for name in report.new if name not in found)
        report = replace(report, loaded=report.loaded + len(found), new=new)
    has_tokenizer = bool(model_source.tokenizer_files(stored.path))
    origin = replace(model.origin, dtypes={**model.origin.dtypes, **reader.dtypes})
    model = replace(
        with_adapters(model, kind, Adapted(tuple(modules), settings.base, settings.revision, frozenset(others))),
        hf_config=stored.hf_config if own_head else model.hf_config,
        directory=stored.path if has_tokenizer else model.directory,
        origin=origin,
        report=report,
    )

    def leaf(path: tree.Path, x: np.ndarray) -> np.ndarray:
        names = tree.names(path)
        if not any(name in found for name in names):
            return x
        if not tree.is_stacked(path):
            return np.ascontiguousarray(found[names[0]], np.float32)
        return np.stack([found[name] if name in found else x[i] for i, name in enumerate(names)]).astype(np.float32)

    return model, tree.map_with_path(leaf, adapted)


def with_adapters(model: Model, kind: Lora | Bottleneck | None, adapted: Adapted | None) -> Model:
    """The model with (or without) adapters."""
    encoder = replace(model.encoder, config=replace(model.encoder.config, adapter=kind))
    return replace(model, encoder=encoder, adapted=adapted)


class _Reader:
    """The tensors of an adapter directory by our names, each of which is taken once."""

    def __init__(self, stored: AdapterDirectory, naming: Naming) -> None:
        self.where, self.base, self.naming = stored.path / WEIGHTS, stored.settings.base, naming
        self.prefix = f"{naming.family.prefix}."  # that a model without a head does not have
        self.left = {name.removeprefix(self.prefix): (name, tensor) for name, tensor in stored.tensors.items()}
        self.dtypes: dict[str, np.dtype] = {}

    def place(self, name: str) -> str:
        """How the file calls a parameter."""
        plain, inside = (file_name(self.naming, name, x).removeprefix(self.prefix) for x in ((), {parent(name)}))
        return inside if inside in self.left else plain

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return self.place(name) in self.left

    def shape(self, name: str) -> tuple[int, ...] | None:
        """As stored; None where it is not there."""
        return tuple(self.left[self.place(name)][1].shape) if self.has(name) else None

    def rank(self, module: str) -> int:
        """Of a LoRA layer."""
        shape = self.left[self.place(f"{module}.lora_a")][1].shape
        return shape[0] if len(shape) == 2 else 0

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A parameter in our layout."""
        place = self.place(name)
        if place not in self.left:
            raise UserError(f"{self.where}: lacks {place}")
        theirs, tensor = self.left.pop(place)
        turned = name.endswith(TRANSPOSED)
        if tensor.shape != (shape[::-1] if turned else shape) or 0 in tensor.shape:
            right = list(shape[::-1] if turned else shape)
            raise UserError(f"{self.where}: {theirs} is {list(tensor.shape)}, the base model {self.base} asks for {right}")
        self.dtypes[name] = tensor.dtype
        x = finite(tensor.read(), str(self.where), theirs).astype(np.float32)
        return x.T if turned else x

    def finish(self, ignored: Collection[str]) -> None:
        """Refuse what has not been taken, but for some modules (Hugging Face's names)."""
        if unknown := [place for place in self.left if not place.startswith(tuple(f"{name}." for name in ignored))]:
            name, tensor = self.left[unknown[0]]
            raise UserError(
                f"{self.where}: {name} {list(tensor.shape)} has no place in the base model {self.base}: the adapter was "
                "made for another model, or with something that jaxft has not"
            )


def _head_modules(stored: AdapterDirectory) -> set[str]:
    """Hugging Face's names of the modules of the adapter's own head."""
    model = make_model(stored.hf_config, stored.kind, str(stored.path))
    names = tree.all_names(model.abstract())
    return {module_name(model.naming, parent(name)) for name in names if name.startswith("heads.")}
