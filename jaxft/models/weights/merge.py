"""Matches the tensors of a checkpoint to a model's parameters, and reports which are loaded, new or unused."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxft.core.errors import UserError, shortened, some
from jaxft.models.weights import StoredTensor
from jaxft.models.weights.tensor_names import WORDS, Naming, as_in_pytorch, unwrapped


@dataclass(frozen=True)
class Report:
    """How a model's parameters were made from a checkpoint.

    Attributes:
      loaded: number of tensors that were loaded.
      new: parameters that are newly initialised, by our dotted names.
      unused: modules in the file that are not needed.
      reinitialised: parameters that were loaded or new, and then initialised again because the plan says so.
      wrapped: names in the file with parts added by PyTorch's wrappers.
      layers: the layers of the checkpoint that a student with fewer of them keeps, counted from 0.
    """

    loaded: int
    new: tuple[str, ...]
    unused: tuple[str, ...]
    reinitialised: tuple[str, ...] = ()
    wrapped: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()

    def lines(self) -> list[str]:
        """The report as lines of text."""
        text = [f"loaded {self.loaded} tensors"]
        if self.layers:
            text.append(f"kept layers {', '.join(map(str, self.layers))} (from 0)")
        if self.wrapped:
            first = shortened(self.wrapped[0])
            text.append(f"{len(self.wrapped)} names are read without what PyTorch's wrappers added to them ({first})")
        if self.new:
            text.append(f"newly initialised: {', '.join(self.new)}")
        if self.reinitialised:
            text.append(f"newly initialised by the plan: {', '.join(_modules(self.reinitialised))}")
        if self.unused:
            text.append(shortened(f"in the checkpoint but not needed: {', '.join(self.unused)}"))
        return text


@dataclass(frozen=True)
class MatchedTensors:
    """The tensors of a checkpoint that a model needs.

    Attributes:
      tensors: our name -> tensor in the file.
      transposed: our names of tensors whose axes are reversed in the file.
      copies, buffers: see `Origin`.
      where: the checkpoint, for messages.
      names: our name -> name in the file.
    """

    tensors: Mapping[str, StoredTensor]
    transposed: Collection[str]
    copies: Mapping[str, str]
    buffers: Mapping[str, StoredTensor]
    report: Report
    where: str
    names: Mapping[str, str]

    def read(self, name: str) -> np.ndarray:
        """Reads a tensor in our layout, of the shape that `StoredModel.match` expected, and the file's dtype.

        Raises:
          UserError: if it contains NaN or infinity.
        """
        array = finite(self.tensors[name].read(), self.where, self.names[name])
        return array.T if name in self.transposed else array


class StoredModel:
    """The tensors of a checkpoint, to be matched to our names.

    Args:
      stored: name in the file -> tensor.
      layout: "pt" (axes of kernels are reversed) or "flax".
      where: the checkpoint, for messages.
    """

    def __init__(self, stored: Mapping[str, StoredTensor], layout: str, naming: Naming, where: str) -> None:
        self.layout, self.naming, self.where = layout, naming, where
        self.stored: dict[str, StoredTensor] = {}
        self.normal: dict[str, str] = {}
        self.wrapped = [name for name in stored if unwrapped(name) != name]
        names: dict[str, str] = {}
        for name, tensor in stored.items():
            bare = unwrapped(name)
            other = names.setdefault(as_in_pytorch(bare), name)
            if other != name:
                raise UserError(f"{where}: {other} and {name} are the same tensor under two names")
            self.normal[as_in_pytorch(bare)] = bare
            self.stored[bare] = tensor
        prefix = f"{naming.family.prefix}."
        self.prefix = prefix if any(name.startswith(prefix) for name in self.normal) else ""

    def match(
        self,
        expected: Mapping[str, tuple[int, ...]],
        *,
        fresh: Collection[str],
        layers: Sequence[int] | None = None,
    ) -> MatchedTensors:
        """Finds the tensors of the expected parameters.

        Args:
          expected: our dotted name -> shape.
          fresh: names that must not be loaded (a new head).
          layers: the number in the file of each layer; other layers of the file are ignored. None if the numbers are the
            same and there must be no others.

        Raises:
          UserError: for an encoder tensor that is missing, of the wrong shape or dtype, or unexpected.
        """
        copies = self._copies(fresh)
        there = {name: _layer_of_file(name, layers) for name in expected}
        found = {name: self._file_name(there[name], copies) for name in expected if name not in fresh}
        file_names = {name: of for name, of in found.items() if of}
        new = [name for name in expected if name not in file_names]
        tensors = {name: self.stored[of] for name, of in file_names.items()}
        transposed = {name for name in file_names if self.layout == "pt" and name.endswith(".kernel")}
        used = set(file_names.values())
        buffers = self._buffers(used)
        repeated = {
            copy: name
            for copy, name in copies.items()
            if copy not in used and name in tensors and _same(self.stored[copy], tensors[name])
        }
        unused = [name for name in self.stored if name not in used | buffers.keys() | repeated.keys()]
        if layers is not None:
            unused = [name for name in unused if not name.startswith(self._layers())]
        shapes = {name: expected[name][::-1] if name in transposed else expected[name] for name in file_names}
        wrong = [text for name, of in file_names.items() if (text := _mismatch(of, tensors[name], shapes[name]))]
        lacking = [name for name in new if name.startswith("encoder.") and ".pooler." not in name]
        missing = [self.naming.hf_name(there[name]) for name in lacking]
        extra = [name for name in unused if self._is_of_encoder(name)]
        _raise_mismatches(self.where, wrong, missing, extra or (unused if missing else []))
        report = Report(len(tensors), tuple(new), tuple(_modules(unused)), wrapped=tuple(self.wrapped))
        return MatchedTensors(tensors, transposed, repeated, buffers, report, self.where, file_names)

    def _file_name(self, name: str, copies: Mapping[str, str]) -> str | None:
        """The name in the file of one of our parameters; None if it is not there."""
        hf_name = as_in_pytorch(self.naming.hf_name(name, flax=self.layout == "flax"))
        if name.startswith("encoder."):
            hf_name = self.prefix + hf_name.removeprefix(self.naming.prefix)
        copy = next((copy for copy, of in copies.items() if of == name != WORDS), None)
        return self.normal.get(hf_name, copy)

    def _copies(self, fresh: Collection[str]) -> dict[str, str]:
        """Names in the file of tensors that may repeat a parameter -> our name of the parameter."""
        copies = {} if self.layout == "flax" else self.naming.copies()
        return {self.normal[copy]: name for copy, name in copies.items() if copy in self.normal and name not in fresh}

    def _buffers(self, used: Collection[str]) -> dict[str, StoredTensor]:
        """Tensors that are not parameters."""
        names = {name for name in self.stored if name not in used and name.endswith(self.naming.family.ignored)}
        names |= self.naming.unused_biases().keys() if self.layout == "pt" else set()
        return {name: tensor for name, tensor in self.stored.items() if name in names}

    def _layers(self) -> tuple[str, ...]:
        """The prefixes of layers' tensors in the file."""
        names = self.naming.family.names.items()
        return tuple({self.prefix + hf_name.partition("*")[0] for name, hf_name in names if name.startswith("layer.*")})

    def _is_of_encoder(self, name: str) -> bool:
        """Whether a tensor of the file belongs to the encoder, and not to its pooler."""
        bare = name.removeprefix(self.prefix)
        if bare.startswith("pooler."):
            return False
        if self.prefix:
            return name.startswith(self.prefix)
        return bare.partition(".")[0] in {hf_name.partition(".")[0] for hf_name in self.naming.family.names.values()}


