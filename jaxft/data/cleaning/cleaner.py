"""Applies the cleaning steps of a config to texts, and finds the places of one text in the other."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from jaxft.config.clean import CleanConfig, CleanRuleConfig
from jaxft.core.errors import UserError
from jaxft.data.cleaning import steps
from jaxft.data.cleaning.edits import Edited, Span, apply

_COUNTS: ContextVar[Counter[str] | None] = ContextVar("counts", default=None)


@dataclass(frozen=True)
class Cleaned:
    """A text after cleaning.

    Attributes:
      text: the new text.
      stages: the steps that changed something, in order; each is applied to the text of the one before.
    """

    text: str
    stages: Sequence[Edited] = ()

    def span(self, start: int, end: int) -> Span | None:
        """The place of a span of the original text in the new one; None if no step can tell (see `Edited.span`)."""
        found: Span | None = (start, end)
        for stage in self.stages:
            if found is None:
                break
            found = stage.span(*found)
        return found

    def own_span(self, start: int, end: int) -> Span:
        """The shortest span of the original text that a span of the new one was made from."""
        return own_span([stage.moves for stage in self.stages], start, end)


class Cleaner:
    """Cleans texts as a config says. Calls are independent of one another."""

    def __init__(self, config: CleanConfig) -> None:
        chosen: list[tuple[str, steps.Step | None]] = [
            ("html_tags", steps.remove_tags if config.html_tags else None),
            ("html_entities", steps.unescape_entities if config.html_entities else None),
            ("unicode", steps.normalize(config.unicode) if config.unicode else None),
            ("control_characters", steps.remove_control_characters if config.control_characters else None),
            *((rule_name(x.pattern), steps.substitute(re.compile(x.pattern), x.replacement)) for x in config.rules),
            ("whitespace", steps.collapse_whitespace if config.whitespace else None),
        ]
        self._steps = [(name, step) for name, step in chosen if step]

    def __bool__(self) -> bool:
        """Whether there is any step."""
        return bool(self._steps)

    def __call__(self, text: str) -> Cleaned:
        """The text after all steps."""
        stages = []
        for name, step in self._steps:
            if edits := step(text):
                edited = apply(text, edits)
                if edited.edits:
                    stages.append(edited)
                    text = edited.text
                    if (counts := _COUNTS.get()) is not None:
                        counts[name] += 1
        return Cleaned(text, stages)


def rule_name(pattern: str) -> str:
    """The name of a rule of `data.clean.rules` in messages and counts."""
    return f'rules "{pattern}"'


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """A context in which the texts that each step changes are counted, by the name of the step."""
    token = _COUNTS.set(counts := Counter())
    try:
        yield counts
    finally:
        _COUNTS.reset(token)


def check_rules(rules: Iterable[CleanRuleConfig], counts: Mapping[str, int], where: str) -> None:
    """Check that every rule has changed a text.

    Args:
      rules: `data.clean.rules`.
      counts: of the texts that each step changed, as `counted` gives them.
      where: the files, for the message.

    Raises:
      UserError: naming a rule that has not.
    """
    for rule in rules:
        if not counts.get(rule_name(rule.pattern)):
            raise UserError(f'data.clean.rules "{rule.pattern}" changes nothing in {where}: correct it or leave it out')


def own_span(stages: Sequence[Sequence[int]], start: int, end: int) -> Span:
    """`Cleaned.own_span` from the `Edited.moves` of each stage."""
    for moves in reversed(stages):
        start, end = _before(moves, start, end)
    return start, end


def _before(moves: Sequence[int], start: int, end: int) -> Span:
    """The place, before a stage, of a span of the text after it."""
    shift = 0  # of the text after the stage against the one before
    first = last = None
    for begin, stop, size in zip(moves[::3], moves[1::3], moves[2::3], strict=True):
        low, high = begin + shift, begin + shift + size  # of the replacement
        if first is None and start < high:
            first = min(start - shift, begin)
        if last is None and (end <= low or end < high):
            last = end - shift if end <= low else stop
        shift = high - stop
    first, last = start - shift if first is None else first, end - shift if last is None else last
    return min(first, last), max(first, last)  # of text that was inserted beside what another edit removes, that
