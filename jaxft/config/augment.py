"""The section `augment`: how training examples are changed anew in every epoch."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from jaxft.config.limits import (
    FinitePositiveFloat,
    Fraction,
    Limit,
    PathText,
    PositiveInt,
    Rate,
    Section,
    one_of,
    require,
    shown,
)
from jaxft.core.errors import UserError, nearest
from jaxft.core.object_reference import is_reference

# The options that each step has beside `step` and `rate`.
STEP_OPTIONS: dict[str, tuple[str, ...]] = {
    "delete": (),
    "swap": (),
    "insert": ("file", "source", "candidates"),
    "replace": ("file", "source", "candidates", "entities"),
    "spelling": ("entities",),
    "keyboard": ("layout", "entities"),
    "case": ("to", "entities"),
    "back_translation": ("file",),
    "mask_pieces": (),
    "drop_pieces": (),
    "replace_mentions": ("file",),
    "replace_tagged": (),
    "shuffle_segments": (),
}
SOURCES = ("wordnet", "embeddings", "masked_lm")
LAYERS = Limit("one or more different layers, 0 or more", lambda x: x and len(set(x)) == len(x) and min(x) >= 0)
_EMPTYING = ("delete", "drop_pieces")  # steps that would leave nothing at rate 1


@dataclass(frozen=True)
class AugmentStepConfig(Section):
    """One step of the augmentation of an example."""

    step: str
    """Name of the step: delete, swap, insert, replace, spelling, keyboard, case, back_translation, mask_pieces, drop_pieces,
    replace_mentions, replace_tagged or shuffle_segments (docs/augmentation.md says what each does); or module:Class, made
    with the rate, or module:function of your own, called with (document, draws)."""
    rate: Fraction = 0.1
    """delete, mask_pieces, drop_pieces, back_translation and the steps for tags: probability for each word, piece, text,
    mention or segment. The others: share of the words that are edited, at least one."""
    file: PathText | None = None
    """insert, replace: UTF-8 file of synonyms, each line `word<TAB>synonym,synonym` or a list of words that mean the same.
    back_translation: each line `text<TAB>translation`, with more translations after further tabs. replace_mentions: each
    line `type<TAB>mention`; null takes the mentions of the training data."""
    source: Annotated[str, one_of(*SOURCES)] | None = None
    """insert, replace, without a file: wordnet (through nltk), embeddings (the nearest words of the model's own word
    embeddings) or masked_lm (the model's own proposals; jaxft augment only)."""
    candidates: PositiveInt = 5
    """insert, replace with source embeddings or masked_lm: number of the best words, of which one is drawn."""
    layout: Annotated[str, one_of("qwerty", "qwertz", "azerty")] = "qwerty"
    """keyboard: the keyboard on which neighbouring keys are hit."""
    to: Annotated[str, one_of("random", "lower", "upper", "title", "swap")] = "random"
    """case: what a word becomes; random draws one of the others for each word."""
    entities: bool = False
    """replace, spelling, keyboard, case: whether words of entities are edited, too, in tagged data; they keep their tags.
    Answers of question answering are never edited."""

    def check(self, prefix: str) -> None:
        """The step exists, and has the options that are set."""
        known = self.step in STEP_OPTIONS or is_reference(self.step)
        right = f"one of {', '.join(STEP_OPTIONS)}, or module:name of your own{self._near()}"
        require(known, f"{prefix}step", self.step, right)
        own, plain = STEP_OPTIONS.get(self.step, ()), AugmentStepConfig(self.step)
        for name, value in vars(self).items():
            if name not in ("step", "rate", *own) and value != getattr(plain, name):
                has = f"rate, {', '.join(own)}" if own else "rate"
                raise UserError(f"{prefix}{name} is {shown(value)}, but {self.step} has no such option, only {has}")
        emptying = self.step in _EMPTYING and self.rate == 1
        require(not emptying, f"{prefix}rate", self.rate, f"below 1: {self.step} would empty every text")
        if "source" in own:
            given = (self.file is not None) + (self.source is not None)
            if given != 1:
                has = "both a file and a source" if given else "neither a file nor a source"
                raise UserError(f"{prefix}({self.step}) has {has} of synonyms: give one; sources are {', '.join(SOURCES)}")
        if self.step == "back_translation":
            require(self.file is not None, f"{prefix}file", self.file, "a file of lines text<TAB>translation")

    def _near(self) -> str:
        return nearest(self.step, STEP_OPTIONS)


@dataclass(frozen=True)
class AugmentConfig(Section):
    """Changes of the training examples, made anew in every epoch."""

    steps: list[AugmentStepConfig] = field(default_factory=list)
    """Steps, such as [{step: delete, rate: 0.1}, {step: replace, file: synonyms.tsv}];
    an empty list changes nothing."""
    share: Fraction = 0.5
    """Share of the examples of an epoch that are augmented; the others stay as they are."""
    apply: Literal["all", "one"] = "all"
    """all applies every step to an augmented example, in the order of the list; one applies a single step, drawn for each
    example, as EDA does (Wei & Zou 2019, arXiv:1901.11196)."""

    cutoff_tokens: Rate = 0.0
    """Cut-off (Shen et al. 2020, arXiv:2009.13818): share of an example's tokens, from 0 to below 1, whose word embeddings
    are 0 for a step; 0 turns it off. An example is cut with probability `share`, drawn anew for every step."""
    cutoff_span: Rate = 0.0
    """Cut-off: as cutoff_tokens, but of consecutive tokens."""
    cutoff_features: Rate = 0.0
    """Cut-off: share of the features of the word embeddings of an example that are 0 for a step."""
    mixup: FinitePositiveFloat | None = None
    """Mixup of hidden states (TMix, Chen et al. 2020, arXiv:2004.12239): alpha of Beta(alpha, alpha), from which the ratio
    of a pair of examples is drawn; all examples are mixed. Needs an even train.batch_size. Text classification and tags."""
    mixup_layers: Annotated[list[int], LAYERS] | None = None
    """mixup: layers, counted from 1, after one of which a pair is mixed (0 means after the embeddings); null takes those at
    7, 9 and 12 twelfths of the model's depth, as the paper does."""

    def check(self, prefix: str) -> None:
        """Steps within their limits, and no option without effect."""
        if self.mixup_layers is not None and self.mixup is None:
            raise UserError(
                f"{prefix}mixup_layers is {self.mixup_layers}, but {prefix}mixup is null: give its alpha, such as 0.4"
            )
        for number, step in enumerate(self.steps, 1):
            step.validate(f"{prefix}steps {number} ")
