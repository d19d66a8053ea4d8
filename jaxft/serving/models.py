"""The models of a server: opened by name, and equal arrays of several kept once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.pipelines.base import Pipeline
from jaxft.pipelines.make import pipeline


def names_of(given: Sequence[str]) -> dict[str, str]:
    """The path of each model by its name: `NAME=PATH`, or a path whose last part (or that of its run) is the name.

    Raises:
      UserError: for two models of one name.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or "/" in name:
            path, parts = text, [x for x in Path(text.removeprefix("package:")).parts if x != "model"]
            name = parts[-1] if parts else text
        if not name or not path:
            raise UserError(f"{text}: must be PATH or NAME=PATH")
        if name in found:
            raise UserError(f"{found[name]} and {path} are both called {name}: give names of your own, NAME=PATH")
        found[name] = path
    return found


def open_models(paths: Mapping[str, str], **options: Any) -> tuple[dict[str, Pipeline], int]:
    """(the pipeline of each model, the bytes of arrays that are kept once instead of several times).

    `options` are those of `jaxft.pipeline`.
    """
    opened: dict[str, Pipeline] = {}
    shared = 0
    for name, path in paths.items():
        new = pipeline(path, **options)
        for other in opened.values():
            params, saved = with_shared(new.forward.params, other.forward.params)
            new.forward.params, new.model = params, replace(new.model, params=params)
            shared += saved
        opened[name] = new
    return opened, shared


def with_shared(params: tree.Params, others: tree.Params) -> tuple[tree.Params, int]:
    """(the parameters with those of others in the place of equal ones, the bytes of these).

    Adapters that are merged into one base leave most of it as it was.
    """
    known, saved = tree.flatten(others), 0

    def keep(path: tree.Path, leaf: Any) -> Any:
        nonlocal saved
        other = known.get(path)
        if other is None or other is leaf or _kind(other) != _kind(leaf):
            return leaf
        if not np.array_equal(np.asarray(jax.device_get(other)), np.asarray(jax.device_get(leaf))):
            return leaf
        saved += leaf.nbytes
        return other

    return tree.map_with_path(keep, params), saved


def _kind(leaf: Any) -> tuple[Any, ...]:
    return leaf.shape, leaf.dtype, leaf.sharding
