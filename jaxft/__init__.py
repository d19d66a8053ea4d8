"""jaxft: fine-tune BERT-family encoders in JAX.

The Python interface is `Trainer`, `Callback` and `pipeline`, and `load`, `forward`, `merge` and `save` below them
(docs/python.md); `jaxft --help` lists the commands.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jaxft.core import backend

__version__ = "0.1.0"
_MODULES = {
    **dict.fromkeys(("load", "merge", "save"), "jaxft.models.load_save"),
    "Callback": "jaxft.training.callbacks",
    "Trainer": "jaxft.trainer",
    "forward": "jaxft.models.forward",
    "pipeline": "jaxft.pipelines.make",
}
__all__ = ["Callback", "Trainer", "forward", "load", "merge", "pipeline", "save"]

if TYPE_CHECKING:
    from jaxft.models.forward import forward
    from jaxft.models.load_save import load, merge, save
    from jaxft.pipelines.make import pipeline
    from jaxft.trainer import Trainer
    from jaxft.training.callbacks import Callback

# This must run before JAX's backend starts: without it, jaxlib 0.10 computes wrong sums on CPUs.
backend.prepare()


def __getattr__(name: str) -> Any:
    """Import code on first use, so that `--help` is fast."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'jaxft' has no attribute {name!r}")
