"""All streams of random numbers of a run: the numbers that are folded into a key, or used with the seed, to make another.

The members of an enumeration are folded into the same key, as are the numbers that its docstring names, which are counted
from 0 (epochs, steps, micro-batches, layers). The values decide every number that a run draws, so they never change, and a
new one differs from all others of its enumeration.
"""

from enum import IntEnum, unique

import numpy as np


@unique
class OfSeed(IntEnum):
    """Streams on the host, used with the run's seed; the others are epochs, and checksums of the names of adapters.

    Epochs are numbered from 0 and checksums have 32 bits: both are below 2^32.
    """

    SPLIT = 2**32
    """Which training examples are set aside for validation."""
    SEGMENT_PAIRS = 2**32 + 1
    """Pairs of segments for pretraining."""
    FOLDS = 2**32 + 16
    """Which fold of a cross-validation a training example is in."""
    NEW_WORDS = 2**33
    """Embeddings of new words; the number of the embedding table is added."""
    AUGMENTATION = 2**34
    """Which edits augmentation makes; the epoch is added, and the number of the row is the generator's counter."""
    PAIRS = 2**35
    """Pairs of examples that share a row; the epoch is added."""
    UNLABELLED = 2**36
    """The order of texts without labels; the number of the pass over them is added."""
    TASK_STEPS = 2**37
    """Which of several tasks each step is of; the epoch is added."""
    TASK_EXAMPLES = 2**40
    """The order of the examples of several tasks; 2^32 times the number of the task is added, and the number of the pass."""


@unique
class OfModel(IntEnum):
    """Streams of the root key for new parameters; the other heads follow the first.

    Steps are folded into the same key, but parameters are drawn only after flax has folded their names into these keys.
    """

    ENCODER = 0
    FIRST_HEAD = 1


@unique
class OfStep(IntEnum):
    """Streams of a step's key; the others are its micro-batches, numbered from 0."""

    PREPARE = 2**32 - 1
    """What the task changes in the whole batch, such as masks."""
    MIXOUT = 2**32 - 2
    """Which weights mixout replaces; checksums of the names of parameters are folded in."""


@unique
class OfPreparation(IntEnum):
    """Streams of the key of `OfStep.PREPARE` beside the task's own, which uses the key itself."""

    CUTOFF = 0
    PERTURBATION = 1
    """Where adversarial perturbations start."""


@unique
class OfMicroBatch(IntEnum):
    """Streams of a micro-batch's key, and of the encoder's when it is initialised."""

    EMBEDDINGS = 0
    LAYERS = 1
    """The number of the layer is folded in, counting each application of a shared layer."""
    HEAD = 2
    """The number of the head's part is folded in, except for the first. Pooler and head share this stream."""
    NEFTUNE = 3
    """Noise on word embeddings."""
    SHARED_MODULES = 10
    """Initialisation only: the number of modules that have been initialised is added."""
    SECOND_PASS = 2**32 - 2
    """The second pass of R-Drop, which folds all others into this key again."""


@unique
class OfLayer(IntEnum):
    """Streams of a layer's key, and ADAPTERS also of the embeddings' and the head's, where parts are numbered from 1."""

    ATTENTION = 0
    ATTENTION_OUTPUT = 1
    OUTPUT = 2
    BETWEEN = 3
    """Dropout between the dense layers of the feed-forward sublayer (ModernBERT), or the convolution (DeBERTa)."""
    ADAPTERS = 2**32 - 1
    """Flax folds the names of adapters in."""


@unique
class OfAttention(IntEnum):
    """Streams of disentangled attention."""

    PROBABILITIES = 0
    RELATIVE_POSITIONS = 1


@unique
class OfHead(IntEnum):
    """Streams of the key of a head's part; its last dropout uses the key itself."""

    INPUT = 1


def host_generator(seed: int, stream: int) -> np.random.Generator:
    """The generator of a stream on the host: one of `OfSeed`, an epoch, or the checksum of a name."""
    return np.random.Generator(np.random.Philox(key=[seed, stream]))
