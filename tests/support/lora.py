"""Random values for adapters, and the names of the modules and parameters that belong to them."""

import numpy as np

from jaxft.core import tree
from jaxft.models.encoder import adapters


def randomised(params, seed: int = 0):
    """Noise on adapters: B is not zero, and magnitudes are not the columns' lengths."""
    rng = np.random.default_rng(seed)

    def leaf(path, x):
        new = adapters.is_adapter(tree.names(path)[0])
        return (x + rng.normal(0, 0.1, x.shape)).astype(np.float32) if new else x

    return tree.map_with_path(leaf, params)


def modules(params) -> set[str]:
    """Dotted names of the layers that have LoRA."""
    return {name.removesuffix(".lora_a") for name in tree.all_names(params) if name.endswith(".lora_a")}


def trainable(params) -> set[str]:
    """Dotted names of the parameters that the preset lora trains."""
    return {name for name in tree.all_names(params) if name.startswith("heads.") or ".lora_" in name}
