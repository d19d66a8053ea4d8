"""The frozen prefix: lowest layers that never learn and drop nothing give the same in every epoch, and are computed once.

What they give of every token is kept in a file that has no name and goes with the process; steps begin there. Packing,
devices and micro-batches do not matter: what an encoder gives of a token does not depend on where its example lies.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import runtime, sharding, tree
from jaxft.compiled import abstract_batches
from jaxft.data.collect import Collected
from jaxft.data.encode import Examples
from jaxft.evaluation import run_plan
from jaxft.models.config import Rates
from jaxft.setup import PREFIX, Run, eval_planner
from jaxft.tasks.task import Split
from jaxft.tree import Params

ABOVE = ("layer", "pooler", "final_norm")  # parts of an encoder that act after a layer, not before the first


@dataclass(frozen=True)
class Kept:
    """What steps need where so many of the lowest layers (0: none) are kept.

    Attributes:
      layers: how many.
      data: the splits whose examples have the column PREFIX.
    """

    layers: int = 0
    data: Mapping[str, Split] = field(default_factory=dict)

    def rest(self, params: Params) -> Params:
        """The parameters without those of the kept layers."""
        return tree.partition(params, lambda path: not (path[0] == "encoder" and _below(path[1:], self.layers)))[0]


def lowest(params: Params, layers: int) -> Params:
    """The encoder's parameters without what acts above the first so many layers."""
    return tree.partition(params["encoder"], lambda path: path[0] not in ABOVE or _below(path, layers))[0]


def _below(path: tree.Path, layers: int) -> bool:
    return path[0] == "layer" and tree.parse_span(path[1])[1] <= layers


def frozen_layers(run: Run) -> int:
    """How many of the lowest layers give the same for a text from the first step to the last, dropout included."""
    config, model = run.config, run.model
    c = model.encoder.config
    if run.task.changes_words or config.regularization.neftune:
        return 0
    learns = [path[1:] for path in tree.flatten(run.plan.split(run.params, run.total_steps)[0]) if path[0] == "encoder"]
    if any(path[0] not in ABOVE for path in learns):
        return 0
    trained = [tree.parse_span(path[1]) for path in learns if path[0] == "layer"]
    lowest = min((start for start, _ in trained), default=c.parameter_layers)
    if c.groups and trained:
        lowest = 0
    drops = (_drops(model.rates.of_layer(i), c.dropouts) for i in range(lowest))
    return 0 if _drops(model.rates, c.dropouts) else next((i for i, x in enumerate(drops) if x), lowest)


def _drops(rates: Rates, dropouts: object) -> bool:
    return any(rates.of(fields) for fields in vars(dropouts).values())


def keep(run: Run, params: Params, say: Callable[[str], None]) -> Kept:
    """Compute the prefix of the training and the validation data, if it would be computed more than once and there is room.

    Args:
      run: the run.
      params: its parameters, on the mesh.
      say: for people.
    """
    layers = frozen_layers(run)
    if not run.config.runtime.keep_frozen or not layers or run.total_steps <= run.steps_per_epoch:
        return Kept()
    edges = [stop for _, stop, _ in tree.stacks(params["encoder"]["layer"]) if stop <= layers]
    layers = max(edges, default=0)
    width, dtype = run.model.encoder.config.hidden_size, jnp.dtype(run.model.policy.dtype)
    data = {name: split for name, split in run.data.items() if name != "test"}
    tokens = sum(int(split.examples.offsets[-1]) for split in data.values())
    size, root = tokens * width * dtype.itemsize, runtime.cache_root()
    root.mkdir(parents=True, exist_ok=True)
    what = f"the frozen {layers} layers of {tokens:,} tokens ({size / 2**20:,.0f} MiB)"
    if not layers or size > shutil.disk_usage(root).free / 2:
        say(f"{what} do not fit into {root} and are computed in every step")
        return Kept()
    say(f"computing {what} once: they do not change")
    kept = {name: replace(x, examples=_with_prefix(run, params, x.examples, layers)) for name, x in data.items()}
    return Kept(layers, kept)


def _with_prefix(run: Run, params: Params, examples: Examples, layers: int) -> Examples:
    """The examples with the token column PREFIX, [total, D]: what the prefix gives."""
    encoder, policy, own = run.model.encoder, run.model.policy, lowest(params, layers)

    def forward(params: Params, batch: dict[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
        micro = {name: x[0] for name, x in batch.items()}
        return {"tokens": {PREFIX: encoder.apply(params, micro, rates=run.model.rates, policy=policy)["last_hidden_state"]}}

    planner = eval_planner(examples, run.config, run.mesh)
    step = jax.jit(forward, out_shardings=sharding.replicated(run.mesh))
    batches = abstract_batches(planner, examples, sharding.batch_sharding(run.mesh))
    compiled = {shape: step.lower(own, batch).compile() for shape, batch in batches.items()}
    shape = (int(examples.offsets[-1]), run.model.encoder.config.hidden_size)
    with tempfile.TemporaryFile(dir=runtime.cache_root()) as file:
        kept = np.memmap(file, jnp.dtype(policy.dtype), "w+", shape=shape)
    found = Collected(tokens={PREFIX: kept})
    run_plan(planner.plan_epoch(0), examples, run.mesh, lambda shape, batch: compiled[shape](own, batch), found)
    return examples.with_tokens(**{PREFIX: kept})
