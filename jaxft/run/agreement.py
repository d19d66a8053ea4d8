"""Whether all processes of a run are alike: they have the same versions, the same config, and the same data."""

import zlib
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import numpy as np

from jaxft.config import Config, cli
from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.data.tokens.cache import content_digest
from jaxft.data.tokens.encode import Examples

PACKAGES = ("jaxft", "jax", "jaxlib", "flax", "optax", "transformers", "tokenizers")


def check_same(config: Config) -> None:
    """Refuse processes that differ from process 0.

    Raises:
      UserError: on all processes, with the first difference.
    """
    values = {name: version(name) for name in PACKAGES} | cli.flatten(cli.as_dict(config))
    text = "\n".join(f"{name} {value}" for name, value in values.items())
    if len(set(distributed.gather(zlib.crc32(text.encode()) >> 1))) == 1:
        return
    texts = distributed.gather_texts(text, most=max(distributed.gather(len(text.encode()))))
    main = texts[0].splitlines()
    for number, other in enumerate(texts):
        for ours, theirs in zip(main, other.splitlines(), strict=False):
            if ours != theirs:
                raise UserError(f"process {number} was started with {theirs}, but process 0 with {ours}: start all alike")


def check_same_examples(examples: Examples, origin: str) -> None:
    """Refuse processes whose examples differ from those of process 0: then none would know which rows the others build.

    Raises:
      UserError: on all processes, with the numbers of those that differ.
    """
    if distributed.process_count() > 1:
        named = sorted([*examples.tokens.items(), *examples.columns.items()])
        _check_same([name.encode() for name, _ in named], [examples.offsets, *(x for _, x in named)], origin)


def check_same_rows(rows: Any, origin: str) -> None:
    """Refuse processes whose rows, a `datasets.Dataset`, differ from those of process 0.

    Raises:
      UserError: on all processes, with the numbers of those that differ.
    """
    if distributed.process_count() > 1:
        _check_same([content_digest(rows).encode()], [], origin)


def _check_same(texts: Iterable[bytes], arrays: Iterable[np.ndarray], origin: str) -> None:
    digest = 0
    for part in [*texts, *arrays]:
        digest = zlib.crc32(part if isinstance(part, bytes) else np.ascontiguousarray(part).data, digest)
    each = distributed.gather(digest >> 1)
    if others := [number for number, other in enumerate(each) if other != each[0]]:
        raise UserError(
            f"{origin}: processes {', '.join(map(str, others))} of {len(each)} read other rows there, or have another "
            "tokenizer, than process 0; give all machines the same files"
        )
