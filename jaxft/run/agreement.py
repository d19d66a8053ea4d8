"""Whether all processes of a run were started alike: with the same versions and the same config."""

import zlib
from importlib.metadata import version

from jaxft.config import Config, cli
from jaxft.core import distributed
from jaxft.core.errors import UserError

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
