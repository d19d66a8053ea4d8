"""The frozen prefix: lowest layers that never learn and drop nothing give the same in every epoch, and are computed once.

What they give of every token is kept in a file that has no name and goes with the process; steps begin there. Packing,
devices and micro-batches do not matter: what an encoder gives of a token does not depend on where its example lies.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core import distributed, tree
from jaxft.core.paths import cache_dir
from jaxft.core.tree import Params
from jaxft.data.batching.collect import Summary
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation.chunks import Forward
from jaxft.models.encoder.config import DropoutSite
from jaxft.run.setup import PREFIX, Run
from jaxft.step.parameters import Parameters
from jaxft.tasks.task import Split

ABOVE = ("layer", "pooler", "final_norm")  # parts of an encoder that act after a layer, not before the first


@dataclass(frozen=True)
class FrozenFeatures:
    """What steps need where so many of the lowest layers (0: none) are kept.

    Attributes:
      layers: how many.
      whole: whether these are all layers.
      data: the splits whose examples have the column PREFIX.
    """

    layers: int = 0
    whole: bool = False
    data: Mapping[str, Split] = field(default_factory=dict)

    def rest(self, params: Parameters) -> Parameters:
        """The parameters without those of the kept layers."""
        below = partial(_below, layers=self.layers)
        model, _ = tree.partition(params.model, lambda path: not (path[0] == "encoder" and below(path[1:])))
        return replace(params, model=model)


def lowest(params: Params, layers: int) -> Params:
    """The encoder's parameters without what acts above the first so many layers."""
    return tree.partition(params["encoder"], lambda path: path[0] not in ABOVE or _below(path, layers))[0]


def _below(path: tree.Path, layers: int) -> bool:
    return path[0] == "layer" and tree.parse_span(path[1])[1] <= layers


def frozen_layers(run: Run) -> int:
    """How many of the lowest layers give the same for a text from the first step to the last, dropout included."""
    config, model = run.config, run.model
    c = model.encoder.config
    if run.task.masks_inputs or config.regularization.neftune:
        return 0
    learns = [name.split(".")[1:] for name, x in run.plan.settings.items() if x.trainable and name.startswith("encoder.")]
    trained = [int(path[1]) for path in learns if path[0] == "layer"]
    if any(path[0] not in ABOVE for path in learns) or (c.groups and trained) or model.rates.of(DropoutSite.EMBEDDINGS):
        return 0
    inside = [site for site in DropoutSite if site != DropoutSite.EMBEDDINGS]
    frozen = range(min(trained, default=c.parameter_layers))
    return next((i for i in frozen if any(map(model.rates.of_layer(i).of, inside))), len(frozen))


def cache_frozen_features(run: Run, params: Parameters, say: Callable[[str], None]) -> FrozenFeatures:
    """Compute the prefix of the training and the validation data, if it would be computed more than once and there is room.

    Args:
      run: the run.
      params: its parameters, on the mesh.
      say: for people.
    """
    if not run.config.runtime.keep_frozen or run.total_steps <= run.steps_per_epoch:
        return FrozenFeatures()
    unchanged = frozen_layers(run)
    layers = max((stop for _, stop, _ in tree.stacks(params.model["encoder"]["layer"]) if stop <= unchanged), default=0)
    if not layers:
        return FrozenFeatures()
    data = {name: split for name, split in run.data.items() if name != "test"}
    tokens = {name: int(split.examples.offsets[-1]) for name, split in data.items()}
    width, dtype = run.model.encoder.config.hidden_size, jnp.dtype(run.model.policy.dtype)
    size = sum(tokens.values()) * width * dtype.itemsize
    what = f"the frozen {layers} layers of {sum(tokens.values()):,} tokens ({size / 2**20:,.0f} MiB)"
    files = _files({name: (count, width) for name, count in tokens.items()}, dtype, size)
    if not distributed.all_agree(bool(files)):
        say(f"{what} do not fit into {cache_dir()} and are computed in every step")
        return FrozenFeatures()
    say(f"computing {what} once: they do not change")
    for name, split in data.items():
        _fill(files[name], run, lowest(params.model, layers), split.examples)
    whole = layers == run.model.encoder.config.parameter_layers
    found = {x: replace(y, examples=y.examples.with_tokens(**{PREFIX: files[x]})) for x, y in data.items()}
    return FrozenFeatures(layers, whole, found)


def _files(shapes: Mapping[str, tuple[int, int]], dtype: np.dtype, size: int) -> dict[str, np.ndarray]:
    """An array in a file without a name for each shape; none where they would take more than half of what is free."""
    root = cache_dir()
    found = {}
    try:
        root.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(root).free / 2:
            return {}
        for name, shape in shapes.items():
            with tempfile.TemporaryFile(dir=root) as file:
                if hasattr(os, "posix_fallocate"):  # on a full disk this is an error, and a write to a page is the end
                    os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1] * dtype.itemsize)
                found[name] = np.memmap(file, dtype, "w+", shape=shape)
    except OSError:
        return {}
    return found


def _fill(kept: np.ndarray, run: Run, params: Params, examples: Examples) -> None:
    """Write what these parameters of the encoder give of every token, [total, D]."""
    encoder, policy = run.model.encoder, run.model.policy

    def forward(params: Params, batch: dict[str, jax.Array]) -> Summary:
        micro = {name: x[0] for name, x in batch.items()}
        outputs = encoder.apply(params, micro, rates=run.model.rates, policy=policy)
        return Summary(tokens={PREFIX: outputs["last_hidden_state"]})

    Forward(forward, params, run.mesh, run.config)(examples, summary=Summary(tokens={PREFIX: kept}))
