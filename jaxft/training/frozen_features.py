"""A cache of the outputs of frozen layers: without dropout they are the same in every epoch, so they are computed once.

The outputs of the lowest layers for every token are in an unnamed temporary file, and steps begin with the layers above.
Packing, devices and micro-batches do not matter, because the output for a token does not depend on where its example is.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core import distributed, tree
from jaxft.core.paths import cache_dir
from jaxft.core.signals import nothing
from jaxft.core.tree import Params
from jaxft.data.batching.collect import Summary
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation.chunks import Forward
from jaxft.models.encoder.config import DropoutSite
from jaxft.run.loss import changes_words, run_matches
from jaxft.run.setup import FROZEN_FEATURES, Run
from jaxft.step.parameters import Parameters
from jaxft.tasks.task import Split

ABOVE = ("layer", "pooler", "final_norm")  # parts of an encoder that are not below its first layer


@dataclass(frozen=True)
class FrozenFeatures:
    """The cached outputs of the lowest layers."""

    layers: int = 0  # number of cached layers; 0 without a cache
    all_layers: bool = False  # whether these are all layers of the encoder
    data: Mapping[str, Split] = field(default_factory=dict)  # the splits whose examples have the column FROZEN_FEATURES

    def without_cached(self, params: Parameters) -> Parameters:
        """The parameters without those of the cached layers."""
        model, _ = tree.partition(params.model, lambda path: path[0] != "encoder" or not _is_below(path[1:], self.layers))
        return replace(params, model=model)


def lowest(params: Params, layers: int) -> Params:
    """The encoder's parameters up to and including its lowest layers."""
    return tree.partition(params["encoder"], lambda path: path[0] not in ABOVE or _is_below(path, layers))[0]


def _is_below(path: tree.Path, layers: int) -> bool:
    """Whether a path within the encoder is that of one of the lowest layers."""
    return path[0] == "layer" and tree.parse_span(path[1])[1] <= layers


def frozen_layers(run: Run) -> int:
    """The number of lowest layers whose outputs for a text are the same in all steps: frozen, and without dropout."""
    model = run.model
    c = model.encoder.config
    if run.changes_texts or run.epochs or changes_words(run):
        return 0
    trained = [name.split(".")[1:] for name, x in run.plan.settings.items() if x.trainable and name.startswith("encoder.")]
    trained_layers = [int(path[1]) for path in trained if path[0] == "layer"]
    if any(path[0] not in ABOVE for path in trained) or (c.groups and trained_layers):
        return 0
    if model.rates.of(DropoutSite.EMBEDDINGS):
        return 0
    sites = [site for site in DropoutSite if site != DropoutSite.EMBEDDINGS]
    matches = run_matches(run)
    most = min(matches.lowest_input, c.parameter_layers - 1) if matches else c.parameter_layers
    if most < c.parameter_layers and c.groups:
        return 0
    frozen = range(min([*trained_layers, most]))
    return next((i for i in frozen if any(map(model.rates.of_layer(i).of, sites))), len(frozen))


def cache_frozen_features(
    run: Run, params: Parameters, say: Callable[[str], None], check: Callable[[], None] = nothing
) -> FrozenFeatures:
    """Cache the outputs of frozen layers for the training and the validation data of a run of more than one epoch.

    The parameters are on the mesh. Nothing is cached if the file would be too large. `check` is called after every batch.
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
    cached = {}
    for name, split in data.items():
        _fill(files[name], run, lowest(params.model, layers), split.examples, check)
        cached[name] = replace(split, examples=split.examples.with_tokens(**{FROZEN_FEATURES: files[name]}))
    return FrozenFeatures(layers, layers == run.model.encoder.config.parameter_layers, cached)


def _files(shapes: Mapping[str, tuple[int, int]], dtype: np.dtype, size: int) -> dict[str, np.ndarray]:
    """An array in an unnamed file for each shape; none if they would take more than half of the free disk space."""
    root = cache_dir()
    arrays = {}
    try:
        root.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(root).free / 2:
            return {}
        for name, shape in shapes.items():
            with tempfile.TemporaryFile(dir=root) as file:
                if hasattr(os, "posix_fallocate"):  # raises on a full disk; writing to a page would kill the process
                    os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1] * dtype.itemsize)
                arrays[name] = np.memmap(file, dtype, "w+", shape=shape)
    except OSError:
        return {}
    return arrays


def _fill(outputs: np.ndarray, run: Run, params: Params, examples: Examples, check: Callable[[], None]) -> None:
    """Write the outputs of layers with these parameters for all tokens into an array [total, D]."""
    encoder, policy = run.model.encoder, run.model.policy

    def forward(params: Params, batch: dict[str, jax.Array]) -> Summary:
        micro = {name: x[0] for name, x in batch.items()}
        hidden = encoder.apply(params, micro, rates=run.model.rates, policy=policy)["last_hidden_state"]
        return Summary(tokens={FROZEN_FEATURES: hidden})

    summary = Summary(tokens={FROZEN_FEATURES: outputs})
    Forward(forward, params, run.mesh, run.config)(examples, summary=summary, check=check)
