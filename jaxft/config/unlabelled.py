"""The section `unlabelled`: texts without labels, for which a model should predict the same as for augmented versions."""

from dataclasses import dataclass
from typing import Literal

from jaxft.config.limits import FinitePositiveFloat, Fraction, NonNegativeFloat, PathTexts, PositiveInt, Section, shown
from jaxft.core.errors import UserError


@dataclass(frozen=True)
class UnlabelledConfig(Section):
    """Consistency training on texts without labels."""

    data: PathTexts = None
    """Texts without labels, in files like data.train's; the predictions for them and for augmented versions should agree
    (UDA, Xie et al. 2020, arXiv:1904.12848). augment.steps makes the versions; augment.share is for labelled examples."""
    ratio: PositiveInt = 3
    """Number of texts without labels for each labelled example of a step; each is computed twice, as it is and augmented. A
    step may not have more texts than there are."""
    weight: NonNegativeFloat = 1.0
    """Weight of the consistency loss."""
    temperature: FinitePositiveFloat = 1.0
    """Temperature of the prediction that is the target; below 1 it is sharpened (the paper takes 0.4)."""
    confidence: Fraction = 0.0
    """Texts whose largest predicted probability is below this do not count in a step (the paper takes 0.8)."""
    annealing: Literal["none", "linear", "exp", "log"] = "none"
    """Training signal annealing: labelled examples do not count while their label is more probable than a threshold, which
    rises from 1 / labels to 1 over the run: linearly, late (exp, for few labels) or early (log)."""

    def check(self, prefix: str) -> None:
        """No option without texts."""
        plain = UnlabelledConfig()
        for name, value in vars(self).items():
            if not self.data and value != getattr(plain, name):
                raise UserError(f"{prefix}{name} is {shown(value)}, but {prefix}data is null: give the files with the texts")
