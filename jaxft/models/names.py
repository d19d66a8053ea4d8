"""Hugging Face tensor names to ours and back, and the merge report.

One leaf rule serves every family and both formats: `weight` (and the old `gamma`) is our `kernel`, `embedding` or `scale`,
whichever the module has; a PyTorch kernel is transposed. So only the module prefixes differ, which `families` tabulates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxft.errors import UserError, some
from jaxft.models.families import Family

_AS_WEIGHT = {"kernel": "weight", "embedding": "weight", "scale": "weight", "gamma": "weight", "beta": "bias"}


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


def hf_name(family: Family, kind: str, name: str, *, flax: bool = False) -> str:
    """Our dotted name as the one that Hugging Face's class for `kind` gives the tensor."""
    module, _, leaf = name.rpartition(".")
    part, _, inside = module.partition(".")
    if part == "encoder":
        table: Mapping[str, str] = {ours: theirs for theirs, ours in family.encoder_names.items()}
        prefix = "" if kind == "feature-extraction" else f"{family.prefix}."
    else:
        inside = inside.partition(".")[2]  # heads.NAME.module
        table = {ours: theirs for theirs, ours in family.head_names[kind].items()}
        prefix = ""
    ours = max((o for o in table if inside == o or inside.startswith(f"{o}.")), key=len)
    return f"{prefix}{table[ours]}{inside[len(ours) :]}.{leaf if flax else _AS_WEIGHT.get(leaf, leaf)}"


def from_file(
    tensors: Mapping[str, np.ndarray],
    layout: str,
    family: Family,
    kind: str,
    expected: Mapping[str, tuple[int, ...]],
    *,
    fresh: Sequence[str] = (),
    where: str = "",
    dropped_layers: bool = False,
) -> tuple[dict[str, np.ndarray], Report]:
    """Pick the expected parameters out of a checkpoint.

    Args:
      tensors: as in the file.
      layout: "pt" (kernels are [out, in]) or "flax".
      family, kind: whose names to look for.
      expected: our dotted name -> shape.
      fresh: names that must not be loaded (a new head).
      where: the checkpoint, for messages.
      dropped_layers: layers that are not expected are left out on purpose.

    Returns:
      ({our name: array in our layout, the file's dtype}, report). Names that are absent are the report's `new`.

    Raises:
      UserError: for an encoder tensor that is missing, of the wrong shape, or unexpected.
    """
    by_module = _normalised(tensors, where)
    prefixed = any(name.startswith(f"{family.prefix}.") for name in by_module)
    found: dict[str, np.ndarray] = {}
    used: set[str] = set()
    new: list[str] = []
    wrong: list[str] = []
    for name, shape in expected.items():
        wanted = hf_name(family, kind, name)
        if name.startswith("encoder."):
            bare = wanted.removeprefix(f"{family.prefix}.")
            wanted = f"{family.prefix}.{bare}" if prefixed else bare
        original = by_module.get(wanted)
        if original is None or name in fresh:
            new.append(name)
            continue
        array = tensors[original]
        if layout == "pt" and name.endswith(".kernel"):
            array = array.T
        used.add(original)
        if array.shape != shape:
            theirs = array.T.shape if layout == "pt" and name.endswith(".kernel") else array.shape
            ours = shape[::-1] if layout == "pt" and name.endswith(".kernel") else shape
            wrong.append(f"{original} is {list(theirs)}, config.json asks for {list(ours)}")
        elif array.dtype.kind not in "fV" and array.dtype.name != "bfloat16":
            wrong.append(f"{original} is of type {array.dtype}, not a float")
        else:
            found[name] = array
    unused = [n for n in tensors if n not in used and not n.endswith(family.ignored)]
    missing = [n for n in new if n.startswith("encoder.") and ".pooler." not in n and n not in fresh]
    base = tuple(f"{family.prefix}.{p}." if prefixed else f"{p}." for p in family.encoder_names)
    layers = base[list(family.encoder_names).index("encoder.layer")]
    extra = [n for n in unused if n.startswith(base) and not (dropped_layers and n.startswith(layers))]
    if wrong or missing or extra:
        sides = [f"wrong: {some(wrong)}"] if wrong else []
        sides += [f"the checkpoint lacks: {some(missing)}"] if missing else []
        sides += [f"the model has no: {some(extra)}"] if extra else []
        raise UserError(f"{where}: weights and config.json do not fit; {'; '.join(sides)}")
    return found, Report(len(found), tuple(new), tuple(_folded(n for n in unused if not n.startswith(layers))))


def to_file(flat: Mapping[str, np.ndarray], family: Family, kind: str, *, flax: bool = False) -> dict[str, np.ndarray]:
    """Our `{dotted name: array}` under Hugging Face's names and layout. Inverse of `from_file`."""
    tensors = {}
    for name, array in flat.items():
        transposed = name.endswith(".kernel") and not flax
        tensors[hf_name(family, kind, name, flax=flax)] = array.T if transposed else array
    return tensors


def _normalised(tensors: Mapping[str, np.ndarray], where: str) -> dict[str, str]:
    by_module: dict[str, str] = {}
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        key = f"{module}.{_AS_WEIGHT.get(leaf, leaf)}"
        if key in by_module:
            raise UserError(f"{where}: {by_module[key]} and {name} are the same tensor under two names")
        by_module[key] = name
    return by_module


def _folded(names: object) -> list[str]:
    """Unused names, shortened to their modules."""
    return sorted({name.rpartition(".")[0] or name for name in names})  # type: ignore[attr-defined]
