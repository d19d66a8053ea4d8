"""Products of activations with kernels, by backward passes of their own, and kernels that lie split over devices."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxft import runtime

Array = jax.Array
_MORE = 32  # rows of zeros, as many as a matrix unit takes at once


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


def _kernel_gradient(x: Array, g: Array) -> Array:
    """x transposed times g, in float32."""
    narrow = x.dtype == jnp.bfloat16 and runtime.multiplies_bfloat16()
    if narrow and jax.sharding.get_abstract_mesh().size <= 1:  # lengthened rows would not divide by devices
        return jax.lax.platform_dependent(x, g, cpu=_lengthened_product, default=_contract_rows)
    return _contract_rows(x, g)


def _contract_rows(x: Array, g: Array) -> Array:
    return _product(x, g, (0, 0))


def _lengthened_product(x: Array, g: Array) -> Array:
    """The same from a few rows of zeros more, which add nothing.

    XLA:CPU hands a product of bfloat16 to kernels that use the processor's units for it only if no operand is transposed,
    and takes a mere transposition of x back into the product, which it then computes in float32.
    """
    return _product(jnp.pad(x.T, ((0, 0), (0, _MORE))), jnp.pad(g, ((0, _MORE), (0, 0))), (1, 0))


def _product(a: Array, b: Array, axes: tuple[int, int]) -> Array:
    """Matrix product over one axis of each, in float32."""
    contract = (((axes[0],), (axes[1],)), ((), ()))
    return jax.lax.dot_general(a, b, contract, preferred_element_type=jnp.float32)
