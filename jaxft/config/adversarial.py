"""The section `adversarial`: training on word embeddings that are changed in the direction that hurts the model most."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxft.config.limits import FinitePositiveFloat, NonNegativeFloat, PositiveInt, Section, shown
from jaxft.core.errors import UserError

Method = Literal["fgm", "pgd", "freelb", "smart", "vat"]
Norm = Literal["l2", "linf"]

# The options of each method and what they are by default; None is no limit.
DEFAULTS: dict[str, dict[str, float | str | None]] = {
    "fgm": {"epsilon": 0.1, "norm": "l2", "weight": 1.0},
    "pgd": {"epsilon": 0.1, "norm": "l2", "weight": 1.0, "steps": 3, "step_size": 0.05},
    "freelb": {"epsilon": None, "norm": "l2", "steps": 3, "step_size": 0.03, "start": 0.05},
    "smart": {"epsilon": None, "norm": "linf", "weight": 1.0, "steps": 1, "step_size": 1e-3, "start": 1e-5},
    "vat": {"epsilon": 0.1, "weight": 1.0, "steps": 1, "start": 1e-2},
}


@dataclass(frozen=True)
class AdversarialConfig(Section):
    """Adversarial training; docs/robust.md has the formulas. Options that are null take the method's default."""

    method: Method | None = None
    """fgm (Miyato et al. 2017), pgd (Madry et al. 2018), freelb (Zhu et al. 2020), smart (Jiang et al. 2020) or vat (Miyato
    et al. 2018)."""
    epsilon: FinitePositiveFloat | None = None
    """Largest norm of the perturbation of a text; of fgm and vat, its norm. Default: fgm, pgd and vat 0.1; freelb
    and smart have no limit."""
    norm: Norm | None = None
    """Norm of gradients and perturbations, over all numbers of a text: l2 (default) or linf (default of smart)."""
    weight: NonNegativeFloat | None = None
    """fgm, pgd, smart, vat: weight of the loss that is added to the plain one. Default 1."""
    steps: PositiveInt | None = None
    """Steps that make a perturbation. Default: pgd and freelb 3, smart and vat 1."""
    step_size: FinitePositiveFloat | None = None
    """Norm of such a step. Default: pgd 0.05, freelb 0.03, smart 0.001."""
    start: NonNegativeFloat | None = None
    """Size of the random perturbation before the first step. freelb: its largest norm (default 0.05); smart: the standard
    deviation of each number (default 1e-5); vat: its norm (default 0.01)."""

    def check(self, prefix: str) -> None:
        """No option that the method does not have."""
        for name, value in vars(self).items():
            if name == "method" or value is None:
                continue
            if self.method is None:
                raise UserError(
                    f"{prefix}{name} is {shown(value)}, but {prefix}method is null: give one of {', '.join(DEFAULTS)}"
                )
            if name not in DEFAULTS[self.method]:
                have = ", ".join(DEFAULTS[self.method])
                raise UserError(f"{prefix}{name} is {shown(value)}, but {self.method} has no such option, only {have}")
        if self.method in ("smart", "vat") and self.start == 0:
            raise UserError(
                f"{prefix}start is 0: must be above 0, because {self.method} has no gradient without a perturbation"
            )

    def options(self) -> dict[str, float | str | None]:
        """The options of the method, by name; none without a method."""
        defaults = DEFAULTS.get(self.method or "", {})
        return {name: x if (x := getattr(self, name)) is not None else default for name, default in defaults.items()}

    def value(self, name: str) -> Any:
        """An option of the method; None for one that it does not have."""
        return self.options().get(name)
