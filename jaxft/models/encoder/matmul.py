"""Matrix products of activations with kernels, which may be sharded, and the batched products of attention."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxft.core import backend

Array = jax.Array


def gathered(x: Array) -> Array:
    """Gathers a parameter on every device if the mesh that is traced for shards parameters (mesh.fsdp).

    It is called at every use of a parameter, and again in the backward pass. So a device has the kernels of one layer at a
    time, its rows of all activations, and a gradient that is summed over devices (Rajbhandari et al. 2020,
    arXiv:1910.02054, stage 3). Without it, the compiler shards activations like kernels, and exchanges them at every
    product.
    """
    return _replicated(x) if jax.sharding.get_abstract_mesh().shape.get("fsdp", 1) > 1 else x


@jax.custom_vjp
def _replicated(x: Array) -> Array:
    return jax.lax.with_sharding_constraint(x, P())


# The gradient is also replicated, so a device computes it from its rows; the compiler might shard it otherwise.
_replicated.defvjp(lambda x: (_replicated(x), None), lambda _, g: (_replicated(g),))


def rows_of(table: Array, index: Array) -> Array:
    """The rows of a table [V, D], which may be sharded, at index [...]: [..., D]; the index is clipped.

    Inside `step.device_sums` the compiler would gather all activations to add up the gradient of the table; so each device
    adds up that of its own part of the index.
    """
    take, mesh = partial(jnp.take, axis=0, mode="clip"), jax.sharding.get_abstract_mesh()
    devices = mesh.shape.get("fsdp", 1)
    if mesh.manual_axes and devices > 1 and index.shape[0] % devices == 0:
        by_rows = P("fsdp")
        options = {"in_specs": (P(), by_rows), "out_specs": by_rows, "axis_names": {"fsdp"}, "check_vma": False}
        take = jax.shard_map(take, **options)
    return take(gathered(table), index)


@jax.custom_vjp
def dense(x: Array, kernel: Array) -> Array:
    """x [rows, in] times a float32 kernel [in, out], accumulated in float32: [rows, out] in the dtype of `x`.

    The operands of all three products have the dtype of `x`. Automatic differentiation would give the two products of the
    backward pass mixed dtypes, which accelerators compute in float32. The kernel's gradient is float32, so nothing is
    rounded before micro-batches and devices are summed.
    """
    return _product(x, gathered(kernel.astype(x.dtype)), (1, 0)).astype(x.dtype)


def _dense_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    full_kernel = gathered(kernel.astype(x.dtype))
    # Also the gradient is whole before it is split: otherwise the TPU compiler computes it in parts that it passes around
    # (collective-permutes), in one step more than a reduce-scatter takes, and with more memory.
    gradient = gathered(_kernel_gradient(x, g).astype(kernel.dtype))
    return _product(g, full_kernel, (1, 1)).astype(x.dtype), gradient


dense.defvjp(lambda x, kernel: (dense(x, kernel), (x, kernel)), _dense_backward)


@jax.custom_vjp
def dense_pair(x: Array, kernel: Array, narrow: Array, b: Array) -> Array:
    """`dense(x, kernel) + dense(narrow, b)` as one product of concatenated operands, for a `narrow` of few columns.

    For a sum of two products XLA would save both for the backward pass if the next operation (an activation) can be fused
    with the sum.

    Shapes: x [rows, in], kernel float32 [in, out], narrow [rows, r], b float32 [r, out].
    """
    joined = jnp.concatenate([gathered(kernel.astype(x.dtype)), gathered(b.astype(x.dtype))], 0)
    return _product(jnp.concatenate([x, narrow], 1), joined, (1, 0)).astype(x.dtype)


dense_pair.defvjp(
    lambda *operands: (dense_pair(*operands), operands),
    lambda saved, g: (*_dense_backward(saved[:2], g), *_dense_backward(saved[2:], g)),
)


def batched(a: Array, b: Array, axes: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """[B, N] products of matrices, contracted over one axis of each, 2 or 3, and accumulated in float32.

    The result has the dtype `dtype`; CPUs compute float32 and round afterwards.
    """
    on_cpu = _batched_on_cpu if _is_native(a) else _product
    return jax.lax.platform_dependent(
        a, b, cpu=lambda a, b: on_cpu(a, b, axes).astype(dtype), default=lambda a, b: _product(a, b, axes, dtype)
    )


def _batched_on_cpu(a: Array, b: Array, axes: tuple[int, int]) -> Array:
    """A product of row-major operands (see `_row_major`). If `a` is transposed, `b` and the result, which have few columns,
    are transposed instead."""
    if axes == (2, 2):
        product = _product(_row_major(b.swapaxes(2, 3)), _row_major(a), (3, 2))
        return jax.lax.optimization_barrier(product).swapaxes(2, 3)
    return _product(_row_major(a), _row_major(b), axes)


def _row_major(x: Array) -> Array:
    """The same array, with its last axis innermost in memory.

    XLA:CPU has fast kernels for products, the only ones that use the processor's bfloat16 units. But it chooses them before
    layouts are assigned, and only if no operand is a transposed view. XLA folds a transposition into the product as such a
    view; a reshape in between makes it an array, and the barrier stops XLA from undoing that.
    """
    return jax.lax.optimization_barrier(x.reshape(*x.shape[:-1], 1, x.shape[-1])).reshape(x.shape)


def _is_native(x: Array) -> bool:
    """Whether the processor multiplies this dtype in hardware; otherwise bfloat16 is best widened."""
    return x.dtype != jnp.bfloat16 or backend.multiplies_bfloat16()


def _kernel_gradient(x: Array, g: Array) -> Array:
    """x transposed times g, in float32: [rows, in] and [rows, out] to [in, out]."""
    plain = partial(_product, axes=(0, 0))
    if x.dtype != jnp.bfloat16 or not _is_native(x):
        return plain(x, g)
    return jax.lax.platform_dependent(x, g, cpu=lambda x, g: _product(_row_major(x.T), g, (1, 0)), default=plain)


def _product(a: Array, b: Array, axes: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """Products of matrices, contracted over one axis of each, accumulated in float32; all axes but the last two are batch
    axes."""
    batch = tuple(range(a.ndim - 2))
    return jax.lax.dot_general(a, b, (((axes[0],), (axes[1],)), (batch, batch)), preferred_element_type=dtype)
