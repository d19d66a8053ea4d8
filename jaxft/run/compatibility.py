"""Checks that a model can process the data of a run, with the attention kernel that the config asks for."""

from collections.abc import Mapping
from typing import Any

from jaxft.core.errors import UserError
from jaxft.data.batching.batch_sampler import BatchSampler
from jaxft.models.encoder import fused_attention
from jaxft.models.encoder.config import DropoutSite
from jaxft.models.model import Model
from jaxft.tasks.task import Split


def check_lengths(model: Model, tokenizer: Any, max_length: int, name: str = "the model") -> None:
    """Refuse sequences that are longer than the model's positions, and token ids beyond its vocabulary."""
    positions, vocabulary = model.encoder.config.usable_positions, model.encoder.config.vocab_size
    if positions is not None and max_length > positions:
        raise UserError(f"data.max_length is {max_length} but {name} has {positions} positions")
    if len(tokenizer) > vocabulary:
        raise UserError(f"the tokenizer has {len(tokenizer)} tokens but the vocabulary of {name} has {vocabulary}")


def check_types(model: Model, data: Mapping[str, Split]) -> None:
    """Refuse token types that the model has no embedding for; a model without token types ignores them."""
    types = model.encoder.config.type_vocab_size
    largest = max((int(x.examples.tokens["token_type_ids"].max()) for x in data.values()), default=0)
    if types and largest >= types:
        raise UserError(
            f"the tokenizer gives token types up to {largest} but the model has {types}: it was made for another model"
        )


def check_attention(model: Model, sampler: BatchSampler, *, drops: bool) -> tuple[str, ...]:
    """Refuse an attention kernel that the config forces but these batches cannot use.

    Args:
      model: its policy names the kernel.
      sampler: declares the shapes of the batches.
      drops: whether the steps apply dropout.

    Returns:
      A line for the log for each reason to use plain attention instead of the device's own kernel.
    """
    c, policy = model.encoder.config, model.policy
    layers = map(model.rates.of_layer, range(c.parameter_layers))
    drops = drops and any(layer.of(DropoutSite.ATTENTION) for layer in layers) and not model.rates.by_keys
    reasons = set()
    for shape in sampler.shapes:
        call = fused_attention.Call(
            dtype=policy.dtype,
            length=shape.length,
            head_size=c.hidden_size // c.num_heads,
            plain=bool(c.distance_bias or c.relative or drops),
            window=bool(c.rotary),
            single=shape.slots == 1,
        )
        fused_attention.choose(policy, call)
        reasons.add(fused_attention.why_plain(policy, call))
    kernel = fused_attention.BY_PLATFORM.get(policy.platform)
    return tuple(f"attention: plain, not {kernel}: {reason}" for reason in sorted(filter(None, reasons)))
