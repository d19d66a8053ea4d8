"""Hugging Face tensor names to ours and back, and the merge report.

One leaf rule serves every family and both formats: `weight` (and the old `gamma`) is our `kernel`, `embedding` or `scale`,
whichever the module has; a PyTorch kernel is our kernel with its axes in reverse. So only module names differ, which
`families` tabulates.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxft.errors import UserError, some
from jaxft.models.families.family import Family
from jaxft.models.heads import Part
from jaxft.models.stored import Stored

_AS_WEIGHT = {"kernel": "weight", "embedding": "weight", "scale": "weight", "gamma": "weight", "beta": "bias"}
WORDS = "encoder.embeddings.word_embeddings.embedding"


@dataclass(frozen=True)
class Naming:
    """How Hugging Face's class for a head calls our parameters.

    Attributes:
      family: the row.
      kind: of the head; the model without a head has no prefix.
      parts: of the head.
      inner: layers a group (ALBERT).
    """

    family: Family
    kind: str
    parts: Mapping[str, Part]
    inner: int = 1

    @property
    def prefix(self) -> str:
        """What stands before the encoder's names."""
        return "" if self.kind == "feature-extraction" else f"{self.family.prefix}."

    def theirs(self, name: str, *, flax: bool = False) -> str:
        """Our dotted name as Hugging Face's."""
        area, *path = name.split(".")
        if area == "heads":
            area, path = "", path[1:]  # heads.NAME.module
            table: Mapping[str, str] = {ours: hf for part in self.parts.values() for ours, hf in part.names.items()}
            if flax:
                table = {**table, **{ours: hf for part in self.parts.values() for ours, hf in part.flax_names.items()}}
        else:
            table = self.family.names
        ours = max((key for key in table if _matches(key, path)), key=_rank)
        module = _fill(table[ours], path, ours.split("."), self.inner)
        rest = path[len(ours.split(".")) :]
        leaf = rest.pop() if rest else ""
        parts = [p for p in (*module, *rest, leaf if flax else _AS_WEIGHT.get(leaf, leaf)) if p]
        return (self.prefix if area == "encoder" else "") + ".".join(parts)

    def copies(self) -> dict[str, str]:
        """Hugging Face's names of tensors that only repeat another -> our name of that."""
        ours = {self.theirs(name): name for name in self._decoder_biases()}
        return {
            copy: WORDS if of == "words" else ours[of] for part in self.parts.values() for copy, of in part.copies.items()
        }

    def spare(self) -> dict[str, str]:
        """Tensors that PyTorch's class of an untied decoder has and never uses -> our name of what to write there."""
        biases = {name: self.theirs(name, flax=True) for name in self._decoder_biases()}
        return {flax: name for name, flax in biases.items() if flax != self.theirs(name)}

    def _decoder_biases(self) -> list[str]:
        return [
            ".".join(x for x in ("heads", "main", part.module, "decoder", "bias") if x)
            for part in self.parts.values()
            if part.outputs == "vocabulary" and part.use_bias
        ]


@dataclass(frozen=True)
class Report:
    """What became of the tensors of a checkpoint. All names dotted; `new` is ours, the rest as in the file."""

    loaded: int
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people."""
        text = [f"loaded {self.loaded} tensors"]
        if self.new:
            text.append(f"newly initialised: {', '.join(self.new)}")
        if self.unused:
            text.append(f"in the checkpoint but not needed: {', '.join(self.unused)}")
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
    """

    tensors: Mapping[str, Stored]
    transposed: Collection[str]
    copies: Mapping[str, str]
    buffers: Mapping[str, Stored]
    report: Report

    def read(self, name: str) -> np.ndarray:
        """One tensor in our layout and the file's type."""
        array = self.tensors[name].read()
        return array.T if name in self.transposed else array


