"""jaxft: fine-tune BERT-family encoders in JAX.

`load`, `forward`, `merge` and `save` are the Python interface; `jaxft --help` lists the commands.
"""

from typing import TYPE_CHECKING, Any

from jaxft.core import backend

__version__ = "0.1.0"
__all__ = ["forward", "load", "merge", "save"]

if TYPE_CHECKING:
    from jaxft.models.forward import forward
    from jaxft.models.load_save import load, merge, save

# This must run before JAX's backend starts: without it, jaxlib 0.10 computes wrong sums on CPUs.
backend.prepare()


def __getattr__(name: str) -> Any:
    """Import the model code on first use, so that `--help` is fast."""
    if name in __all__:
        from jaxft.models import forward, load_save

        return forward.forward if name == "forward" else getattr(load_save, name)
    raise AttributeError(f"module 'jaxft' has no attribute {name!r}")
