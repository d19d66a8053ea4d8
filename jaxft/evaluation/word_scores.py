"""Which words move a classifier: gradient times input (Shrikumar et al. 2016, arXiv:1605.01713)."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.data.cleaning.cleaner import Cleaner
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models.forward import batch_of
from jaxft.models.load_save import load
from jaxft.models.model import Model, labels_of
from jaxft.run import rundir

Words = list[tuple[str, float]]  # pieces of a text, which make up the whole text, and the score of each
_WORD = re.compile(r"\S+\s*|\s+")


def word_scores(path: str, config: Config, rows: Sequence[Mapping[str, Any]]) -> list[list[Words]]:
    """How much each word of some rows moves the model towards the predicted label and away from the gold one.

    It is the derivative of the difference of the two logits by the size of the word's embeddings. The sum over a row is the
    change of that difference, to first order, as all embeddings grow.

    Args:
      path: RUN_OR_MODEL_DIR.
      config: of the run, with the names of the text columns.
      rows: of `labelled_predictions`, with one gold and one predicted label each.

    Returns:
      for each row the words of its text, or of its two texts, as the model read them.

    Raises:
      UserError: if the model does not give one label per text, or its tokenizer has no offsets.
    """
    model, params = load(rundir.model_directory(path))
    names = labels_of(model.hf_config)
    if model.heads["main"].kind != "text-classification" or any(row["prediction"] not in names for row in rows):
        raise UserError(f"{path}: words are scored for models with one label per text")
    assert model.directory is not None
    tokenizer = load_tokenizer(model.directory)
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"{path}: {type(tokenizer).__name__} gives no character offsets, which scores of words need")
    texts = _texts(config, rows)
    if not rows:
        return []
    encoded = tokenizer(
        *([pair[i] for pair in texts] for i in range(len(texts[0]))),
        truncation=True,
        max_length=config.data.max_length,
        padding=True,
        return_offsets_mapping=True,
    )
    inputs = {
        name: np.asarray(encoded[name]) for name in ("input_ids", "attention_mask", "token_type_ids") if name in encoded
    }
    index = {name: i for i, name in enumerate(names)}
    labels = (np.array([index[row[side]] for row in rows]) for side in ("prediction", "gold"))
    scores = np.asarray(_gradient(model, params, batch_of(model, inputs), *map(jnp.asarray, labels)))
    return [
        [_by_word(text, side, encoded.encodings[i], scores[i]) for side, text in enumerate(pair)]
        for i, pair in enumerate(texts)
    ]


@partial(jax.jit, static_argnames="model")
def _gradient(model: Model, params: Params, batch: dict[str, jax.Array], label: jax.Array, other: jax.Array) -> jax.Array:
    """The derivative of logit `label` minus logit `other`, int [B] each, by the size of each embedding: float32 [B, T]."""

    def difference(size: jax.Array) -> jax.Array:
        def between(x: jax.Array, layers: Any) -> jax.Array:
            return x * size[..., None].astype(x.dtype) if type(layers) is int and layers == 0 else x

        logits = model.apply(params, batch, between=between)["logits"][:, 0].astype(jnp.float32)
        rows = jnp.arange(len(label))
        return (logits[rows, label] - logits[rows, other]).sum()

    return jax.grad(difference)(jnp.ones(batch["segment_ids"].shape, jnp.float32))


def _texts(config: Config, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The text, or the pair of texts, of each row after cleaning."""
    columns = [x for x in (config.data.text, config.data.text_pair) if x is not None]
    clean = Cleaner(config.data.clean)
    given = [[str(row.get(f"input_{name}", row.get(name)) or "") for name in columns] for row in rows]
    return [[clean(text).text if clean else text for text in texts] for texts in given]


def _by_word(text: str, side: int, encoding: Any, scores: np.ndarray) -> Words:
    """The words of a text, each with the white space after it and the sum of the scores of its tokens."""
    words = list(_WORD.finditer(text))
    ends = [word.end() for word in words]
    sums = [0.0] * len(words)
    for (start, end), sequence, score in zip(encoding.offsets, encoding.sequence_ids, scores.tolist(), strict=True):
        if sequence == side and end > start:
            first = start + len(text[start:end]) - len(text[start:end].lstrip())  # some tokens begin with a space
            sums[int(np.searchsorted(ends, min(first, end - 1), side="right"))] += score
    return [(word[0], total) for word, total in zip(words, sums, strict=True)]