def find(
    stored: Mapping[str, Stored],
    layout: str,
    naming: Naming,
    expected: Mapping[str, tuple[int, ...]],
    *,
    fresh: Collection[str] = (),
    where: str = "",
    dropped_layers: bool = False,
) -> Found:
    """Pick the expected parameters out of a checkpoint.

    Args:
      stored: as in the file.
      layout: "pt" (axes of kernels in reverse) or "flax".
      naming: whose names to look for.
      expected: our dotted name -> shape.
      fresh: names that must not be loaded (a new head).
      where: the checkpoint, for messages.
      dropped_layers: layers that are not expected are left out on purpose.

    Raises:
      UserError: for an encoder tensor that is missing, of the wrong shape or type, or unexpected.
    """
    family = naming.family
    normal = _normalised(stored, where)
    prefixed = any(name.startswith(f"{family.prefix}.") for name in normal)

    def in_file(wanted: str) -> str | None:
        """The file's own name for a Hugging Face name of the encoder, with or without prefix, or of the head."""
        bare = wanted.removeprefix(naming.prefix)
        return normal.get(f"{family.prefix}.{bare}" if prefixed else bare)

    copies = {} if layout == "flax" else {k: v for k, v in naming.copies().items() if k in normal and v not in fresh}
    tensors: dict[str, Stored] = {}
    transposed, used, new, wrong = set(), set(), [], []
    for name in expected:
        wanted = naming.theirs(name, flax=layout == "flax")
        module, _, leaf = wanted.rpartition(".")
        wanted = f"{module}.{_AS_WEIGHT.get(leaf, leaf)}"
        original = in_file(wanted) if name.startswith("encoder.") else normal.get(wanted)
        original = original or next((normal[copy] for copy, of in copies.items() if of == name != WORDS), None)
        if original is None or name in fresh:
            new.append(name)
            continue
        used.add(original)
        reverse = layout == "pt" and name.endswith(".kernel")
        tensor, shape = stored[original], expected[name][::-1] if reverse else expected[name]
        if tensor.shape != shape:
            wrong.append(f"{original} is {list(tensor.shape)}, config.json asks for {list(shape)}")
        elif tensor.dtype.kind not in "fV" and tensor.dtype.name != "bfloat16":
            wrong.append(f"{original} is of type {tensor.dtype}, not a float")
        else:
            tensors[name] = tensor
            if reverse:
                transposed.add(name)
    buffers = {n: s for n, s in stored.items() if n not in used and n.endswith(family.ignored)} if family.ignored else {}
    if layout == "pt":
        buffers |= {n: stored[n] for n in naming.spare() if n in stored}
    repeated = {
        normal[copy]: of
        for copy, of in copies.items()
        if normal[copy] not in used and of in tensors and _same(stored[normal[copy]], tensors[of])
    }
    unused = [n for n in stored if n not in used and n not in buffers and n not in repeated]
    if dropped_layers:
        unused = [n for n in unused if not n.startswith(tuple(_layer_prefixes(family, prefixed)))]
    missing = [naming.theirs(n) for n in new if n.startswith("encoder.") and ".pooler." not in n and n not in fresh]
    extra = [n for n in unused if _is_encoders(n, family, prefixed) and not _is_pooler(n, family)]
    _refuse_misfits(where, wrong, missing, extra or (unused if missing else []))
    report = Report(len(tensors), tuple(new), tuple(_folded(unused)))
    return Found(tensors, transposed, repeated, buffers, report)


def _refuse_misfits(where: str, wrong: list[str], missing: list[str], extra: list[str]) -> None:
    sides = {"wrong": wrong, "the checkpoint lacks": missing, "the model has no": extra}
    if any(sides.values()):
        text = "; ".join(f"{side}: {some(names)}" for side, names in sides.items() if names)
        raise UserError(f"{where}: weights and config.json do not fit; {text}")


def _matches(pattern: str, path: list[str]) -> bool:
    keys = pattern.split(".")
    return len(keys) <= len(path) and all(k == p or (k == "*" and p.isdigit()) for k, p in zip(keys, path, strict=False))


def _rank(pattern: str) -> tuple[int, int]:
    keys = pattern.split(".")
    return len(keys), -keys.count("*")


def _fill(theirs: str, path: list[str], ours: list[str], inner: int) -> list[str]:
    """Hugging Face's module with its stars replaced by the number of the layer, or by group and layer in it."""
    module = theirs.split(".") if theirs else []
    numbers = [p for k, p in zip(ours, path, strict=False) if k == "*"]
    if module.count("*") == 2:
        group, layer = divmod(int(numbers[0]), inner)
        numbers = [str(group), str(layer)]
    supply = iter(numbers)
    return [next(supply) if m == "*" else m for m in module]


def _layer_prefixes(family: Family, prefixed: bool) -> set[str]:
    """How the names of layers start in a file."""
    prefix = f"{family.prefix}." if prefixed else ""
    return {prefix + hf.partition("*")[0] for ours, hf in family.names.items() if ours.startswith("layer.*")}


def _is_encoders(name: str, family: Family, prefixed: bool) -> bool:
    if prefixed:
        return name.startswith(f"{family.prefix}.")
    return name.partition(".")[0] in {hf.partition(".")[0] for hf in family.names.values()}


def _is_pooler(name: str, family: Family) -> bool:
    return name.removeprefix(f"{family.prefix}.").startswith("pooler.")


def _same(a: Stored, b: Stored) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype) and np.array_equal(_bits(a), _bits(b))


def _bits(tensor: Stored) -> np.ndarray:
    return tensor.read().reshape(-1).view(np.uint8)


def _normalised(stored: Iterable[str], where: str) -> dict[str, str]:
    by_module: dict[str, str] = {}
    for name in stored:
        module, _, leaf = name.rpartition(".")
        key = f"{module}.{_AS_WEIGHT.get(leaf, leaf)}" if module else name
        if key in by_module:
            raise UserError(f"{where}: {by_module[key]} and {name} are the same tensor under two names")
        by_module[key] = name
    return by_module


def _folded(names: Iterable[str]) -> list[str]:
    """Unused names, shortened to their modules."""
    return sorted({name.rpartition(".")[0] or name for name in names})
