"""The parameters of a run by their role in a step: those of the model, and others that are frozen."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import jax

from jaxft.core import tree
from jaxft.core.tree import Params

# Keys in `frozen/` of a run directory, in addition to those of the model.
_REFERENCE, _UNUSED = "reference", "unused_words"


@partial(jax.tree_util.register_dataclass, data_fields=["model", "unused_words", "reference", "teachers"], meta_fields=[])
@dataclass(frozen=True)
class Parameters:
    """Arrays or shapes; a train step takes the frozen parameters, a loss and evaluation take all of the model's.

    Attributes:
      model: the model's parameters: the frozen ones, or all.
      unused_words: `embedding`, the initial table [V, D], and `rank`, int32 [V], if only used words are trained (see
        `unused_embeddings`).
      reference: the initial trainable parameters, if the regularisation pulls towards them.
      teachers: parameters of other models, by name.
    """

    model: Params
    unused_words: Params = field(default_factory=dict)
    reference: Params = field(default_factory=dict)
    teachers: Params = field(default_factory=dict)

    def combined(self, trained: Params) -> "Parameters":
        """With these trained parameters in addition to the model's frozen ones."""
        return replace(self, model=tree.combine(trained, self.model))

    def each(self, function: Callable[[Params], Params]) -> "Parameters":
        """The results of a function of each part."""
        return Parameters(*(function(part) for part in (self.model, self.unused_words, self.reference, self.teachers)))

    def as_stored(self) -> Params:
        """One tree, as `frozen/` contains it: without teachers, which a run reads from their own directories."""
        others = {_REFERENCE: self.reference, _UNUSED: self.unused_words}
        return self.model | {name: part for name, part in others.items() if part}


def from_stored(stored: Params) -> Parameters:
    """Inverse of `Parameters.as_stored`."""
    model = {name: part for name, part in stored.items() if name not in (_REFERENCE, _UNUSED)}
    return Parameters(model, stored.get(_UNUSED, {}), stored.get(_REFERENCE, {}))
