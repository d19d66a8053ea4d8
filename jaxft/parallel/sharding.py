"""The device mesh and the sharding of every array.

Batches are sharded over both axes (`data` x `fsdp`); parameters and moments are sharded over `fsdp` by path rules, and
replicated over `data`. The model code says where sharded parameters are gathered; the compiler inserts the collectives.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxft.config import MeshConfig
from jaxft.core import random_keys, tree
from jaxft.core.errors import UserError
from jaxft.core.tree import Params

# (pattern over dotted names, axis of a single layer's parameter that fsdp shards; None replicates).
RULES: list[tuple[str, int | None]] = [
    (r"(^|\.)(new_)?embedding$", 0),
    (r"\.((new_)?kernel|lora_b)$", 1),
    (r"\.lora_a$", 0),
    (r"(^|\.)((new_)?bias|scale|magnitude|rank)$", None),
]


def make_mesh(config: MeshConfig, devices: list[Any] | None = None) -> Mesh:
    """Makes a (data, fsdp) mesh over all devices, or over the first few if mesh.data says so.

    Raises:
      UserError: if the product of the sizes is not the number of devices.
    """
    random_keys.make_philox_shardable()
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    data = config.data if config.data > 0 else count // config.fsdp
    used = data * config.fsdp
    if not 0 < used <= count or (config.data < 0 and used != count) or (jax.process_count() > 1 and used != count):
        raise UserError(
            f"mesh.data {config.data} x mesh.fsdp {config.fsdp} does not fit the {count} devices there are: "
            "let mesh.data be -1 and mesh.fsdp divide that number"
        )
    # `jax.make_mesh` refuses a mesh.fsdp that divides an axis of a TPU's links, such as 4 of 8 x 8, on all chips but v5e.
    placed = mesh_utils.create_device_mesh((data, config.fsdp), devices[:used], allow_split_physical_axes=True)
    return Mesh(placed, ("data", "fsdp"), (AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of [K, R, ...] batches: rows over all devices."""
    return NamedSharding(mesh, P(None, ("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a value that all devices have."""
    return NamedSharding(mesh, P())


def use_mesh(mesh: Mesh) -> Any:
    """A context in which models are traced for the mesh, so that they gather the parameters that it shards."""
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def lower(function: Callable[..., Any], mesh: Mesh, *args: Any, **options: Any) -> Any:
    """`jax.jit(function, **options).lower(*args)`, traced within `use_mesh`."""
    with use_mesh(mesh):
        return jax.jit(function, **options).lower(*args)


def param_shardings(mesh: Mesh, params: Params) -> Params:
    """A sharding for every leaf of stacked parameters (arrays or shapes).

    Raises:
      UserError: for a parameter that no rule covers.
    """
    axes = tree.first_match(RULES, tree.all_names(params))

    def sharding_of(path: tree.Path, leaf: Any) -> NamedSharding:
        axis, stacked = axes[tree.names(path)[0]], tree.is_stacked(path)
        if axis is None:
            return replicated(mesh)
        # If fsdp does not divide the first axis, try the other: 30,522 words over 8 devices are sharded by hidden size.
        for candidate in (axis + stacked, (1 - axis) + stacked):
            if leaf.shape[candidate] % mesh.shape["fsdp"] == 0:
                return NamedSharding(mesh, P(*[None] * candidate, "fsdp"))
        return replicated(mesh)

    return tree.map_with_path(sharding_of, params)


def optimizer_shardings(mesh: Mesh, opt_state: Any, params: Params) -> Any:
    """A sharding for every array of an optimizer's state.

    An array with the path and shape of a parameter is sharded as the parameter. All others are small (counters, factored
    moments) and replicated. The state (arrays or shapes) may hold single layers under their dotted names.
    """
    single = tree.unstacked_shapes(params)
    leaves = {**tree.flatten(params), **tree.flatten(single)}
    shardings = {**tree.flatten(param_shardings(mesh, params)), **tree.flatten(param_shardings(mesh, single))}

    def sharding_of(keys: Any, leaf: Any) -> NamedSharding:
        path = tuple(key.key for key in keys if isinstance(key, jax.tree_util.DictKey))
        for start in range(len(path)):
            if path[start:] in leaves and leaves[path[start:]].shape == leaf.shape:
                return shardings[path[start:]]
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(sharding_of, opt_state)


def shapes(mesh: Mesh, params: Params) -> Params:
    """Shapes of parameters with their shardings, for a mesh whose devices need not exist."""
    return jax.tree.map(with_sharding, params, param_shardings(mesh, params))


def with_sharding(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an array, with a sharding."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def device_put(params: Any, shardings: Any) -> Any:
    """Puts host arrays (the same on every process) on the devices, with these shardings."""

    def put(x: Any, sharding: NamedSharding) -> jax.Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, params, shardings)


def place_params(mesh: Mesh, params: Params) -> Params:
    """Puts parameters on the mesh, sharded as by `param_shardings`."""
    return device_put(params, param_shardings(mesh, params))


def to_host(params: Any) -> Any:
    """Copies device arrays of any sharding to numpy arrays on every process."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(params, tiled=True)
    return jax.tree.map(np.asarray, params)
