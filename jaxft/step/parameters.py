"""The parameters of a run by the part that they play in a step: the model's own, and what lies frozen beside them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import jax

from jaxft.core import tree
from jaxft.core.tree import Params

# Keys in `frozen/` of a run directory, beside those of the model.
_REFERENCE, _UNUSED = "reference", "unused_words"


@partial(jax.tree_util.register_dataclass, data_fields=["model", "unused_words", "reference", "teachers"], meta_fields=[])
@dataclass(frozen=True)
class Parameters:
    """Arrays or shapes; a train step takes what is frozen, a loss and evaluation take all parameters of the model.

    Attributes:
      model: the model's: those that are frozen, or all of them.
      unused_words: where words are left out (`unused_embeddings`), `embedding`, the table [V, D] of the start, and `rank`,
        int32 [V].
      reference: the trainable parameters before the first step, where the regularization pulls towards them.
      teachers: parameters of other models, by name.
    """

    model: Params
    unused_words: Params = field(default_factory=dict)
    reference: Params = field(default_factory=dict)
    teachers: Params = field(default_factory=dict)

    def combined(self, trained: Params) -> "Parameters":
        """With the trained parameters among the model's."""
        return replace(self, model=tree.combine(trained, self.model))

    def each(self, function: Callable[[Params], Params]) -> "Parameters":
        """`function` of every part's tree."""
        return Parameters(*(function(part) for part in (self.model, self.unused_words, self.reference, self.teachers)))

    def as_stored(self) -> Params:
        """One tree, as `frozen/` holds it: without teachers, which a run reads where they are."""
        beside = {_REFERENCE: self.reference, _UNUSED: self.unused_words}
        return self.model | {name: part for name, part in beside.items() if part}


def from_stored(stored: Params) -> Parameters:
    """Inverse of `Parameters.as_stored`."""
    model = {name: part for name, part in stored.items() if name not in (_REFERENCE, _UNUSED)}
    return Parameters(model, stored.get(_UNUSED, {}), stored.get(_REFERENCE, {}))
