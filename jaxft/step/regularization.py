"""Regularisation of parameters (penalties, mixout, a moving average) and noise on embeddings, as pure functions.

L2-SP and mixout pull towards the initial parameters, which are frozen (`Parameters.reference`).
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxft.config import RegularizationConfig
from jaxft.core import tree
from jaxft.core.random_streams import OfMicroBatch
from jaxft.core.tree import Params, Path
from jaxft.models.encoder.dropout import dropout
from jaxft.optim.per_layer import of_layers
from jaxft.param_plan import ParameterPlan

Array = jax.Array


@dataclass(frozen=True)
class Regularization:
    """The regularisation of parameters in a step. Options that are 0 add nothing to the program."""

    config: RegularizationConfig
    plan: ParameterPlan

    @property
    def needs_reference(self) -> bool:
        """Whether `Parameters.reference` is needed."""
        return bool(self.config.l2_sp or self.config.mixout)

    @property
    def penalises(self) -> bool:
        """Whether there is a penalty."""
        c = self.config
        return bool(c.l1 or c.l2 or c.l2_sp or c.l2_sp_head)

    def penalty(self, params: Params, reference: Params) -> Array:
        """The penalty on the parameters with weight decay in the plan, which is added to the mean loss of a step.

        l1 * sum |w| + l2 / 2 * sum w^2, and L2-SP (Li et al. 2018, arXiv:1802.01483): l2_sp / 2 * sum (w - start)^2 over
        the encoder, l2_sp_head / 2 * sum w^2 over heads.
        """
        c, starts = self.config, tree.flatten(reference)
        total = jnp.zeros((), jnp.float32)
        for path, w in tree.flatten(params).items():
            decays = of_layers(path, w, lambda name: bool(self.plan.settings[name].weight_decay), float)
            squares = c.l2 + (c.l2_sp_head if path[0] == "heads" else 0.0)
            if c.l1:
                total += c.l1 * (decays * jnp.abs(w)).sum()
            if squares:
                total += squares / 2 * (decays * jnp.square(w)).sum()
            if c.l2_sp and path[0] == "encoder":
                total += c.l2_sp / 2 * (decays * jnp.square(w - starts[path])).sum()
        return total

    def mixed(self, params: Params, reference: Params, key: Array) -> Params:
        """Mixout (Lee et al. 2020, arXiv:1909.11299) of the encoder's kernels.

        Each weight is replaced by its initial value with probability `mixout`, and the others are moved away from theirs so
        that the expectation is unchanged.
        """
        rate, starts = self.config.mixout, tree.flatten(reference)

        def mix(path: Path, w: Array) -> Array:
            if path[0] != "encoder" or path[-1] != "kernel":
                return w
            own = jax.random.fold_in(key, zlib.crc32(".".join(path).encode()))
            return starts[path] + dropout(w - starts[path], rate, own, shared=True)

        return tree.map_with_path(mix, params)

    def averaged(self, average: Params, params: Params, step: Array) -> Params:
        """The exponential moving average after a step (numbered from 0).

        Its decay rises from 0.1 to `ema`, so that the average of a short run is not dominated by the initial parameters
        (TensorFlow's `ExponentialMovingAverage` with `num_updates`).
        """
        number = step.astype(jnp.float32)
        change = 1.0 - jnp.minimum(self.config.ema, (1.0 + number) / (10.0 + number))
        return jax.tree.map(lambda a, p: a + change.astype(p.dtype) * (p - a), average, params)


def sequence_lengths(segment_ids: Array, slots: int) -> Array:
    """The number of tokens of each sequence of packed rows: int32 [..., T] to [..., slots]; 0 for empty slots."""
    numbers = jnp.arange(1, slots + 1, dtype=segment_ids.dtype).reshape(*[1] * (segment_ids.ndim - 1), -1, 1)
    return (segment_ids[..., None, :] == numbers).sum(-1)


def neftune(words: Array, batch: Mapping[str, Array], key: Array, *, alpha: float) -> Array:
    """Word embeddings [R, T, D] with NEFTune's noise (Jain et al. 2023, arXiv:2310.05914).

    The noise is uniform in +-alpha / sqrt(N D), where N is the length of the token's own sequence, not of its row. The
    batch has int32 `segment_ids` [R, T] and `first_token` [R, M], and the key is that of the pass.
    """
    segments = batch["segment_ids"]
    lengths = sequence_lengths(segments, batch["first_token"].shape[1])
    lengths = jnp.take_along_axis(lengths, jnp.maximum(segments - 1, 0), axis=1)  # any length for padding
    size = alpha / jnp.sqrt(jnp.maximum(lengths, 1).astype(words.dtype) * words.shape[-1])
    noise = jax.random.uniform(jax.random.fold_in(key, OfMicroBatch.NEFTUNE), words.shape, words.dtype, -1.0, 1.0)
    return words + noise * size[..., None]
