"""The training examples of each epoch of a run: augmented, in pairs, and with texts without labels or of other domains."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps
from jaxft.core.random_streams import OfSeed, host_generator
from jaxft.data.augmentation.pairs import consistency_pairs, mixing_pairs
from jaxft.data.augmentation.synonyms import Synonyms
from jaxft.data.batching.batch_sampler import Parts
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.replace import join_examples, select_examples
from jaxft.run.augmentation import Augmentation
from jaxft.run.run_tokenizer import Vocabulary
from jaxft.run.teacher_labels import is_labelled
from jaxft.run.unlabelled import read_unlabelled
from jaxft.tasks.task import Split, Task

Stop = Callable[[], bool]
Nearest = Callable[[int], Synonyms]
Pair = Callable[[Examples, int, Stop], tuple[Examples, str]]  # (examples, epoch, stop) -> pairs, a line for the log or ""
TMIX_LAYERS = (7, 9, 12)  # of BERT's 12 (Chen et al. 2020)


class EpochExamples:
    """Makes the examples of an epoch by its number.

    Attributes:
      augmentation: of the labelled examples, if there is any.
      batch_size: examples of a step, as `Examples` counts them: a pair is one.
      parts: as in `BatchSampler`.
      longest: tokens of the longest example of any epoch, or 0 if all epochs have the same examples.
      first: the examples of epoch 0, and their line, until they are used.
      prototype: one example of an epoch, for the shapes and types of its columns.
      texts: of other domains, of which an epoch has some after the labelled examples.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        split: Split,
        vocabulary: Vocabulary,
        nearest: Nearest,
        layers: int,
        texts: Examples | None = None,
    ) -> None:
        """Read the texts without labels and make the steps of augmentation.

        Args:
          config, task, vocabulary: of the run.
          split: the training data.
          nearest: as in `Resources`.
          layers: of the model.
          texts: of other domains, with the columns of the training examples.

        Raises:
          UserError: for what the config asks for and the task or the model does not allow.
        """
        if config.unlabelled.data:
            _check_consistency(config, task)
        augment, self._config, self._training = config.augment, config, split.examples
        self.batch_size, self.longest = config.train.batch_size, 0
        self.parts: Parts = ()
        self.augmentation: Augmentation | None = None
        self._pair: Pair | None = None
        self.texts, self._texts_of = texts, None if texts is None else self._domain_texts(texts)
        if augment.steps and (augment.share or not config.unlabelled.data):
            self.augmentation = Augmentation(config, task, split, vocabulary, nearest, labelled=is_labelled(config, "train"))
            self.longest = self.augmentation.longest
        longest = self.longest or int(self._training.lengths.max())
        if config.unlabelled.data:
            self._pair = self._consistency_pairs(config, task, vocabulary, nearest)
            self.longest = 2 * max(longest, self._unlabelled.longest)
        elif augment.mixup:
            mix = partial(mixing_pairs, seed=config.seed, alpha=augment.mixup, layers=mixing_layers(config, task, layers))
            self._pair = lambda examples, epoch, stop: (mix(examples, epoch=epoch), "")
            self._halve()
            self.longest = 2 * longest
        elif texts is not None:
            self.longest = max(longest, int(texts.lengths.max()))
        self.first: tuple[Examples, str] | None = self._make(0)
        self.prototype = self.first[0].first(1)

    def __call__(self, epoch: int, stop: Stop = lambda: False) -> tuple[Examples, str]:
        """The examples of an epoch, and a line for the log if there is something to say of them.

        Raises:
          CancelledError: as soon as `stop()`.
        """
        if epoch or self.first is None:
            return self._make(epoch, stop)
        first, self.first = self.first, None
        return first

    def until(self, end: int) -> Iterator[Examples]:
        """The examples of epoch 0 to `end` - 1, in advance."""
        first = self.first or self._make(0)
        size = max(1, len(first[0]))
        for start in in_steps("augmenting all epochs in advance", end * size, size):
            yield (self._make(start // size) if start else first)[0]

    @property
    def in_pairs(self) -> bool:
        """Whether the examples are pairs of those of the data."""
        return self._pair is not None

    def _make(self, epoch: int, stop: Stop = lambda: False) -> tuple[Examples, str]:
        examples, lines = self._training, []
        if self.augmentation:
            made = self.augmentation.epoch(epoch, stop)
            examples, lines = made.examples, [made.line(epoch)]
        if self._pair:
            examples, line = self._pair(examples, epoch, stop)
            lines += [line] if line else []
        if self.texts is not None and self._texts_of:
            examples = join_examples([examples, select_examples(self.texts, self._texts_of(epoch))])
        return examples, "\n".join(lines)

    def _halve(self) -> None:
        size = self.batch_size
        if size % 2:
            name = "unlabelled.data" if self._config.unlabelled.data else "augment.mixup"
            raise UserError(f"train.batch_size is {size}: must be even, because {name} puts examples in pairs")
        self.batch_size = size // 2

    def _domain_texts(self, texts: Examples) -> Callable[[int], np.ndarray]:
        """Which texts of other domains an epoch has; sets the parts of a step."""
        given, size, count = self._config.domains.per_step, self.batch_size, len(texts)
        per_step = given or size
        if per_step > count:
            what = f"is {given}" if given else f"is null, as many as train.batch_size {size}"
            raise UserError(
                f"domains.per_step {what}: a step may not have more texts than there are; domains.texts has {count:,}"
            )
        most = -(-len(self._training) // size) * per_step
        self.parts = (len(self._training), size), (most, per_step)
        self.batch_size += per_step
        return partial(texts_in_turn, count, most, self._config.seed)

    def _consistency_pairs(self, config: Config, task: Task, vocabulary: Vocabulary, nearest: Nearest) -> Pair:
        assert config.unlabelled.data is not None
        split = read_unlabelled(config, task, vocabulary, config.unlabelled.data, "unlabelled.data")
        steps, per_step = -(-len(self._training) // self.batch_size), config.unlabelled.ratio * self.batch_size
        count, most = len(split.rows), steps * per_step
        if per_step > count:
            most_of_all = count // self.batch_size
            right = f"at most {most_of_all}" if most_of_all else "1, with a smaller train.batch_size"
            raise UserError(
                f"unlabelled.ratio is {config.unlabelled.ratio}: a step of {self.batch_size} labelled examples would have "
                f"{per_step:,} texts, but {split.origin} has only {count:,}; the ratio must be {right}"
            )
        self._halve()
        self.parts = (-(-len(self._training) // 2), self.batch_size), (most, per_step)
        self.batch_size += per_step
        chosen = partial(texts_in_turn, count, most, config.seed)
        every = replace(config, augment=replace(config.augment, share=1.0))
        self._unlabelled = Augmentation(every, task, split, vocabulary, nearest, chosen, labelled=False)

        def pairs(labelled: Examples, epoch: int, stop: Stop) -> tuple[Examples, str]:
            made = self._unlabelled.epoch(epoch, stop)
            paired = consistency_pairs(labelled, made.given, made.examples, seed=config.seed, epoch=epoch)
            return paired, made.line(epoch, " of unlabelled.data")

        return pairs


def texts_in_turn(count: int, most: int, seed: int, epoch: int) -> np.ndarray:
    """`most` of `count` texts for an epoch, int64 [most]: each pass over all has its own order, and epochs go on where one
    ended."""
    passes = range(epoch * most // count, -(-(epoch + 1) * most // count))
    order = np.concatenate([host_generator(seed, OfSeed.UNLABELLED + n).permutation(count) for n in passes])
    begin = epoch * most - passes.start * count
    return order[begin : begin + most]


def varies(config: Config) -> bool:
    """Whether the examples of a run differ between epochs."""
    return bool(config.augment.steps or config.augment.mixup or config.unlabelled.data or config.domains.texts)


def mixing_layers(config: Config, task: Task, layers: int) -> tuple[int, ...]:
    """The layers after which pairs are mixed.

    Raises:
      UserError: if the task's labels cannot be mixed, or the model has no such layer.
    """
    if config.distill.teacher:
        raise UserError("augment.mixup and distill.teacher exclude each other: the teacher predicts for texts, not mixtures")
    if task.mixes is None:
        raise UserError(f"augment.mixup is for text classification and tags, not for {task.kind}: leave it at null")
    chosen = config.augment.mixup_layers
    if chosen is None:
        return tuple(sorted({round(layers * x / TMIX_LAYERS[-1]) for x in TMIX_LAYERS}))
    if max(chosen) > layers:
        raise UserError(f"augment.mixup_layers has {max(chosen)}, but the model has {layers} layers")
    return tuple(chosen)


def _check_consistency(config: Config, task: Task) -> None:
    """Check that a run can use texts without labels."""
    if (kind := getattr(task, "problem", task.kind)) != "single_label":
        raise UserError(f"unlabelled.data: only text classification with one label can use texts without labels, not {kind}")
    if not config.augment.steps:
        raise UserError("unlabelled.data needs augment.steps: the steps that make the augmented version of each text")
    if config.augment.mixup:
        raise UserError("unlabelled.data and augment.mixup exclude each other: leave one of them at null")
    if config.unlabelled.annealing != "none":
        others = {"distill.teacher": config.distill.teacher, "regularization.r_drop": config.regularization.r_drop}
        others |= {f"adversarial.method {x}": x in ("smart", "vat") for x in [config.adversarial.method]}
        if used := [name for name, value in others.items() if value]:
            raise UserError(f"unlabelled.annealing and {used[0]} exclude each other: leave annealing at none")
    several = config.train.micro_batches > 1
    if several and config.unlabelled.annealing != "none":
        raise UserError("unlabelled.annealing needs train.micro_batches 1: it compares the examples of a whole step")
    if several and config.task.class_weights:
        raise UserError("unlabelled.data with task.class_weights needs train.micro_batches 1: means are over a whole step")
