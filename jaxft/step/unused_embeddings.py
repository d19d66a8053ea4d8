"""Training without the word embeddings that no training example uses, with the same result.

The gradient of such a row is zero in every step. An optimizer that treats each number separately keeps its moments at zero,
so only weight decay changes the row, by the same factor as every other unused row. The trained table therefore contains the
rows of the used words, and one more row, which starts as ones and so becomes the factor of weight decay; the initial table
is a frozen parameter. A data set of short texts uses some thousands of BERT's 30,522 words, and a few hundredths of the
250,002 words of XLM-R, which are two thirds of that model. Gradients, moments and checkpoints have no unused rows.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.config import Config
from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder.layers import lookup
from jaxft.models.heads import VOCABULARY
from jaxft.models.model import Model
from jaxft.models.weights.tensor_names import WORDS
from jaxft.param_plan import ParameterPlan
from jaxft.step.parameters import Parameters

_ROWS = 512  # the table has a multiple of this: it can be sharded, and similar data sets have the same programs
_CHUNK = 1 << 24  # token ids that are counted at once
# Optimizers with which weight decay multiplies a number without gradient by a factor, and those that leave it unchanged
# without weight decay.
_DECAY_BY_FACTOR = ("adamw", "bert_adam", "sgd", "lion", "muon")
_UNCHANGED_WITHOUT_DECAY = ("adam", "rmsprop", "adagrad")
_PATH = tuple(WORDS.split("."))


def used_words(config: Config, model: Model, plan: ParameterPlan, parts: Iterable[Examples]) -> np.ndarray | None:
    """Ids, ascending, int64 [words], of the words whose rows are trained; None if the whole table is trained or frozen.

    They are the words of all examples that the run trains on, which `parts` gives; steps must not replace words by others.
    """
    setting, size = plan.settings[WORDS], model.encoder.config.vocab_size
    predicts_words = any(part.outputs == VOCABULARY for head in model.heads.values() for part in head.parts.values())
    if not config.runtime.skip_unused_words or predicts_words or model.encoder.config.new_words:
        return None
    decay = config.optim.weight_decay if setting.weight_decay is True else setting.weight_decay
    penalised = config.regularization.l1 or config.regularization.l2 or config.regularization.l2_sp
    optimizers = _DECAY_BY_FACTOR if decay else _DECAY_BY_FACTOR + _UNCHANGED_WITHOUT_DECAY
    if not setting.trainable or penalised or config.optim.name not in optimizers:
        return None
    counts, rows = np.zeros(size, np.int64), 0
    for examples in parts:
        ids = examples.tokens["input_ids"]
        for start in range(0, len(ids), _CHUNK):
            counts += np.bincount(ids[start : start + _CHUNK], minlength=size)
        rows = -(-(np.count_nonzero(counts) + 1) // _ROWS) * _ROWS  # one is the factor of weight decay
        if rows >= size:
            return None
    # Sorting by frequency puts all used words first; unused ones fill the table.
    return np.sort(np.argsort(-counts, kind="stable")[: rows - 1])


def split_unused(params: Params, used: np.ndarray | None) -> tuple[Params, Params]:
    """(the parameters with a table of the used words and the factor of decay, `Parameters.unused_words`).

    The parameters are numpy arrays or shapes; without `used_words`, they are unchanged.
    """
    if used is None:
        return params, {}
    flat = tree.flatten(params)
    table, count = flat[_PATH], len(used) + 1
    if isinstance(table, jax.ShapeDtypeStruct):
        trained = jax.ShapeDtypeStruct((count, table.shape[1]), table.dtype)
    else:
        trained = np.concatenate([table[used], np.ones((1, table.shape[1]), table.dtype)])
    rank = np.full(table.shape[0], -1, np.int32)
    rank[used] = np.arange(len(used))
    return tree.unflatten({**flat, _PATH: trained}), {"embedding": table, "rank": rank}


def join_unused(params: Parameters) -> Params:
    """The model's parameters with the whole table, from trained numpy parameters; the inverse of `split_unused`."""
    if not params.unused_words:
        return params.model
    flat = tree.flatten(params.model)
    trained, rank, table = flat[_PATH], params.unused_words["rank"], params.unused_words["embedding"]
    return tree.unflatten({**flat, _PATH: np.where(rank[:, None] >= 0, trained[rank], table * trained[-1:])})


def embed_words(params: Parameters, ids: jax.Array, *, training: bool) -> jax.Array:
    """Word embeddings [..., D] of ids [...]; in training, all words must be used ones."""
    leaves, unused = params.model["encoder"]["embeddings"]["word_embeddings"], params.unused_words
    if not unused:
        return lookup(ids, **leaves)
    trained, rank = leaves["embedding"], jnp.take(unused["rank"], ids, mode="clip")
    rows = lookup(rank, trained)
    if training:
        return rows
    unused_rows = lookup(ids, unused["embedding"]) * jnp.broadcast_to(trained[-1], rows.shape)
    return jnp.where((rank >= 0)[..., None], rows, unused_rows)
