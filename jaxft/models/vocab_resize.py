"""Rows of a vocabulary: those of new words, those that are kept, and new rows as leaves of their own to be trained alone.

A vocabulary has a row in the table of word embeddings and, where a head scores words, in the decoder's bias and its kernel.
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

_AXES = {"embedding": 0, "kernel": 1, "bias": 0}  # of words, in a leaf of a module of these:
_MODULES = ("word_embeddings", "decoder")


@dataclass(frozen=True)
class Sources:
    """What the rows of a vocabulary are made from.

    Attributes:
      kept: int64 [size], the old row of each id, or -1 for a new word.
      pieces: id of a new word -> old ids of the pieces that its text splits into.
      token_ids: fields of config.json, such as `pad_token_id`, that change.
    """

    kept: np.ndarray
    pieces: Mapping[int, Sequence[int]]
    token_ids: Mapping[str, int]

    @property
    def new(self) -> int:
        """Number of new words."""
        return int((self.kept < 0).sum())

    @property
    def appended(self) -> int:
        """Number of new words if all of them stand behind the old ones, which have kept their ids; else 0."""
        old = len(self.kept) - self.new
        return self.new if np.array_equal(self.kept[:old], np.arange(old)) else 0


def with_vocabulary(model: Model, params: Params, sources: Sources, how: str, seed: int) -> tuple[Model, Params]:
    """The model with another vocabulary, and its parameters.

    Args:
      model, params: as loaded, numpy.
      sources: of the rows. Rows of the old table that no word keeps are dropped, as `resize_token_embeddings` in
        transformers drops what lies behind the tokenizer's last token.
      how: new rows are the `mean` of their pieces' rows (of all rows, where there is no piece), drawn from a `gaussian`
        with the mean and covariance of the old table (Hewitt 2021, nlp.stanford.edu/~johnhew/vocab-expansion.html;
        `mean_resizing` in transformers draws with 1e-9 of that covariance, which is the mean), or `random`: as the family
        initialises them.
      seed: of what is drawn.

    Raises:
      UserError: when the model counts its positions from the id of padding, and that changes.
    """
    field = model.family.fields["vocab_size"][0]
    config = {**model.hf_config, field: len(sources.kept), **sources.token_ids}
    made = make_model(config, model.heads[MAIN].kind, str(model.directory), policy=model.policy)
    # A bias of the old size that PyTorch keeps and never uses is written anew.
    buffers = {name: x for name, x in model.origin.buffers.items() if name not in model.naming.spare()}
    origin = replace(model.origin, buffers=buffers)
    made = replace(made, directory=model.directory, origin=origin, report=model.report)
    old, new = model.encoder.config, made.encoder.config
    if old.position_offset != new.position_offset:
        raise UserError(
            f"{model.directory}: the model counts positions from its padding id {old.pad_token_id}, but the padding id of "
            f"the new vocabulary is {new.pad_token_id}: give padding the same id there"
        )
    leaves = [path for path in tree.flatten(params) if _has_words(path)]
    fresh = made.initialised([".".join(path) for path in leaves], seed) if how == "random" else {}

    def leaf(path: Path, x: np.ndarray) -> np.ndarray:
        if path not in leaves:
            return x
        axis, drawn = _AXES[path[-1]], fresh.get(".".join(path))
        table = np.moveaxis(x, axis, 0)
        if drawn is None:
            stream = host_generator(seed, OfSeed.NEW_WORDS + leaves.index(path))
            result = _rows(table, sources, how, stream)
        else:
            result = np.moveaxis(np.array(drawn), axis, 0)
        result[sources.kept >= 0] = table[sources.kept[sources.kept >= 0]]
        return np.ascontiguousarray(np.moveaxis(result, 0, axis))

    return made, tree.map_with_path(leaf, params)


def split_rows(model: Model, params: Params, new: int) -> tuple[Model, Params]:
    """The model with the last `new` rows of its vocabulary as leaves of their own: `new_embedding` beside `embedding`."""
    encoder = replace(model.encoder, config=replace(model.encoder.config, new_words=new))
    flat = {}
    for path, x in tree.flatten(params).items():
        if not _has_words(path):
            flat[path] = x
            continue
        old, axis = x.shape[_AXES[path[-1]]] - new, _AXES[path[-1]]
        flat[path], flat[_beside(path)] = np.split(x, [old], axis)
    return replace(model, encoder=encoder), tree.unflatten(flat)


def join_rows(params: Params) -> Params:
    """Inverse of `split_rows` for numpy parameters; others stay as they are."""
    flat = tree.flatten(params)
    apart = {path: _beside(path) for path in flat if _has_words(path) and _beside(path) in flat}
    joined = {path: np.concatenate([flat[path], flat[new]], _AXES[path[-1]]) for path, new in apart.items()}
    gone = set(apart.values())
    return tree.unflatten({path: joined.get(path, x) for path, x in flat.items() if path not in gone})


def word_leaves(params: Params) -> set[str]:
    """Dotted names of the leaves that have a row for each word."""
    return {joined_name(".".join(path)) for path in tree.flatten(params) if _has_words(path)}


def joined_name(name: str) -> str:
    """The dotted name of a parameter in a tree that `join_rows` gives back."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.{leaf.removeprefix(NEW)}"


def _rows(table: np.ndarray, sources: Sources, how: str, stream: np.random.Generator) -> np.ndarray:
    """[size, ...] with the rows of new words made from the old table [V, ...]; the others are not set."""
    wide = table.reshape(len(table), -1).astype(np.float64)
    mean = wide.mean(0)
    rows = np.zeros((len(sources.kept), wide.shape[1]))
    new = np.flatnonzero(sources.kept < 0)
    if how == "gaussian":
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(wide, rowvar=False, bias=True)))
        spread = vectors * np.sqrt(np.maximum(values, 0))
        rows[new] = mean + stream.standard_normal((len(new), len(mean))) @ spread.T
    else:
        for i in new:
            pieces = sources.pieces.get(int(i))
            rows[i] = wide[list(pieces)].mean(0) if pieces else mean
    return rows.reshape(-1, *table.shape[1:]).astype(table.dtype)


def _has_words(path: Path) -> bool:
    return len(path) > 1 and path[-2] in _MODULES and path[-1] in _AXES


def _beside(path: Path) -> Path:
    return (*path[:-1], NEW + path[-1])
