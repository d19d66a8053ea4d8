"""Embeddings of whole texts by an encoder, without the head of a task."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.data.reading.empty_texts import empty_rows
from jaxft.evaluation import inference
from jaxft.evaluation.chunks import Forward, in_chunks
from jaxft.tasks import texts
from jaxft.tasks.task import Batch, Outputs, Split

KIND = "feature-extraction"


def embeddings(path: str, config: Config, rows: Any, origin: str, source: str) -> Iterator[np.ndarray]:
    """Yield one embedding per row, float32 [D], in the order of the rows; NaN for rows without a text.

    Embeddings are computed lazily, in chunks (see `chunks`).

    Args:
      path: RUN_OR_MODEL_DIR, with or without a head.
      config: gives the columns, the maximum length and the batch size.
      rows: the rows from `texts.read`.
      origin: their file, for error messages.
      source: `cls`, the last hidden state of the first token; `mean`, the mean of the last hidden states over all tokens,
        special tokens included (as in sentence-transformers); `pooled`, Hugging Face's `pooler_output`.

    Raises:
      UserError: if `source` is `pooled` and the model has no trained pooler.
    """
    model, params, tokenizer, mesh = inference.load_on_mesh(path, config, KIND)
    fresh = model.report is not None and any(name.startswith("encoder.pooler.") for name in model.report.new)
    if source == "pooled" and (not model.encoder.pooler or fresh):
        raise UserError(f"{path}: has no pooler, which --features pooled needs; use cls or mean")
    assert model.directory is not None
    directory = model.directory

    def summarise(outputs: Outputs, batch: Batch) -> Summary:
        found = {
            "cls": lambda: jnp.take_along_axis(outputs["last_hidden_state"], batch["first_token"][..., None], axis=1),
            "mean": lambda: outputs["mean_output"],
            "pooled": lambda: outputs["pooler_output"],
        }
        return Summary(examples={"embedding": found[source]()})

    forward = Forward(model, params, mesh, config, summarise)

    def encode(some: Any) -> Split:
        return Split(some, texts.encode(some, tokenizer, directory, config.data, origin), origin)

    for data, found in in_chunks(rows, encode, forward):
        yield from np.where(empty_rows(data.rows)[:, None], np.float32(np.nan), found.examples["embedding"])
