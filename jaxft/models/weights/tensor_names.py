"""Converts our parameter names to Hugging Face's tensor names.

One rule for leaves holds for all families and both formats: `weight` (and the old `gamma`) is our `kernel`, `embedding` or
`scale`, whichever the module has; a PyTorch kernel is our kernel with reversed axes. Only module names differ between
families, which have tables of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jaxft.models.families.family import Family
from jaxft.models.heads import Part

_AS_WEIGHT = {"kernel": "weight", "embedding": "weight", "scale": "weight", "gamma": "weight", "beta": "bias"}
WORDS = "encoder.embeddings.word_embeddings.embedding"


@dataclass(frozen=True)
class Naming:
    """The names of our parameters in Hugging Face's class for a head.

    Attributes:
      head: our name of the head.
      kind: task of the head; in the model without a head the encoder's names have no prefix.
      inner: layers per group (ALBERT).
    """

    family: Family
    head: str
    kind: str
    parts: Mapping[str, Part]
    inner: int = 1

    @property
    def prefix(self) -> str:
        """The prefix of the encoder's names."""
        return "" if self.kind == "feature-extraction" else f"{self.family.prefix}."

    def hf_name(self, name: str, *, flax: bool = False) -> str:
        """Converts our dotted name to Hugging Face's, in PyTorch's or Flax's form."""
        area, *path = name.split(".")
        if area == "heads":
            area, path = "", path[1:]  # heads.NAME.module
            tables = [part.names for part in self.parts.values()] + [part.flax_names for part in self.parts.values() if flax]
            table = {key: hf for names in tables for key, hf in names.items()}
        else:
            table = self.family.names
        pattern = _longest_match(table, path)
        module = _fill(table[".".join(pattern)], path, pattern, self.inner)
        rest = path[len(pattern) :]
        leaf = rest.pop() if rest else ""
        parts = [p for p in (module, *rest, leaf if flax else _AS_WEIGHT.get(leaf, leaf)) if p]
        return (self.prefix if area == "encoder" else "") + ".".join(parts)

    def copies(self) -> dict[str, str]:
        """Hugging Face's names of tensors that repeat a parameter -> our name of the parameter."""
        biases = {self.hf_name(name): name for name in self._decoder_biases()}
        return {
            copy: WORDS if of == "words" else biases[of] for part in self.parts.values() for copy, of in part.copies.items()
        }

    def unused_biases(self) -> dict[str, str]:
        """Biases that PyTorch's class of an untied decoder has but never uses -> our name of the tensor to write there."""
        biases = {name: self.hf_name(name, flax=True) for name in self._decoder_biases()}
        return {flax: name for name, flax in biases.items() if flax != self.hf_name(name)}

    def _decoder_biases(self) -> list[str]:
        return [
            ".".join(x for x in ("heads", self.head, part.module, "decoder", "bias") if x)
            for part in self.parts.values()
            if part.outputs == "vocabulary" and part.use_bias
        ]


def as_in_pytorch(name: str) -> str:
    """A dotted name with PyTorch's leaf name, from any format and version."""
    module, dot, leaf = name.rpartition(".")
    return f"{module}{dot}{_AS_WEIGHT.get(leaf, leaf)}" if dot else name


# Parts that PyTorch's wrappers add to names: torch.compile, FullyShardedDataParallel, checkpoint_wrapper.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def unwrapped(name: str) -> str:
    """A tensor's name without the parts that wrappers add, and without DataParallel's prefix `module.`."""
    parts = name.split(".")
    begin = next((i for i, part in enumerate(parts) if part not in ("module", *_WRAPPERS)), 0)
    return ".".join(part for part in parts[begin:] if part not in _WRAPPERS)


def _longest_match(patterns: Iterable[str], path: list[str]) -> list[str]:
    """The pattern that matches the most parts of a path, of these the one with the fewest stars; split at dots."""

    def matches(keys: list[str]) -> bool:
        return len(keys) <= len(path) and all(k == p or (k == "*" and p.isdigit()) for k, p in zip(keys, path, strict=False))

    return max(filter(matches, (pattern.split(".") for pattern in patterns)), key=lambda keys: (len(keys), -keys.count("*")))


def _fill(hf_module: str, path: list[str], pattern: list[str], inner: int) -> str:
    """Hugging Face's module, with its stars replaced by the layer's number, or by the group and the layer in the group."""
    numbers = [p for k, p in zip(pattern, path, strict=False) if k == "*"]
    if hf_module.count("*") == 2:
        numbers = [str(x) for x in divmod(int(numbers[0]), inner)]
    return hf_module.replace("*", "{}").format(*numbers)
