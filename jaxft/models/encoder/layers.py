"""The basic layers of every encoder: dense, layer norm, embedding lookup, activations."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core.tree import Params
from jaxft.models.encoder.adapters import Lora
from jaxft.models.encoder.dropout import dropout
from jaxft.models.encoder.matmul import dense, dense_pair, rows_of

Array = jax.Array
NEW = "new_"  # prefix of the names of leaves with the rows of new words
Initializer = Callable[..., Array]


def gelu(x: Array) -> Array:
    """x Phi(x) with the error function, in float32 (Hendrycks & Gimpel 2016, arXiv:1606.08415), as in PyTorch.

    `jax.nn.gelu` uses erfc, which is more exact far below zero, but has more operations, so XLA saves two more arrays for
    the backward pass.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


# The names of Hugging Face's ACT2FN. "gelu" is exact; the others named gelu are approximations that differ in bits.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    **dict.fromkeys(["gelu", "gelu_python"], gelu),
    **dict.fromkeys(
        ["gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"],
        partial(jax.nn.gelu, approximate=True),
    ),
    "gelu_10": lambda x: jnp.clip(gelu(x), -10.0, 10.0),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "relu6": jax.nn.relu6,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.01),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    "hardswish": jax.nn.hard_swish,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "linear": lambda x: x,
    "laplace": lambda x: 0.5 * (1.0 + jax.lax.erf((x - 0.707107) / (0.282095 * 2.0**0.5))),
    "sqrtsoftplus": lambda x: jnp.sqrt(jax.nn.softplus(x)),
}


class Dense(nn.Module):
    """`x @ kernel + bias` with float32 parameters, computed and returned in the dtype of `x`.

    If its parameters include `lora_a` and `lora_b`, it is a LoRA layer with the hyperparameters `lora`; its dropout uses the
    rng "adapter", and is off without one.

    Shapes: x [..., in], kernel [in, features], bias [features], lora_a [in, r], lora_b [r, features], magnitude [features].
    """

    features: int
    kernel_init: Initializer
    use_bias: bool = True
    lora: Lora | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        rows = x.reshape(-1, x.shape[-1])
        y = dense(rows, kernel)
        if self.lora and self.has_variable("params", "lora_a"):
            y = self._adapted(rows, kernel, y, self.lora)
        y = y.reshape(*x.shape[:-1], self.features)
        if not self.use_bias:
            return y
        return y + _like(self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32), y)

    def _adapted(self, x: Array, kernel: Array, y: Array, lora: Lora) -> Array:
        """y = x @ kernel plus the low-rank part; LoRA does not compute a product of the size of the kernel."""
        a, b = self.get_variable("params", "lora_a"), self.get_variable("params", "lora_b")
        key = self.make_rng("adapter") if lora.dropout and self.has_rng("adapter") else None
        dropped = dropout(x, lora.dropout, key)
        if not lora.dora:
            return dense_pair(x, kernel, dense(dropped, a), lora.scale * b)
        change = dense(dense(dropped, a), b) * jnp.asarray(lora.scale, x.dtype)
        # No gradient flows through the norm, as in section 4.3 of the paper and in PEFT.
        norm = jnp.linalg.norm(jax.lax.stop_gradient(kernel + lora.scale * dense(a, b)), axis=0)
        # The ratio is near 1, where bfloat16 is too coarse; so ratio - 1 is rounded below.
        ratio = self.get_variable("params", "magnitude") / norm
        base = y if key is None else dense(dropped, kernel)
        return y + _like(ratio - 1, y) * base + _like(ratio, y) * change


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis with statistics in float32 (Ba et al. 2016, arXiv:1607.06450)."""

    epsilon: float
    use_bias: bool = True
    remat: bool = False  # see `remat`

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32) if self.use_bias else None
        return remat(partial(layer_norm, epsilon=self.epsilon), self.remat)(x, scale, bias)


def layer_norm(x: Array, scale: Array, bias: Array | None, epsilon: float) -> Array:
    """Layer normalisation: x [..., D], scale and bias [D] to [..., D]."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    # The two-pass variance: the one-pass form loses digits if the mean is large compared with the standard deviation.
    variance = jnp.square(centred).mean(-1, keepdims=True)
    y = centred * jax.lax.rsqrt(variance + epsilon) * _like(scale, wide)
    return (y if bias is None else y + _like(bias, wide)).astype(x.dtype)


class Embed(nn.Module):
    """An embedding table [num, features]; its last `new` rows may be a separate leaf, `new_embedding`."""

    num: int
    features: int
    embedding_init: Initializer
    new: int = 0

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        old = self.num - self.new
        table = self.param("embedding", self.embedding_init, (old, self.features), jnp.float32)
        if not self.new:
            return lookup(ids, table)
        return lookup(ids, table, self.param(f"{NEW}embedding", self.embedding_init, (self.new, self.features), jnp.float32))


