"""The device mesh and where every array lies on it.

Batches are split over both axes (`data` x `fsdp`); parameters and moments over `fsdp` by path rules, replicated over
`data`. Models say where what is split is gathered (`lower`); the compiler inserts the collectives.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxft.config import MeshConfig
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.core.tree import Params

# Pattern over dotted names -> the axis of a single layer's parameter that fsdp splits first; None replicates.
RULES: list[tuple[str, int | None]] = [
    (r"(^|\.)(new_)?embedding$", 0),
    (r"\.((new_)?kernel|lora_b)$", 1),
    (r"\.lora_a$", 0),
    (r"(^|\.)((new_)?bias|scale|magnitude|rank)$", None),
]


def make_mesh(config: MeshConfig, devices: list[Any] | None = None) -> Mesh:
    """A (data, fsdp) mesh over all devices, or over the first few where mesh.data says so.

    Raises:
      UserError: when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    data = config.data if config.data > 0 else count // config.fsdp
    used = data * config.fsdp
    if not 0 < used <= count or (config.data < 0 and used != count) or (jax.process_count() > 1 and used != count):
        raise UserError(
            f"mesh.data {config.data} x mesh.fsdp {config.fsdp} does not fit the {count} devices there are: "
            "let mesh.data be -1 and mesh.fsdp divide that number"
        )
    return jax.make_mesh((data, config.fsdp), ("data", "fsdp"), (AxisType.Auto,) * 2, devices=devices[:used])


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """For [K, R, ...] batches: rows over all devices."""
    return NamedSharding(mesh, P(None, ("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value everywhere."""
    return NamedSharding(mesh, P())


def known(mesh: Mesh) -> Any:
    """A context: models that are traced in it gather the parameters that the mesh splits."""
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def lower(function: Callable[..., Any], mesh: Mesh, *args: Any, **options: Any) -> Any:
    """`jax.jit(function, **options).lower(*args)`, traced where the mesh is `known`."""
    with known(mesh):
        return jax.jit(function, **options).lower(*args)


def shard_count(mesh: Mesh) -> int:
    """Devices that a micro-batch's rows are divided over."""
    return mesh.size


def param_shardings(mesh: Mesh, params: Params) -> Params:
    """A sharding for every leaf of stacked parameters (arrays or shapes).

    Raises:
      UserError: for a parameter that no rule covers.
    """
    axes = tree.first_match(RULES, tree.all_names(params))

    def place(path: tree.Path, leaf: Any) -> NamedSharding:
        axis, stacked = axes[tree.names(path)[0]], tree.is_stacked(path)
        if axis is None:
            return replicated(mesh)
        # The other axis where the first does not divide: 30,522 words over 8 devices lie split by hidden size.
        for candidate in (axis + stacked, (1 - axis) + stacked):
            if leaf.shape[candidate] % mesh.shape["fsdp"] == 0:
                return NamedSharding(mesh, P(*[None] * candidate, "fsdp"))
        return replicated(mesh)

    return tree.map_with_path(place, params)


def optimizer_shardings(mesh: Mesh, opt_state: Any, params: Params) -> Any:
    """A sharding for every array of an optimizer's state.

    What has the shape of a parameter and stands under its path lies where the parameter lies. Everything else is small
    (counters, factored moments) and replicated.

    Args:
      mesh: of the run.
      opt_state: arrays or shapes.
      params: those that it was made for; an optimizer may see layers singly, under their dotted names.
    """
    single = {
        name: jax.ShapeDtypeStruct(x.shape[tree.is_stacked(path) :], x.dtype)
        for path, x in tree.flatten(params).items()
        for name in tree.names(path)
    }
    leaves = {**tree.flatten(params), **tree.flatten(single)}
    places = {**tree.flatten(param_shardings(mesh, params)), **tree.flatten(param_shardings(mesh, single))}

    def place(keys: Any, leaf: Any) -> NamedSharding:
        path = tuple(key.key for key in keys if isinstance(key, jax.tree_util.DictKey))
        for start in range(len(path)):
            if path[start:] in leaves and leaves[path[start:]].shape == leaf.shape:
                return places[path[start:]]
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, opt_state)


def shapes(mesh: Mesh, params: Params) -> Params:
    """Parameters as shapes with their shardings, for a mesh whose devices need not be there."""
    return jax.tree.map(with_sharding, params, param_shardings(mesh, params))


def with_sharding(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """The shape of an array that lies so."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def place(params: Any, shardings: Any) -> Any:
    """Host arrays (the same on every process) as device arrays."""

    def put(x: Any, sharding: NamedSharding) -> jax.Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, params, shardings)


def to_host(params: Any) -> Any:
    """Device arrays, wherever they lie, as numpy on every process."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(params, tiled=True)
    return jax.tree.map(np.asarray, params)
