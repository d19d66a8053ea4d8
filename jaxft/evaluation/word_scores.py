"""Which words move a model towards its mistakes: gradient times input (Shrikumar et al. 2016, arXiv:1605.01713)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.data.tokens.tokenizer import has_token_types, load_tokenizer
from jaxft.evaluation.mistake_weights import BY_KIND
from jaxft.models.forward import batch_of
from jaxft.models.load_save import load
from jaxft.models.model import MAIN, Model, labels_of
from jaxft.run.trained_models import model_directory

Words = list[tuple[str, float]]  # pieces of a text, which make up the whole text, and the score of each


def word_scores(path: str, config: Config, rows: Sequence[Mapping[str, Any]]) -> list[list[Words]]:
    """How much each word of some rows moves the model towards its prediction and away from the gold answer.

    It is the derivative, by the size of the word's embeddings, of the outputs that made the mistake: the logits of what was
    predicted wrongly minus those of what is right and was not predicted (see `mistake_weights`). The sum over a row is
    the change of that difference, to first order, as all embeddings grow.

    Args:
      path: RUN_OR_MODEL_DIR.
      config: of the run, with the names of the text columns.
      rows: of `labelled_predictions`.

    Returns:
      for each row the words of its texts, as the model read them.

    Raises:
      UserError: if the model has no such outputs, or its tokenizer has no offsets.
    """
    model, params = load(model_directory(path))
    weigh = BY_KIND.get(model.heads[MAIN].kind)
    if weigh is None:
        raise UserError(f"{path}: words are scored for models that predict labels, numbers, tags, answers or choices")
    assert model.directory is not None
    tokenizer = load_tokenizer(model.directory)
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"{path}: {type(tokenizer).__name__} gives no character offsets, which scores of words need")
    if not rows:
        return []
    found = weigh(rows, labels_of(model.hf_config), tokenizer, config.data)
    inputs = {
        "input_ids": _padded([x.ids for x in found.encodings], tokenizer.pad_token_id),
        "attention_mask": _padded([x.attention_mask for x in found.encodings], 0),
    }
    if has_token_types(tokenizer):
        inputs["token_type_ids"] = _padded([x.type_ids for x in found.encodings], 0)
    weights = {name: jnp.asarray(x) for name, x in found.weights.items()}
    scores = np.asarray(_gradient(model, params, batch_of(model, inputs), weights), np.float64)
    return [
        [[(word, float(scores[i, tokens].sum())) for word, tokens in words] for i, words in texts] for texts in found.texts
    ]


def _padded(rows: Sequence[Sequence[int]], value: int) -> np.ndarray:
    """Rows of ints, int64 [B, T], with `value` up to the longest."""
    array = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for row, own in zip(array, rows, strict=True):
        row[: len(own)] = own
    return array


@partial(jax.jit, static_argnames="model")
def _gradient(model: Model, params: Params, batch: dict[str, jax.Array], weights: Mapping[str, jax.Array]) -> jax.Array:
    """The derivative of the weighted sum of outputs by the size of each embedding, float32 [B, T]."""

    def total(size: jax.Array) -> jax.Array:
        def between(x: jax.Array, layers: Any) -> jax.Array:
            return x * size[..., None].astype(x.dtype) if type(layers) is int and layers == 0 else x

        outputs = model.apply(params, batch, between=between)
        return jnp.stack([(outputs[name].astype(jnp.float32) * own).sum() for name, own in weights.items()]).sum()

    return jax.grad(total)(jnp.ones(batch["segment_ids"].shape, jnp.float32))
