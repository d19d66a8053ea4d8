"""Applies the steps of a config to the rows of an epoch."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxft.data.augmentation.document import Document
from jaxft.data.augmentation.draws import Draws
from jaxft.data.augmentation.fields import Fields
from jaxft.data.augmentation.pieces import PieceStep

WordStep = Callable[[Document, Draws], None]
DRAWN = "drawn"  # the count of the rows that steps were applied to; the others are reasons why some of them stay unchanged
UNCHANGED = "nothing to edit"
LOST = "a text or an answer would be lost"


def outcome(counts: Mapping[str, int]) -> tuple[int, str]:
    """(the number of rows that were edited, the reasons why other drawn rows were not, such as "3: nothing to edit")."""
    kept = {why: n for why, n in counts.items() if why != DRAWN and n}
    return counts[DRAWN] - sum(kept.values()), "; ".join(f"{n:,}: {why}" for why, n in kept.items())


@dataclass
class EditedRows:
    """What the steps make of some rows.

    Attributes:
      rows: the indices of the rows whose words have changed.
      columns: the columns of `Fields` of these rows.
      pieces: the steps on word pieces to be applied to the examples of a row, by its index.
      counts: the number of rows DRAWN, and of those among them that stay as they were, by reason.
    """

    rows: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    pieces: dict[int, list[PieceStep]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Augmenter:
    """The steps of a run.

    Attributes:
      steps: in the order of application.
      fields: which texts they edit.
      share: probability that an example is augmented.
      one: whether one step, drawn for each example, is applied to it in place of all.
      seed: of the run.
    """

    steps: Sequence[WordStep | PieceStep]
    fields: Fields
    share: float
    one: bool
    seed: int

    @cached_property
    def _plans(self) -> list[tuple[list[WordStep], list[PieceStep]]]:
        """The steps that are applied to an example together: (those on words, those on word pieces)."""
        together = [[step] for step in self.steps] if self.one else [self.steps]
        return [
            ([x for x in steps if not isinstance(x, PieceStep)], [x for x in steps if isinstance(x, PieceStep)])
            for steps in together
        ]

    def __call__(self, chunk: Mapping[str, Sequence[Any]], numbers: Sequence[int], epoch: int) -> EditedRows:
        """Edit rows as in an epoch.

        Args:
          chunk: the columns of the rows, those of `fields` among them.
          numbers: the number of each row in its files: with seed and epoch it decides every edit.
          epoch: from 0.
        """
        draws, found = Draws(self.seed, epoch), EditedRows()
        names, plans = self.fields.columns, self._plans
        found.columns = {name: [] for name in names}
        for i, values in enumerate(zip(*(chunk[name] for name in names), strict=True)):
            draws.begin(numbers[i])
            if draws.random() >= self.share:
                continue
            words, pieces = draws.choice(plans) if len(plans) > 1 else plans[0]
            found.counts[DRAWN] += 1
            if words:
                row = dict(zip(names, values, strict=True))
                edited = self.fields.edited(row, lambda document, words=words: _apply(words, document, draws))
                if edited is None:
                    found.counts[LOST] += 1
                    continue
                if edited != row:
                    found.rows.append(i)
                    for name in names:
                        found.columns[name].append(edited[name])
                elif not pieces:
                    found.counts[UNCHANGED] += 1
            if pieces:
                found.pieces[i] = pieces
        return found


def _apply(steps: Sequence[WordStep], document: Document, draws: Draws) -> None:
    for step in steps:
        step(document, draws)
