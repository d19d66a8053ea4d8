"""The elements of `distill.matches`: what the layers of student and teacher shall have in common."""

import re
from dataclasses import dataclass
from typing import Annotated

from jaxft.config.limits import FinitePositiveFloat, NonNegativeFloat, PositiveInt, Section, one_of, require
from jaxft.core.errors import UserError

HIDDEN_MATCHES = ("hidden_mse", "cos", "pkd", "fsp", "nst")
ATTENTION_MATCHES = (
    "attention_mse",
    "attention_mse_sum",
    "attention_ce",
    "attention_ce_mean",
    "attention_probability_mse",
)
RELATION_MATCHES = ("query_relation", "key_relation", "value_relation")
MATCHES = (*HIDDEN_MATCHES, *ATTENTION_MATCHES, *RELATION_MATCHES)
PROJECTABLE = ("hidden_mse", "cos", "pkd", "fsp")  # matches that need a common width
_RULE = re.compile(r"uniform|last( [1-9]\d{0,8})?|every [1-9]\d{0,8}")


@dataclass(frozen=True)
class MatchConfig(Section):
    """One match between layers."""

    match: Annotated[str, one_of(*MATCHES)]
    """Name of the match: of hidden states hidden_mse, cos, pkd, fsp or nst; of attention attention_mse, attention_mse_sum,
    attention_ce, attention_ce_mean or attention_probability_mse; of MiniLMv2's relations query_relation, key_relation or
    value_relation (docs/distillation.md says what each is)."""
    layers: str | list[list[int]] = "last"
    """Pairs [student layer, teacher layer], counted from 1 (0 are the embeddings), such as [[0, 0], [1, 6]]; or a rule: last
    (the last layer of both), last 3 (the last 3 of both), every 2 (student layer i with teacher layer 2 i), uniform (all
    student layers, spread evenly over the teacher's)."""
    weight: NonNegativeFloat = 1.0
    """What the match, summed over its layers, is multiplied by; 0 leaves it out."""
    projection: Annotated[str, one_of("linear")] | None = None
    """hidden_mse, cos, pkd, fsp: linear maps the student's hidden states to the teacher's width, where the two differ. It is
    trained with the student, shared by all layers of the match, and not exported."""
    learning_rate: FinitePositiveFloat | None = None
    """Peak learning rate of the projection; null takes optim.learning_rate."""
    heads: PositiveInt | None = None
    """query_relation, key_relation, value_relation: number of relation heads, which divides both widths; null takes the
    teacher's attention heads."""

    def check(self, prefix: str) -> None:
        """A layer map that can be read, and no option without effect."""
        if isinstance(self.layers, str):
            right = "last, last N, every N, uniform, or pairs [[student layer, teacher layer], ...]"
            require(bool(_RULE.fullmatch(self.layers)), f"{prefix}layers", self.layers, right)
        else:
            well_formed = self.layers and all(len(pair) == 2 and min(pair) >= 0 for pair in self.layers)
            right = "one or more pairs [student layer, teacher layer], 0 or more each"
            require(bool(well_formed), f"{prefix}layers", self.layers, right)
            once = len(set(map(tuple, self.layers))) == len(self.layers)
            require(once, f"{prefix}layers", self.layers, "pairs named once each: a weight makes a match count more")
        if self.projection and self.match not in PROJECTABLE:
            raise UserError(f"{prefix}projection is {self.projection}, but {self.match} needs no common width: leave it out")
        if self.learning_rate is not None and not self.projection:
            raise UserError(
                f"{prefix}learning_rate is {self.learning_rate:g}, but the match has no projection that it could train"
            )
        if self.heads is not None and self.match not in RELATION_MATCHES:
            raise UserError(f"{prefix}heads is {self.heads}, but only {', '.join(RELATION_MATCHES)} have relation heads")
