"""Which tensors of a checkpoint become which parameters, and the merge report: what was loaded, is new, was left over."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxft.core.errors import UserError, shortened, some
from jaxft.models.weights.stored_tensor import Stored
from jaxft.models.weights.tensor_names import WORDS, Naming, as_in_pytorch, unwrapped


@dataclass(frozen=True)
class Report:
    """What became of the tensors of a checkpoint. All names dotted; `new` and `again` are ours, the rest as in the file.

    `again` was loaded or new, and then drawn once more because the plan says so. `wrapped` names in the file have what
    wrappers of PyTorch put into them, such as the first one.
    """

    loaded: int
    new: tuple[str, ...]
    unused: tuple[str, ...]
    again: tuple[str, ...] = ()
    wrapped: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        text = [f"loaded {self.loaded} tensors"]
        if self.wrapped:
            first = shortened(self.wrapped[0])
            text.append(f"{len(self.wrapped)} names are read without what PyTorch's wrappers put into them ({first})")
        if self.new:
            text.append(f"newly initialised: {', '.join(self.new)}")
        if self.again:
            text.append(f"newly initialised by the plan: {', '.join(_folded(self.again))}")
        if self.unused:
            text.append(shortened(f"in the checkpoint but not needed: {', '.join(self.unused)}"))
        return text


@dataclass(frozen=True)
class Found:
    """The tensors of a checkpoint that a model needs.

    Attributes:
      tensors: our name -> tensor as stored.
      transposed: our names whose axes the file has in reverse.
      copies: names in the file that repeat one of ours (a tied decoder) -> our name.
      buffers: names in the file that are no parameters, kept to be written back.
      report: for people.
      where: the checkpoint, for messages.
      names: our name -> the file's.
    """

    tensors: Mapping[str, Stored]
    transposed: Collection[str]
    copies: Mapping[str, str]
    buffers: Mapping[str, Stored]
    report: Report
    where: str
    names: Mapping[str, str]

    def read(self, name: str) -> np.ndarray:
        """One tensor in our layout and the file's type.

        Raises:
          UserError: when a number of it is NaN or infinite.
        """
        array = finite(self.tensors[name].read(), self.where, self.names[name])
        return array.T if name in self.transposed else array


class Checkpoint:
    """The tensors of a checkpoint, found by our names.

    Args:
      stored: as in the file.
      layout: "pt" (axes of kernels in reverse) or "flax".
      naming: whose names to look for.
      where: the checkpoint, for messages.
    """

    def __init__(self, stored: Mapping[str, Stored], layout: str, naming: Naming, where: str) -> None:
        self.layout, self.naming, self.where = layout, naming, where
        self.stored: dict[str, Stored] = {}
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

    def find(self, expected: Mapping[str, tuple[int, ...]], *, fresh: Collection[str], dropped_layers: bool) -> Found:
        """Pick the expected parameters out.

        Args:
          expected: our dotted name -> shape.
          fresh: names that must not be loaded (a new head).
          dropped_layers: layers that are not expected are left out on purpose.

        Raises:
          UserError: for an encoder tensor that is missing, of the wrong shape or type, or unexpected.
        """
        copies = self._copies(fresh)
        places = {name: place for name in expected if name not in fresh and (place := self._place(name, copies))}
        new = [name for name in expected if name not in places]
        tensors = {name: self.stored[place] for name, place in places.items()}
        transposed = {name for name in places if self.layout == "pt" and name.endswith(".kernel")}
        used = set(places.values())
        buffers = self._buffers(used)
        repeated = {
            copy: name
            for copy, name in copies.items()
            if copy not in used and name in tensors and _same(self.stored[copy], tensors[name])
        }
        unused = [name for name in self.stored if name not in used | buffers.keys() | repeated.keys()]
        if dropped_layers:
            unused = [name for name in unused if not name.startswith(self._layers())]
        shapes = {name: expected[name][::-1] if name in transposed else expected[name] for name in places}
        wrong = [text for name, place in places.items() if (text := _misfit(place, tensors[name], shapes[name]))]
        missing = [self.naming.theirs(n) for n in new if n.startswith("encoder.") and ".pooler." not in n and n not in fresh]
        extra = [name for name in unused if self._is_encoders(name)]
        _refuse(self.where, wrong, missing, extra or (unused if missing else []))
        report = Report(len(tensors), tuple(new), tuple(_folded(unused)), wrapped=tuple(self.wrapped))
        return Found(tensors, transposed, repeated, buffers, report, self.where, places)

    def _place(self, name: str, copies: Mapping[str, str]) -> str | None:
        """The file's name of one of our parameters."""
        theirs = as_in_pytorch(self.naming.theirs(name, flax=self.layout == "flax"))
        if name.startswith("encoder."):
            theirs = self.prefix + theirs.removeprefix(self.naming.prefix)
        copy = next((copy for copy, of in copies.items() if of == name != WORDS), None)
        return self.normal.get(theirs, copy)

    def _copies(self, fresh: Collection[str]) -> dict[str, str]:
        """The file's names of tensors that may repeat another -> our name of that."""
        copies = {} if self.layout == "flax" else self.naming.copies()
        return {self.normal[copy]: name for copy, name in copies.items() if copy in self.normal and name not in fresh}

    def _buffers(self, used: Collection[str]) -> dict[str, Stored]:
        """Tensors that are no parameters."""
        names = {name for name in self.stored if name not in used and name.endswith(self.naming.family.ignored)}
        names |= self.naming.spare().keys() if self.layout == "pt" else set()
        return {name: tensor for name, tensor in self.stored.items() if name in names}

    def _layers(self) -> tuple[str, ...]:
        """How the names of layers start in the file."""
        names = self.naming.family.names.items()
        return tuple({self.prefix + theirs.partition("*")[0] for ours, theirs in names if ours.startswith("layer.*")})

    def _is_encoders(self, name: str) -> bool:
        """Whether a tensor of the file is the encoder's, and no pooler's."""
        bare = name.removeprefix(self.prefix)
        if bare.startswith("pooler."):
            return False
        if self.prefix:
            return name.startswith(self.prefix)
        return bare.partition(".")[0] in {theirs.partition(".")[0] for theirs in self.naming.family.names.values()}