def _layer_of_file(name: str, layers: Sequence[int] | None) -> str:
    """Our name of a parameter, with the number that its layer has in the file."""
    parts = name.split(".")
    if layers is not None and parts[:2] == ["encoder", "layer"] and int(parts[2]) < len(layers):
        parts[2] = str(layers[int(parts[2])])
    return ".".join(parts)


def finite(array: np.ndarray, where: str, name: str) -> np.ndarray:
    """Returns the tensor; raises a UserError if it contains NaN or, as float32, infinity: every loss would be NaN."""
    with np.errstate(over="ignore"):
        is_finite = np.isfinite(array.astype(np.float32, copy=False))
    if not is_finite.all():
        raise UserError(
            f"{where}: the tensor {name} holds NaN or infinity ({np.count_nonzero(~is_finite):,} of {is_finite.size:,} "
            "numbers): the weights are damaged, or come from training that failed"
        )
    return array


def _mismatch(name: str, tensor: StoredTensor, shape: tuple[int, ...]) -> str:
    if tensor.shape != shape:
        return f"{name} is {list(tensor.shape)}, config.json asks for {list(shape)}"
    is_float = tensor.dtype.kind in "fV" or tensor.dtype.name == "bfloat16"
    return "" if is_float else f"{name} is of type {tensor.dtype}, not a float"


def _raise_mismatches(where: str, wrong: list[str], missing: list[str], extra: list[str]) -> None:
    sides = {"wrong": wrong, "the checkpoint lacks": missing, "the model has no": extra}
    if any(sides.values()):
        text = "; ".join(f"{side}: {some(names)}" for side, names in sides.items() if names)
        raise UserError(f"{where}: weights and config.json do not fit; {text}")


def _same(a: StoredTensor, b: StoredTensor) -> bool:
    """Whether two tensors are equal bit for bit."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    first, second = (tensor.read().reshape(-1).view(np.uint8) for tensor in (a, b))
    return np.array_equal(first, second)


def _modules(names: Iterable[str]) -> list[str]:
    """The modules of some parameters."""
    return sorted({name.rpartition(".")[0] or name for name in names})
