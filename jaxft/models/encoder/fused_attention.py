"""Fused attention of accelerators, which never writes the scores to memory, and the rules by which one is chosen.

cuDNN's on GPUs; splash attention (a Pallas kernel of JAX) on TPUs. Neither drops single probabilities.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.core.errors import UserError
from jaxft.models.encoder.config import Policy

Array = jax.Array
Fused = Callable[[Array, Array, Array, Array, float, Any, bool, Any], Array]
LANES = 128  # of a TPU: rows of keys and queries come in multiples of these
_PLAIN_ALONE = "there is a bias, or dropout of single probabilities (model.attention_dropout_kind keys is another)"
SPLASH_FROM = 384  # shorter rows are faster with their scores in memory (compiled for v5e: 70 MB moved against 60 at 128,
# 785 against 241 at 512, but the kernel's own start and its unused lanes weigh more)


@dataclass(frozen=True)
class Call:
    """What is known of an attention when it is traced.

    Attributes:
      dtype: of the values.
      length: of rows.
      head_size: features a head.
      plain: something that only the plain implementation does: a bias, dropout of single probabilities, probabilities.
      window: whether tokens see only their surroundings.
      single: whether a row is one segment from its first token on.
    """

    dtype: str
    length: int
    head_size: int
    plain: bool
    window: bool
    single: bool


def choose(policy: Policy, call: Call) -> Fused | None:
    """The implementation for a device and an attention; None is the plain one.

    Raises:
      UserError: when `policy.attention` forces one that cannot do this.
    """
    name = policy.attention
    if name == "auto":
        name = OWN.get(policy.platform, "plain")
        if name == "splash" and call.length < SPLASH_FROM:
            name = "plain"
        return FUSED[name][1] if name in FUSED and FUSED[name][0](policy, call) is None else None
    if name == "plain":
        return None
    if call.plain:
        raise UserError(
            f"runtime.attention is {name}, which has no bias and does not drop single probabilities: give "
            "model.attention_dropout 0 or model.attention_dropout_kind keys, or runtime.attention auto"
        )
    if reason := FUSED[name][0](policy, call):
        raise UserError(f"runtime.attention is {name}: {reason}; runtime.attention auto chooses what fits")
    return FUSED[name][1]


def lengthened(length: int, platform: str) -> int:
    """To what a row of so many tokens is best lengthened: to whole lanes, where it is long enough for splash attention."""
    return -(-length // LANES) * LANES if platform == "tpu" and length >= SPLASH_FROM else length


def why_plain(policy: Policy, call: Call) -> str | None:
    """Why a device with an attention of its own computes the plain one, if it does."""
    if policy.attention != "auto" or policy.platform not in OWN or choose(policy, call):
        return None
    own = OWN[policy.platform]
    return FUSED[own][0](policy, call) or f"rows of {call.length} are shorter than {SPLASH_FROM}"


def _cudnn_refuses(policy: Policy, call: Call) -> str | None:
    if call.plain:
        return _PLAIN_ALONE
    if policy.platform != "gpu":
        return f"the device is a {policy.platform}"
    if call.dtype not in ("bfloat16", "float16"):
        return f"train.dtype is {call.dtype}, it computes in bfloat16"
    if call.length % 2 or call.head_size % 8 or call.head_size > 128:
        return f"rows of {call.length} and heads of {call.head_size} are not even and of 8 to 128 in eights"
    if (call.window or not call.single) and jax.__version_info__ < (0, 11, 2):
        return f"jax {jax.__version__} would compute the gradient of its mask; 0.11.2 does not"
    return None


def _splash_refuses(policy: Policy, call: Call) -> str | None:
    if call.plain:
        return _PLAIN_ALONE
    if policy.platform != "tpu":
        return f"the device is a {policy.platform}"
    if call.window:
        return "whether a layer's window is a local one is only known in its loop"
    if call.length % LANES:
        return f"rows of {call.length} are no multiple of {LANES}"
    return None


def cudnn(
    q: Array, k: Array, v: Array, segment_ids: Array, scale: float, window: Any, single: bool, mesh: Any, name: Any = "cudnn"
) -> Array:
    """`jax.nn.dot_product_attention` on [B, T, N, H]; padding sees nothing that would be of use."""
    del mesh  # XLA shares it out over devices by rows
    lengths = mask = None
    if single and window is None:
        lengths = jnp.maximum((segment_ids > 0).sum(1, dtype=jnp.int32), 1)  # of an empty row, one key
    else:
        mask = visible(segment_ids, window)[:, None]
    return jax.nn.dot_product_attention(
        q, k, v, mask=mask, scale=scale, key_value_seq_lengths=lengths, query_seq_lengths=lengths, implementation=name
    )


def splash(
    q: Array,
    k: Array,
    v: Array,
    segment_ids: Array,
    scale: float,
    window: Any,
    single: bool,
    mesh: Any,
    interpret: bool = False,
) -> Array:
    """Splash attention on [B, T, N, H], rows shared out over the mesh; padding sees padding."""
    del window, single
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    kernel = _splash_kernel(q.shape[2], q.shape[1], interpret)

    def rows(q: Array, k: Array, v: Array, ids: Array) -> Array:
        def row(q: Array, k: Array, v: Array, ids: Array) -> Array:
            return kernel(q, k, v, segment_ids=SegmentIds(ids, ids))

        return jax.vmap(row)(q, k, v, ids)

    if mesh is not None and mesh.size > 1:
        by_rows = jax.sharding.PartitionSpec(mesh.axis_names)
        rows = jax.shard_map(rows, mesh=mesh, in_specs=by_rows, out_specs=by_rows, check_vma=False)
    q, k, v = (x.swapaxes(1, 2) for x in (q * jnp.asarray(scale, q.dtype), k, v))
    rows = rows if q.dtype == jnp.float32 else _at_default_precision(rows)
    return rows(q, k, v, segment_ids).swapaxes(1, 2).astype(v.dtype)


def _at_default_precision(function: Callable[..., Array]) -> Callable[..., Array]:
    """A function of arrays whose products, forward and backward, are traced at JAX's default precision.

    The compiler of TPU kernels refuses a product of narrow numbers for which float32 precision is asked, and that is what a
    run asks for its float32 products. A context around the call alone would not hold for the backward pass.
    """

    @jax.custom_vjp
    def call(*arrays: Array) -> Array:
        with jax.default_matmul_precision("default"):
            return function(*arrays)

    def forward(*arrays: Array) -> tuple[Array, Any]:
        with jax.default_matmul_precision("default"):
            return jax.vjp(function, *arrays)

    def backward(pull: Any, g: Array) -> Any:
        with jax.default_matmul_precision("default"):
            return pull(g)

    call.defvjp(forward, backward)
    return call


@lru_cache
def _splash_kernel(heads: int, length: int, interpret: bool) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import FullMask, MultiHeadMask, make_splash_mha_single_device

    with jax.ensure_compile_time_eval():  # the kernel is made once, outside of whatever is being traced
        return make_splash_mha_single_device(MultiHeadMask([FullMask((length, length))] * heads), interpret=interpret)


def visible(segment_ids: Array, window: Any = None) -> Array:
    """Boolean [B, T, S]: whether the query at t may see the key at s."""
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    seen = (key > 0) & ((query == key) | (query == 0))
    if window is None:
        return seen
    place = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)
    return seen & (jnp.abs(place[:, None] - place[None, :]) <= window)[None]


OWN = {"gpu": "cudnn", "tpu": "splash"}
FUSED: dict[str, tuple[Callable[[Policy, Call], str | None], Fused]] = {
    "cudnn": (_cudnn_refuses, cudnn),
    "splash": (_splash_refuses, splash),
}