def finite(array: np.ndarray, where: str, name: str) -> np.ndarray:
    """The same tensor.

    Raises:
      UserError: when a number of it is NaN or, as float32, infinite: every loss would be NaN.
    """
    with np.errstate(over="ignore"):
        fine = np.isfinite(array.astype(np.float32, copy=False))
    if not fine.all():
        raise UserError(
            f"{where}: the tensor {name} holds NaN or infinity ({np.count_nonzero(~fine):,} of {fine.size:,} numbers): the "
            "weights are damaged, or come from training that failed"
        )
    return array


def _misfit(place: str, tensor: Stored, shape: tuple[int, ...]) -> str:
    if tensor.shape != shape:
        return f"{place} is {list(tensor.shape)}, config.json asks for {list(shape)}"
    is_float = tensor.dtype.kind in "fV" or tensor.dtype.name == "bfloat16"
    return "" if is_float else f"{place} is of type {tensor.dtype}, not a float"


def _refuse(where: str, wrong: list[str], missing: list[str], extra: list[str]) -> None:
    sides = {"wrong": wrong, "the checkpoint lacks": missing, "the model has no": extra}
    if any(sides.values()):
        text = "; ".join(f"{side}: {some(names)}" for side, names in sides.items() if names)
        raise UserError(f"{where}: weights and config.json do not fit; {text}")


def _same(a: Stored, b: Stored) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype) and np.array_equal(_bits(a), _bits(b))


def _bits(tensor: Stored) -> np.ndarray:
    return tensor.read().reshape(-1).view(np.uint8)


def _folded(names: Iterable[str]) -> list[str]:
    """Names, shortened to their modules."""
    return sorted({name.rpartition(".")[0] or name for name in names})
