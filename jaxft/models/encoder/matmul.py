"""Matrix products: of activations with kernels, which may lie split over devices, and those of attention."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxft.core import backend

Array = jax.Array


def gathered(x: Array) -> Array:
    """A parameter whole on every device, where the mesh that is traced for splits parameters (mesh.fsdp).

    It stands at every use of one, in the backward pass once more: a device then has one layer's kernels at a time, its rows
    of all activations, and a gradient of its own that is summed over devices (Rajbhandari et al. 2020, arXiv:1910.02054,
    stage 3). Left to itself the compiler splits activations as the kernels are split, and exchanges them at every product.
    """
    return _whole(x) if jax.sharding.get_abstract_mesh().shape.get("fsdp", 1) > 1 else x


@jax.custom_vjp
def _whole(x: Array) -> Array:
    return jax.lax.with_sharding_constraint(x, P())


# The gradient is first whole, too: so it is made of a device's own rows, whatever the compiler would have split it by.
_whole.defvjp(lambda x: (_whole(x), None), lambda _, g: (_whole(g),))


@jax.custom_vjp
def dense(x: Array, kernel: Array) -> Array:
    """[rows, in] times a float32 [in, out], accumulated in float32, in the type of `x`.

    All three products take operands in the type of `x`: left to differentiation, the two of the backward pass would be of
    mixed types, which accelerators compute in float32. The kernel's gradient is float32, so that nothing is rounded before
    micro-batches and devices are summed.
    """
    return _product(x, gathered(kernel.astype(x.dtype)), (1, 0)).astype(x.dtype)


def _dense_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return dense(x, kernel), (x, kernel)


def _dense_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    whole = gathered(kernel.astype(x.dtype))
    return _product(g, whole, (1, 1)).astype(x.dtype), _kernel_gradient(x, g).astype(kernel.dtype)


dense.defvjp(_dense_forward, _dense_backward)


@jax.custom_vjp
def dense_pair(x: Array, kernel: Array, narrow: Array, b: Array) -> Array:
    """`dense(x, kernel) + dense(narrow, b)` as one product over both, for a `narrow` of few columns.

    Of a sum of two products XLA would keep both for the backward pass, if what follows (an activation) can be fused with it.
    """
    joined = jnp.concatenate([gathered(kernel.astype(x.dtype)), gathered(b.astype(x.dtype))], 0)
    return _product(jnp.concatenate([x, narrow], 1), joined, (1, 0)).astype(x.dtype)


def _pair_forward(x: Array, kernel: Array, narrow: Array, b: Array) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    return dense_pair(x, kernel, narrow, b), (x, kernel, narrow, b)


def _pair_backward(saved: tuple[Array, Array, Array, Array], g: Array) -> tuple[Array, Array, Array, Array]:
    x, kernel, narrow, b = saved
    return (*_dense_backward((x, kernel), g), *_dense_backward((narrow, b), g))


dense_pair.defvjp(_pair_forward, _pair_backward)


def batched(a: Array, b: Array, axes: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """[B, N] products of matrices over one axis of each, 2 or 3, accumulated in float32.

    `dtype` is what accelerators write; CPUs write float32 and round afterwards.
    """
    on_cpu = _batched_on_cpu if _has_units(a) else _product
    return jax.lax.platform_dependent(
        a,
        b,
        cpu=lambda a, b: on_cpu(a, b, axes).astype(dtype),
        default=lambda a, b: _product(a, b, axes, dtype),
    )


def _batched_on_cpu(a: Array, b: Array, axes: tuple[int, int]) -> Array:
    """See `_in_order`; of a product that has `a` transposed, it is `b`, of few columns, and the result that are."""
    if axes == (2, 2):
        product = _product(_in_order(b.swapaxes(2, 3)), _in_order(a), (3, 2))
        return jax.lax.optimization_barrier(product).swapaxes(2, 3)
    return _product(_in_order(a), _in_order(b), axes)


def _in_order(x: Array) -> Array:
    """The same, with its last axis the innermost in memory.

    XLA:CPU has fast kernels for products, the only ones that reach the processor's units for bfloat16; but it decides for
    them before anything is moved, and only if no operand is a view of another order. A transposition by itself is such a
    view, and is taken back into the product; a shape in between makes it an array, and the barrier keeps it one.
    """
    return jax.lax.optimization_barrier(x.reshape(*x.shape[:-1], 1, x.shape[-1])).reshape(x.shape)


def _has_units(x: Array) -> bool:
    """Whether the processor has units for products of this type: otherwise bfloat16 is best widened."""
    return x.dtype != jnp.bfloat16 or backend.multiplies_bfloat16()


def _kernel_gradient(x: Array, g: Array) -> Array:
    """x transposed times g, in float32."""
    if x.dtype == jnp.bfloat16 and _has_units(x):
        return jax.lax.platform_dependent(x, g, cpu=_ordered_rows, default=_contract_rows)
    return _contract_rows(x, g)


def _contract_rows(x: Array, g: Array) -> Array:
    return _product(x, g, (0, 0))


def _ordered_rows(x: Array, g: Array) -> Array:
    return _product(_in_order(x.T), g, (1, 0))


def _product(a: Array, b: Array, axes: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """Products of matrices over one axis of each, accumulated in float32; the axes before the last two are in step."""
    batch = tuple(range(a.ndim - 2))
    return jax.lax.dot_general(a, b, (((axes[0],), (axes[1],)), (batch, batch)), preferred_element_type=dtype)