def lookup(ids: Array, embedding: Array, new_embedding: Array | None = None) -> Array:
    """Looks up rows of an `Embed`: ids [...] to [..., D]; the other arguments are named like its leaves."""
    rows = rows_of(embedding, ids)
    if new_embedding is None:
        return rows
    # Two lookups, since concatenating the tables in every step would cost a copy, and a gradient, of all words.
    new_ids = ids - embedding.shape[0]
    return jnp.where((new_ids >= 0)[..., None], rows_of(new_embedding, new_ids), rows)


def remat(function: Callable[..., Array], enabled: bool = True) -> Callable[..., Array]:
    """Rematerialises a cheap function: the backward pass saves only its arguments and computes it again.

    It is used for norms and other cheap functions in a loop over layers. The result of a matrix product is float32, and
    automatic differentiation would save several such arrays, as wide as the layer, per iteration (2.5 times as much memory
    in a BERT base step of 256 x 128 in bfloat16). Without a loop the compiler chooses by itself, and this has no effect.
    """
    return jax.checkpoint(function, prevent_cse=False) if enabled else function


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def elementwise(function: Callable[[Array], Array], x: Array) -> Array:
    """function(x); the backward pass saves x and computes the derivative as one float32 array.

    Automatic differentiation would sum products of the gradient with the terms of the derivative, and for functions such as
    erf the TPU compiler writes every term to memory (BERT base: three float32 arrays per layer, as wide as the intermediate
    layer).
    """
    return function(x)


def _elementwise_backward(function: Callable[[Array], Array], x: Array, g: Array) -> tuple[Array]:
    wide = x.astype(jnp.float32)
    _, derivative = jax.jvp(function, (wide,), (jnp.ones_like(wide),))
    return ((g.astype(jnp.float32) * derivative).astype(x.dtype),)


elementwise.defvjp(lambda function, x: (function(x), x), _elementwise_backward)


def initial(module: nn.Module, key: Array, *args: Any) -> Params:
    """Initialises a module's parameters for these arguments."""
    return cast(Params, module.init(key, *args)["params"])


def run(module: nn.Module, params: Params, *args: Any, adapter_key: Array | None = None) -> Any:
    """Applies a module to its parameters and arguments; the dropout of its adapters is off without a key."""
    return module.apply({"params": params}, *args, rngs=None if adapter_key is None else {"adapter": adapter_key})


def normal_init(stddev: float, *, zero_row: int | None = None, cutoff: float | None = None) -> Initializer:
    """The normal distributions with which Hugging Face initialises kernels and embeddings.

    Args:
      stddev: standard deviation before truncation.
      zero_row: the row of a table that is initialised to zeros (PyTorch's `padding_idx`).
      cutoff: truncate at this number of standard deviations, without rescaling (`torch.nn.init.trunc_normal_`).
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        if cutoff is None:
            x = jax.random.normal(key, shape, dtype)
        else:
            x = jax.random.truncated_normal(key, -cutoff, cutoff, shape, dtype)
        x = x * jnp.asarray(stddev, dtype)
        return x if zero_row is None or zero_row >= shape[0] else x.at[zero_row].set(0)

    return init


_LARGE = 2**26  # numbers


def sinusoids(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """The position table [num, features] of Vaswani et al. 2017 (arXiv:1706.03762), alternating sine and cosine."""

    def table() -> np.ndarray:
        position, feature = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
        angle = position / np.power(10000.0, 2 * (feature // 2) / shape[1])
        return np.where(feature % 2, np.cos(angle), np.sin(angle)).astype(dtype)

    # A callback, so that tracing for shapes does not allocate a huge table that a malicious config.json asks for.
    if math.prod(shape) > _LARGE:
        return jax.pure_callback(table, jax.ShapeDtypeStruct(shape, dtype))
    return jnp.asarray(table())


def _like(vector: Array, x: Array) -> Array:
    """Broadcasts a vector to the shape and dtype of x explicitly, as strict rank promotion requires."""
    return _broadcast(vector, x.shape, x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _broadcast(vector: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jnp.broadcast_to(vector.astype(dtype).reshape((1,) * (len(shape) - 1) + vector.shape), shape)


def _column_sums(shape: tuple[int, ...], dtype: Any, _: None, g: Array) -> tuple[Array]:
    """[..., C] -> float32 [C]. On CPU XLA sums columns on one thread; a product with ones takes 0.6 ms instead of 4.7 ms
    (1,024 x 1,536)."""

    def by_product(g: Array) -> Array:
        ones = jnp.ones(g.shape[:-1], g.dtype)
        return jnp.einsum("...t,...tc->...c", ones, g, preferred_element_type=jnp.float32).sum(range(g.ndim - 2))

    def plain(g: Array) -> Array:
        return g.sum(range(g.ndim - 1), dtype=jnp.float32)

    return (jax.lax.platform_dependent(g, cpu=by_product, default=plain),)


_broadcast.defvjp(lambda vector, shape, dtype: (_broadcast(vector, shape, dtype), None), _column_sums)
