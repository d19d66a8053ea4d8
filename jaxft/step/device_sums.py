"""Sums over the rows of a batch that every device adds up for itself, so that devices exchange them once.

The compiler's own partitioning keeps every array of a loop the same on all devices, so it would exchange the gradients of
each micro-batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from jaxft.models.encoder.dropout import ROWS

Batch = dict[str, jax.Array]


def sums_over_devices(function: Callable[[Any, Batch], Any], shared: Any, batch: Batch) -> Any:
    """`function(shared, batch)`, a tree of sums over the rows, from each device's own rows; the same on every device.

    Parameters that `mesh.fsdp` splits stay split inside, and so do the rows over these devices. Without a mesh that splits
    rows further, it is just the function.

    Args:
      function: of a batch with fewer rows; dropout masks are those of the rows in the whole batch (`dropout.keep_mask`).
      shared: a tree of the other arrays that it reads.
      batch: [K, R, ...] arrays of three axes or more, and [K, n] arrays, which belong to all rows.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.shape.get(ROWS, 1) == 1:
        return function(shared, batch)
    specs = {name: P(None, ROWS) if x.ndim > 2 else P() for name, x in batch.items()}

    @partial(jax.shard_map, in_specs=(P(), specs), out_specs=P(), axis_names={ROWS}, check_vma=False)
    def own_rows(shared: Any, batch: Batch) -> Any:
        return jax.lax.psum(function(shared, batch), ROWS)

    return own_rows(shared, batch)
