"""Fused attention kernels, which never write the scores to memory, and the rules for choosing one.

They are cuDNN's on GPUs and splash attention (a Pallas kernel of JAX) on TPUs. Neither can drop single probabilities.
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
LANES = 128  # of a TPU: splash attention needs row lengths that are multiples of it
# Shorter rows are faster with plain attention. Compiled for v5e, plain attention moves 70 MB and splash 60 MB for rows of
# 128, 785 MB and 241 MB for rows of 512, but splash also has start-up costs and unused lanes.
SPLASH_FROM = 384


@dataclass(frozen=True)
class Call:
    """The properties of a call of attention that are known during tracing.

    Attributes:
      dtype: dtype of the values.
      length: row length in tokens.
      head_size: features per head.
      plain: whether it has a bias, drops single probabilities, or returns probabilities, which fused kernels cannot do.
      window: whether attention is local.
      single: whether a row is one segment from its first token on.
    """

    dtype: str
    length: int
    head_size: int
    plain: bool
    window: bool
    single: bool


def choose(policy: Policy, call: Call) -> Fused | None:
    """Chooses the implementation for a device and a call; None means the plain one.

    Raises:
      UserError: if `policy.attention` forces an implementation that does not support the call.
    """
    name = policy.attention
    if name == "auto":
        fused = BY_PLATFORM.get(policy.platform)
        return None if fused is None or why_plain(policy, call) else KERNELS[fused]
    if name == "plain":
        return None
    if call.plain:
        raise UserError(
            f"runtime.attention is {name}, which has no bias and does not drop single probabilities: give "
            "model.attention_dropout 0 or model.attention_dropout_kind keys, or runtime.attention auto"
        )
    if reason := why_not(name, policy, call):
        raise UserError(f"runtime.attention is {name}: {reason}; runtime.attention auto chooses what fits")
    return KERNELS[name]


def padded_length(length: int, platform: str) -> int:
    """The length to which rows should be padded: a multiple of LANES if they are long enough for splash attention."""
    return -(-length // LANES) * LANES if platform == "tpu" and length >= SPLASH_FROM else length


def why_plain(policy: Policy, call: Call) -> str | None:
    """Why a device with a fused kernel uses plain attention; None if it does not."""
    if policy.attention != "auto" or policy.platform not in BY_PLATFORM:
        return None
    name = BY_PLATFORM[policy.platform]
    is_short = name == "splash" and call.length < SPLASH_FROM
    return why_not(name, policy, call) or (f"rows of {call.length} are shorter than {SPLASH_FROM}" if is_short else None)


def why_not(name: str, policy: Policy, call: Call) -> str | None:
    """Why a fused kernel cannot compute a call on this platform; None if it can."""
    if call.plain:
        return "there is a bias, or dropout of single probabilities (model.attention_dropout_kind keys is another)"
    if BY_PLATFORM.get(policy.platform) != name:
        return f"the device is a {policy.platform}"
    if name == "splash":
        if call.window:
            return "whether a layer's attention is local is only known at run time"
        return f"rows of {call.length} are no multiple of {LANES}" if call.length % LANES else None
    if call.dtype not in ("bfloat16", "float16"):
        return f"train.dtype is {call.dtype}, it computes in bfloat16"
    if call.length % 2 or call.head_size % 8 or call.head_size > 128:
        return f"rows of {call.length} and heads of {call.head_size} are not even and of 8 to 128 in eights"
    if (call.window or not call.single) and jax.__version_info__ < (0, 11, 2):
        return f"jax {jax.__version__} would compute the gradient of its mask; 0.11.2 does not"
    return None


def cudnn(
    q: Array, k: Array, v: Array, segment_ids: Array, scale: float, window: Any, single: bool, mesh: Any, name: Any = "cudnn"
) -> Array:
    """`jax.nn.dot_product_attention` on [B, T, N, H]; the outputs of padding are meaningless."""
    del mesh  # XLA shards it by rows
    lengths = mask = None
    if single and window is None:
        lengths = jnp.maximum((segment_ids > 0).sum(1, dtype=jnp.int32), 1)  # at least one key, also in an empty row
    else:
        mask = attention_mask(segment_ids, window)[:, None]
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
    """Splash attention on [B, T, N, H], with rows sharded over the mesh; padding attends to padding."""
    del window, single
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    kernel = _splash_kernel(q.shape[2], q.shape[1], interpret)

    def row(q: Array, k: Array, v: Array, ids: Array) -> Array:
        return kernel(q, k, v, segment_ids=SegmentIds(ids, ids))

    rows = jax.vmap(row)
    if mesh is not None and mesh.size > 1:
        around = jax.sharding.get_abstract_mesh()  # of a function that is already traced for single devices
        axes = [name for name in mesh.axis_names if name not in around.manual_axes]
        by_rows = jax.sharding.PartitionSpec(tuple(axes))
        options = {"mesh": None if around.manual_axes else mesh, "axis_names": set(axes), "check_vma": False}
        rows = jax.shard_map(rows, in_specs=by_rows, out_specs=by_rows, **options)
    q, k, v = (x.swapaxes(1, 2) for x in (q * jnp.asarray(scale, q.dtype), k, v))
    rows = rows if q.dtype == jnp.float32 else _at_default_precision(rows)
    return rows(q, k, v, segment_ids).swapaxes(1, 2).astype(v.dtype)


def _at_default_precision(function: Callable[..., Array]) -> Callable[..., Array]:
    """Makes a function trace its products, forward and backward, at JAX's default precision.

    The compiler of TPU kernels rejects bfloat16 products with float32 precision, which is what a run sets for its float32
    products. A context around the call alone would not apply to the backward pass.
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

    with jax.ensure_compile_time_eval():  # the kernel is made once, outside of the current trace
        return make_splash_mha_single_device(MultiHeadMask([FullMask((length, length))] * heads), interpret=interpret)


def attention_mask(segment_ids: Array, window: Any = None) -> Array:
    """The attention mask, bool [B, T, S]: whether the query at t attends to the key at s."""
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    mask = (key > 0) & ((query == key) | (query == 0))
    if window is None:
        return mask
    position = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)
    return mask & (jnp.abs(position[:, None] - position[None, :]) <= window)[None]


BY_PLATFORM = {"gpu": "cudnn", "tpu": "splash"}
KERNELS: dict[str, Fused] = {"cudnn": cudnn, "splash": splash}
