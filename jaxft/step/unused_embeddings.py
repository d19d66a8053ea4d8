"""Word embeddings that no training example looks up: their rows are taken out of what is trained, and nothing changes.

Such a row has a gradient of zero in every step. The moments of an optimizer that treats every number by itself stay zero
then, and all that moves the row is weight decay, by the same factor as every other such row. So the trained table holds the
rows of the words that are used and one row more, which starts as ones and shows what decay has left; the table of the start
lies frozen beside it. A data set of short texts uses some thousands of BERT's 30,522 words and a few hundredths of the
250,002 of XLM-R, which are two thirds of that model: gradient, moments and checkpoints are smaller by the rest.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.config import Config
from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder.layers import lookup
from jaxft.models.heads import VOCABULARY
from jaxft.models.model import MAIN, Model
from jaxft.models.weights.tensor_names import WORDS
from jaxft.param_plan import ParameterPlan
from jaxft.step.parameters import Parameters

_ROWS = 512  # a table has a multiple of so many: it can be split over devices, and similar data have the same programs
_CHUNK = 1 << 24  # token ids that are counted at a time
# Optimizers that move a number without gradient by decay alone, by a factor; and those of which this holds without decay.
_BY_FACTOR = ("adamw", "bert_adam", "sgd", "lion", "muon")
_WITHOUT_DECAY = ("adam", "rmsprop", "adagrad")
_PATH = tuple(WORDS.split("."))


def used_words(config: Config, model: Model, plan: ParameterPlan, examples: Examples, *, changed: bool) -> np.ndarray | None:
    """Ids of the words whose rows are trained, ascending, or None where the whole table is (or nothing of it).

    Args:
      config, model, plan: of the run.
      examples: what it is trained on.
      changed: whether steps replace words by others.
    """
    setting, size = plan.settings[WORDS], model.encoder.config.vocab_size
    scored = any(part.outputs == VOCABULARY for part in model.heads[MAIN].parts.values())
    if not config.runtime.skip_unused_words or changed or scored or model.encoder.config.new_words:
        return None
    decay = config.optim.weight_decay if setting.weight_decay is True else setting.weight_decay
    pulled = config.regularization.l1 or config.regularization.l2 or config.regularization.l2_sp
    known = _BY_FACTOR if decay else _BY_FACTOR + _WITHOUT_DECAY
    if not setting.trainable or pulled or config.optim.name not in known:
        return None
    ids, counts = examples.tokens["input_ids"], np.zeros(size, np.int64)
    for start in range(0, len(ids), _CHUNK):
        counts += np.bincount(ids[start : start + _CHUNK], minlength=size)
    rows = -(-(np.count_nonzero(counts) + 1) // _ROWS) * _ROWS  # one is for what decay leaves
    if rows >= size:
        return None
    # The most frequent ones, and as many others as fill the table.
    return np.sort(np.argsort(-counts, kind="stable")[: rows - 1])


def split_unused(params: Params, used: np.ndarray | None) -> tuple[Params, Params]:
    """(the parameters with a table of used words and decay's row, `Parameters.unused_words`).

    Args:
      params: numpy arrays or shapes.
      used: as `used_words` gives it; None changes nothing.
    """
    flat = tree.flatten(params)
    if used is None:
        return params, {}
    table, count = flat[_PATH], len(used) + 1
    if isinstance(table, jax.ShapeDtypeStruct):
        own = jax.ShapeDtypeStruct((count, table.shape[1]), table.dtype)
    else:
        own = np.concatenate([table[used], np.ones((1, table.shape[1]), table.dtype)])
    rank = np.full(table.shape[0], -1, np.int32)
    rank[used] = np.arange(len(used))
    return tree.unflatten({**flat, _PATH: own}), {"embedding": table, "rank": rank}


def embedded(params: Parameters, ids: jax.Array, *, training: bool) -> jax.Array:
    """Word embeddings [..., D] of ids [...]; in training all words are used ones."""
    leaves, rest = params.model["encoder"]["embeddings"]["word_embeddings"], params.unused_words
    if not rest:
        return lookup(ids, **leaves)
    table, rank = leaves["embedding"], jnp.take(rest["rank"], ids, mode="clip")
    rows = lookup(rank, table)
    if training:
        return rows
    others = lookup(ids, rest["embedding"]) * jnp.broadcast_to(table[-1], rows.shape)
    return jnp.where((rank >= 0)[..., None], rows, others)


def whole(params: Parameters) -> Params:
    """Inverse of `split_unused` for numpy parameters, whatever training has made of them; others stay as they are."""
    if not params.unused_words:
        return params.model
    flat = tree.flatten(params.model)
    own, rank, table = flat[_PATH], params.unused_words["rank"], params.unused_words["embedding"]
    return tree.unflatten({**flat, _PATH: np.where(rank[:, None] >= 0, own[rank], table * own[-1:])})
