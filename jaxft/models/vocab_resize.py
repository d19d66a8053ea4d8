"""Changes the vocabulary of a model: adds rows for new words, drops old rows, and splits new rows into separate leaves.

Each word has a row in the table of word embeddings and, if a head predicts words, in the decoder's bias and kernel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.core.random_streams import OfSeed, host_generator
from jaxft.core.tree import Params, Path
from jaxft.models.encoder.layers import NEW
from jaxft.models.model import MAIN, Model, make_model

_AXES = {"embedding": 0, "kernel": 1, "bias": 0}  # the axis of words in the leaves of these modules:
_MODULES = ("word_embeddings", "decoder")


@dataclass(frozen=True)
class Sources:
    """The sources of the rows of a new vocabulary.

    Attributes:
      old_ids: int64 [size], the old id of each word, or -1 for a new word.
      pieces: id of a new word -> old ids of the tokens that its text splits into.
      token_ids: fields of config.json, such as `pad_token_id`, that change.
    """

    old_ids: np.ndarray
    pieces: Mapping[int, Sequence[int]]
    token_ids: Mapping[str, int]

    @property
    def new(self) -> int:
        """Number of new words."""
        return int((self.old_ids < 0).sum())

    @property
    def appended(self) -> int:
        """Number of new words if all of them follow the old words, whose ids are unchanged; else 0."""
        old = len(self.old_ids) - self.new
        return self.new if np.array_equal(self.old_ids[:old], np.arange(old)) else 0


def with_vocabulary(model: Model, params: Params, sources: Sources, how: str, seed: int) -> tuple[Model, Params]:
    """Replaces the vocabulary of a model.

    Args:
      model, params: as loaded, numpy.
      sources: the sources of the new rows. Other old rows are dropped, as `resize_token_embeddings` in transformers drops
        rows after the tokenizer's last token.
      how: new rows are the `mean` of their pieces' rows (of all rows if there are no pieces); drawn from a `gaussian` with
        the mean and covariance of the old table (Hewitt 2021, nlp.stanford.edu/~johnhew/vocab-expansion.html;
        `mean_resizing` in transformers draws with 1e-9 of that covariance, which is the mean); or `random`, as the family
        initialises them.

    Raises:
      UserError: if the model counts positions from the padding id, and that changes.
    """
    field = model.family.fields["vocab_size"][0]
    config = {**model.hf_config, field: len(sources.old_ids), **sources.token_ids}
    resized = make_model(config, model.heads[MAIN].kind, str(model.directory), policy=model.policy)
    # The unused bias of PyTorch's untied decoders has the old size; `save` writes one of the new size.
    buffers = {name: x for name, x in model.origin.buffers.items() if name not in model.naming.unused_biases()}
    origin = replace(model.origin, buffers=buffers)
    resized = replace(resized, directory=model.directory, origin=origin, report=model.report)
    old, new = model.encoder.config, resized.encoder.config
    if old.position_offset != new.position_offset:
        raise UserError(
            f"{model.directory}: the model counts positions from its padding id {old.pad_token_id}, but the padding id of "
            f"the new vocabulary is {new.pad_token_id}: give padding the same id there"
        )
    leaves = [path for path in tree.flatten(params) if _has_words(path)]
    fresh = resized.initialised([".".join(path) for path in leaves], seed) if how == "random" else {}

    def leaf(path: Path, x: np.ndarray) -> np.ndarray:
        if path not in leaves:
            return x
        axis, drawn = _AXES[path[-1]], fresh.get(".".join(path))
        table, is_old = np.moveaxis(x, axis, 0), sources.old_ids >= 0
        if drawn is None:
            result = _rows(table, sources, how, host_generator(seed, OfSeed.NEW_WORDS + leaves.index(path)))
        else:
            result = np.moveaxis(np.array(drawn), axis, 0)
        result[is_old] = table[sources.old_ids[is_old]]
        return np.ascontiguousarray(np.moveaxis(result, 0, axis))

    return resized, tree.map_with_path(leaf, params)


def split_rows(model: Model, params: Params, new: int) -> tuple[Model, Params]:
    """Splits the last `new` rows of the vocabulary off into separate leaves: `new_embedding` beside `embedding`."""
    encoder = replace(model.encoder, config=replace(model.encoder.config, new_words=new))
    flat = {}
    for path, x in tree.flatten(params).items():
        flat[path] = x
        if _has_words(path):
            axis = _AXES[path[-1]]
            flat[path], flat[_new_rows_path(path)] = np.split(x, [x.shape[axis] - new], axis)
    return replace(model, encoder=encoder), tree.unflatten(flat)


def join_rows(params: Params) -> Params:
    """Inverse of `split_rows`, for numpy parameters; parameters without separate rows are unchanged."""
    flat = tree.flatten(params)
    split = {path: _new_rows_path(path) for path in flat if _has_words(path) and _new_rows_path(path) in flat}
    for path, new in split.items():
        flat[path] = np.concatenate([flat[path], flat.pop(new)], _AXES[path[-1]])
    return tree.unflatten(flat)


def word_leaves(params: Params) -> set[str]:
    """Dotted names of the leaves that have a row for each word."""
    return {joined_name(".".join(path)) for path in tree.flatten(params) if _has_words(path)}


def joined_name(name: str) -> str:
    """The dotted name of a parameter after `join_rows`."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.{leaf.removeprefix(NEW)}"


def _rows(table: np.ndarray, sources: Sources, how: str, rng: np.random.Generator) -> np.ndarray:
    """The rows of new words, from the old table [V, ...]: [size, ...], in which all other rows are zero."""
    flat_table = table.reshape(len(table), -1).astype(np.float64)
    mean = flat_table.mean(0)
    rows = np.zeros((len(sources.old_ids), flat_table.shape[1]))
    new = np.flatnonzero(sources.old_ids < 0)
    if how == "gaussian":
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(flat_table, rowvar=False, bias=True)))
        factor = vectors * np.sqrt(np.maximum(values, 0))
        rows[new] = mean + rng.standard_normal((len(new), len(mean))) @ factor.T
    else:
        for i in new:
            pieces = sources.pieces.get(int(i))
            rows[i] = flat_table[list(pieces)].mean(0) if pieces else mean
    return rows.reshape(-1, *table.shape[1:]).astype(table.dtype)


def _has_words(path: Path) -> bool:
    return len(path) > 1 and path[-2] in _MODULES and path[-1] in _AXES


def _new_rows_path(path: Path) -> Path:
    return (*path[:-1], NEW + path[-1])
