"""Makes the steps of a config, by their names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxft.config.augment import AugmentConfig, AugmentStepConfig
from jaxft.core.errors import UserError
from jaxft.core.object_reference import is_reference, load_object
from jaxft.data.augmentation import mentions, noise, order, pieces, synonyms, translations
from jaxft.data.augmentation.engine import Augmenter, WordStep
from jaxft.data.augmentation.fields import Fields
from jaxft.data.augmentation.masked_words import MaskWords
from jaxft.data.augmentation.mentions import Tagged
from jaxft.data.augmentation.pieces import PieceStep
from jaxft.data.augmentation.synonyms import Synonyms


@dataclass(frozen=True)
class Resources:
    """What steps may need beside their options; it is computed only when a step asks for it.

    Attributes:
      tagged: the words and IOB2 tags of the training sentences.
      nearest: number of words -> as many nearest words of a word in the model's word embeddings.
      mask: the tokenizer's mask token and its id.
      proposes: whether a masked LM fills the masks of the edited texts.
    """

    tagged: Callable[[], Tagged]
    nearest: Callable[[int], Synonyms]
    mask: Callable[[], tuple[str, int]]
    proposes: bool = False


Maker = Callable[[AugmentStepConfig, Resources], Any]


def _synonyms(options: AugmentStepConfig, resources: Resources) -> Synonyms:
    if options.file is not None:
        return synonyms.from_file(options.file)
    return synonyms.wordnet() if options.source == "wordnet" else resources.nearest(options.candidates)


def _replace(options: AugmentStepConfig, resources: Resources) -> WordStep:
    if options.source == "masked_lm":
        return _masked(options, resources)
    return synonyms.Replace(options.rate, _synonyms(options, resources), options.entities)


def _insert(options: AugmentStepConfig, resources: Resources) -> WordStep:
    if options.source == "masked_lm":
        return _masked(options, resources)
    return synonyms.Insert(options.rate, _synonyms(options, resources))


def _masked(options: AugmentStepConfig, resources: Resources) -> MaskWords:
    if not resources.proposes:
        raise UserError(
            "augment.steps: source masked_lm needs a forward pass for every text: write augmented texts to a file once "
            "with jaxft augment, and train on that"
        )
    return MaskWords(options.rate, resources.mask()[0], options.step == "insert")


def _mentions(options: AugmentStepConfig, resources: Resources) -> mentions.ReplaceMentions:
    known = mentions.mentions_of(resources.tagged())
    found = known if options.file is None else mentions.read_mentions(options.file, list(known))
    return mentions.ReplaceMentions(options.rate, found)


STEPS: dict[str, Maker] = {
    "delete": lambda x, _: order.Delete(x.rate),
    "swap": lambda x, _: order.Swap(x.rate),
    "insert": _insert,
    "replace": _replace,
    "spelling": lambda x, _: noise.Spelling(x.rate, x.entities),
    "keyboard": lambda x, _: noise.Keyboard(x.rate, x.layout, x.entities),
    "case": lambda x, _: noise.Case(x.rate, x.to, x.entities),
    "back_translation": lambda x, _: translations.BackTranslation(x.rate, translations.read_translations(str(x.file))),
    "mask_pieces": lambda x, resources: pieces.MaskPieces(x.rate, resources.mask()[1]),
    "drop_pieces": lambda x, _: pieces.DropPieces(x.rate),
    "replace_mentions": _mentions,
    "replace_tagged": lambda x, resources: mentions.ReplaceTagged(x.rate, mentions.words_of(resources.tagged())),
    "shuffle_segments": lambda x, _: order.ShuffleSegments(x.rate),
}


def _make(options: AugmentStepConfig, resources: Resources) -> Any:
    """A step of jaxft's by its name, or one of the user's: a class that is made with the rate, or a function."""
    if not is_reference(options.step):
        return STEPS[options.step](options, resources)
    found = load_object(options.step, "augment.steps")
    if isinstance(found, type):
        return found(options.rate)
    if not callable(found):
        raise UserError(f"augment.steps {options.step}: is neither a class nor a function")
    if options.rate != AugmentStepConfig(options.step).rate:
        raise UserError(f"augment.steps {options.step}: is a function, which takes no rate: leave it out")
    return found


def make_augmenter(config: AugmentConfig, fields: Fields, resources: Resources, *, seed: int, task: str) -> Augmenter:
    """The steps of a config, for rows with these fields of a task with this name.

    Raises:
      UserError: for a step that the rows cannot use, or whose file or source cannot be read.
    """
    for number, step in enumerate(config.steps, 1):
        if step.step in fields.lacks:
            raise UserError(f"augment.steps {number}: {step.step} cannot be used for {task}: it {fields.lacks[step.step]}")
    made: list[WordStep | PieceStep] = [_make(step, resources) for step in config.steps]
    made.sort(key=lambda step: isinstance(step, MaskWords))  # no step may edit or move a mask
    return Augmenter(made, fields, config.share, config.apply == "one", seed)
