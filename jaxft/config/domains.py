"""The section `domains`: texts of several domains, which the encoder learns not to tell apart."""

from dataclasses import dataclass

from jaxft.config.limits import FinitePositiveFloat, NonNegativeFloat, PathTexts, PositiveInt, Section, shown
from jaxft.core.errors import UserError


@dataclass(frozen=True)
class DomainsConfig(Section):
    """Domain-adversarial training with texts of other domains.

    It is DANN (Ganin et al. 2016, arXiv:1505.07818); docs/domains.md has the formulas.
    """

    texts: PathTexts = None
    """Texts of target domains, without labels, in files like data.train's: a path, or a list in which each path is a domain
    of its own. The training data are another domain."""
    column: str | None = None
    """Column with the name of each row's domain, in the training data and in `texts`, if given; null makes files domains."""
    files: bool = False
    """Whether each file of data.train is a domain of its own."""
    weight: NonNegativeFloat = 0.1
    """Largest factor of the reversed gradient (lambda). It rises from 0 over the run: weight (2 / (1 + exp(-gamma p)) - 1),
    where p is the share of steps done."""
    gamma: FinitePositiveFloat = 10.0
    """How fast the factor rises."""
    per_step: PositiveInt | None = None
    """Number of target texts in a step, beside train.batch_size examples; null takes as many."""
    hidden: PositiveInt | None = None
    """Width of a hidden layer of the domain classifier; null makes it linear."""

    @property
    def used(self) -> bool:
        """Whether a run has domains."""
        return bool(self.texts) or self.column is not None or self.files

    def check(self, prefix: str) -> None:
        """No option without domains."""
        plain = DomainsConfig()
        if self.texts == []:
            raise UserError(f"{prefix}texts is an empty list: name a file, or leave it at null")
        paths = [str(x) for x in self.texts] if isinstance(self.texts, list) else []
        if twice := next((x for i, x in enumerate(paths) if x in paths[:i]), None):
            raise UserError(f"{prefix}texts names {twice} twice: each path is a domain of its own")
        for name, value in vars(self).items():
            if not self.used and value != getattr(plain, name):
                raise UserError(
                    f"{prefix}{name} is {shown(value)}, but there are no domains: give {prefix}texts, column or files"
                )
        if self.files and self.column is not None:
            raise UserError(f"{prefix}files and {prefix}column exclude each other: one of them names the domains")
        if self.per_step and not self.texts:
            raise UserError(f"{prefix}per_step is {self.per_step}, but {prefix}texts is null: give the files with the texts")
