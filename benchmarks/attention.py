"""The core of attention, forward and backward: jaxft's, the plain formula differentiated by JAX, jax.nn's, fused kernels.

python -m benchmarks.attention [--rounds 7]
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from benchmarks.command import Part, compare_parts
from jaxft.config import cli
from jaxft.core import random_keys
from jaxft.models.encoder import fused_attention
from jaxft.models.encoder.attention import attend
from jaxft.models.encoder.config import Policy
from jaxft.models.encoder.dropout import dropout


def gradient_timer(function: Callable[..., Any], *arguments: Any, calls: int = 3) -> Callable[[], float]:
    """Seconds for the value and gradients of a sum, compiled."""
    objective = jax.jit(jax.value_and_grad(lambda *x: function(*x).astype(jnp.float32).sum(), tuple(range(len(arguments)))))
    return record.timer(objective, *arguments, calls=calls)


def parts() -> Iterator[Part]:
    """Scores, softmax, dropout and context of 640 real tokens (on accelerators 32,768) in rows of each length."""
    platform, key = jax.devices()[0].platform, random_keys.root_key(0)
    tokens, heads, size = (640, 12, 32) if platform == "cpu" else (32768, 12, 64)
    for dtype in ("float32", "bfloat16") if platform == "cpu" else ("bfloat16",):
        for length in (64, 128, 512):
            rng = np.random.default_rng(0)
            q, k, v = (jnp.asarray(rng.normal(size=(tokens // length, length, heads, size)), dtype) for _ in range(3))
            ids = jnp.ones(q.shape[:2], jnp.int32)
            policy = Policy(dtype, attention="plain", platform=platform)

            def of(q: Any, k: Any, v: Any, ids: Any = ids, policy: Any = policy, **options: Any) -> Any:
                return attend(q, k, v, ids, policy=policy, single=True, **options)[0]

            drop = {"rate": 0.1, "key": key}
            options: dict[str, Callable[..., Any]] = {
                "jaxft": of,
                "jaxft, dropout of probabilities": partial(of, **drop),
                "jaxft, dropout of keys": partial(of, **drop, by_keys=True),
                "differentiated by JAX": partial(plain, ids=ids),
                "differentiated by JAX, dropout of probabilities": partial(plain, ids=ids, **drop),
                "jax.nn.dot_product_attention": partial(jax.nn.dot_product_attention, implementation="xla"),
            }
            fused = {"gpu": "cudnn", "tpu": "splash"}.get(platform)
            call = fused_attention.Call(dtype, length, size, plain=False, window=False, single=True)
            if fused and fused_attention.why_not(fused, policy, call) is None:
                options[fused] = partial(of, policy=Policy(dtype, attention=fused, platform=platform))
                options[f"{fused}, dropout of keys"] = partial(options[fused], **drop, by_keys=True)
            timers = {name: gradient_timer(f, q, k, v, calls=5) for name, f in options.items()}
            yield f"attention, {dtype}, rows of {length}", timers, "jaxft"


def plain(q: Any, k: Any, v: Any, ids: Any, rate: float = 0.0, key: Any = None) -> Any:
    """The plain formula, differentiated by JAX."""
    scores = jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    scores = jnp.where(fused_attention.attention_mask(ids)[:, None], scores, jnp.finfo(jnp.float32).min)
    probabilities = dropout(jax.nn.softmax(scores, -1).astype(v.dtype), rate, key)
    return jnp.einsum("bnts,bsnh->btnh", probabilities, v, preferred_element_type=jnp.float32).astype(v.dtype)


def main(argv: list[str]) -> None:
    compare_parts(argv, __doc__, parts, "attention.json")


if __name__ == "__main__":
    cli.run_main(main)
