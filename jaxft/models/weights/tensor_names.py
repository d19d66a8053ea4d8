"""Hugging Face tensor names to ours and back.

One leaf rule serves every family and both formats: `weight` (and the old `gamma`) is our `kernel`, `embedding` or `scale`,
whichever the module has; a PyTorch kernel is our kernel with its axes in reverse. So only module names differ, which
`families` tabulates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxft.models.families.family import Family
from jaxft.models.heads import Part

_AS_WEIGHT = {"kernel": "weight", "embedding": "weight", "scale": "weight", "gamma": "weight", "beta": "bias"}
WORDS = "encoder.embeddings.word_embeddings.embedding"


@dataclass(frozen=True)
class Naming:
    """How Hugging Face's class for a head calls our parameters.

    Attributes:
      family: the row.
      head: its name among ours.
      kind: of the head; the model without a head has no prefix.
      parts: of the head.
      inner: layers a group (ALBERT).
    """

    family: Family
    head: str
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
            ".".join(x for x in ("heads", self.head, part.module, "decoder", "bias") if x)
            for part in self.parts.values()
            if part.outputs == "vocabulary" and part.use_bias
        ]


def as_in_pytorch(name: str) -> str:
    """A dotted name with PyTorch's leaf, whichever format and age it comes from."""
    module, dot, leaf = name.rpartition(".")
    return f"{module}{dot}{_AS_WEIGHT.get(leaf, leaf)}" if dot else name


# What PyTorch's wrappers put into names: torch.compile, FullyShardedDataParallel, checkpoint_wrapper.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def unwrapped(name: str) -> str:
    """A tensor's name without what wrappers put into it, and without the `module.` of DataParallel before it."""
    parts = name.split(".")
    begin = next((i for i, part in enumerate(parts) if part not in ("module", *_WRAPPERS)), 0)
    return ".".join(part for part in parts[begin:] if part not in _WRAPPERS)


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
