"""The presets: each returns rows of the plan, in the same form as the rules that users write."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxft.config import PlanConfig
from jaxft.core.errors import UserError

# (pattern, column -> value). An empty pattern means all other parameters.
Rows = list[tuple[str, Mapping[str, Any]]]

HEADS = r"^heads\."
TOP = r"^heads\.|^encoder\.(pooler|final_norm)\."  # the modules above the last layer
TRAIN, FREEZE = {"trainable": True}, {"trainable": False}


def layers(numbers: Iterable[int]) -> str:
    """A pattern that matches the parameters of these layers."""
    text = "|".join(map(str, numbers))
    return rf"^encoder\.layer\.({text})\." if "|" in text else rf"^encoder\.layer\.{text}\."


def full(config: PlanConfig, num_layers: int) -> Rows:
    """Trains all parameters."""
    return [("", TRAIN)]


def head(config: PlanConfig, num_layers: int) -> Rows:
    """Trains only the head."""
    return [(HEADS, TRAIN), ("", FREEZE)]


def last_n(config: PlanConfig, num_layers: int) -> Rows:
    """Trains the last `plan.n` layers and the modules above them."""
    if config.n > num_layers:
        raise UserError(f"plan.n is {config.n} but the encoder has {num_layers} layers")
    rows: Rows = [(layers(range(num_layers - config.n, num_layers)), TRAIN)] if config.n else []
    return [(TOP, TRAIN), *rows, ("", FREEZE)]


def freeze_embeddings(config: PlanConfig, num_layers: int) -> Rows:
    """Trains everything but the embeddings."""
    return [(r"^encoder\.embeddings\.", FREEZE)]


def bias(config: PlanConfig, num_layers: int) -> Rows:
    """Trains biases and heads: BitFit (Ben Zaken et al. 2022, arXiv:2106.10199)."""
    return [(r"\.bias$", TRAIN), (HEADS, TRAIN), ("", FREEZE)]


def norms(config: PlanConfig, num_layers: int) -> Rows:
    """Trains the scales and biases of norms, and heads (Houlsby et al. 2019, arXiv:1902.00751, section 3.4)."""
    return [(r"\.scale$|[nN]orm\.bias$", TRAIN), (HEADS, TRAIN), ("", FREEZE)]


def gradual(config: PlanConfig, num_layers: int) -> Rows:
    """Unfreezes from the head down, `plan.unfreeze_layers` layers every `plan.unfreeze_every` (Howard & Ruder 2018,
    arXiv:1801.06146). Embeddings and tables of relative positions are unfrozen with the lowest layers.
    """
    rows: Rows = [(TOP, {"unfreeze": 0})]
    stage, upper = 0, num_layers
    while upper > 0:
        stage, lower = stage + 1, max(0, upper - config.unfreeze_layers)
        rows.append((layers(range(lower, upper)), {"unfreeze": times(config.unfreeze_every, stage)}))
        upper = lower
    return [*rows, ("", {"unfreeze": times(config.unfreeze_every, max(1, stage))})]


def layerwise_decay(config: PlanConfig, num_layers: int) -> Rows:
    """Multiplies learning rates by `plan.layer_decay` from layer to layer: heads and pooler have multiplier 1, the top layer
    the decay to the first power (ULMFiT's discriminative fine-tuning, arXiv:1801.06146; counted as in BEiT,
    arXiv:2106.08254).
    """
    decay = config.layer_decay
    rows: Rows = [(TOP, {"learning_rate": 1.0})]
    rows += [(layers([i]), {"learning_rate": decay ** (num_layers - i)}) for i in reversed(range(num_layers))]
    return [*rows, ("", {"learning_rate": decay ** (num_layers + 1)})]


def reinit(config: PlanConfig, num_layers: int) -> Rows:
    """Initialises the top `plan.reinit_layers` layers randomly (Zhang et al. 2021, arXiv:2006.05987)."""
    if config.reinit_layers > num_layers:
        raise UserError(f"plan.reinit_layers is {config.reinit_layers} but the encoder has {num_layers} layers")
    return [(layers(range(num_layers - config.reinit_layers, num_layers)), {"init": "random"})]


def new_tokens(config: PlanConfig, num_layers: int) -> Rows:
    """Trains the embedding rows of new words (separate leaves), and freezes those of old words. If it is the only preset, it
    also trains the head, in whose decoder again only the new rows; otherwise the other presets decide the rest.
    """
    rows: Rows = [(r"\.new_", TRAIN), (r"\.word_embeddings\.embedding$", FREEZE)]
    if config.preset not in ("new_tokens", ["new_tokens"]):
        return rows
    return [*rows, (r"\.decoder\.(kernel|bias)$", FREEZE), (HEADS, TRAIN), ("", FREEZE)]


def lora(config: PlanConfig, num_layers: int) -> Rows:
    """Trains low-rank adapters and heads; `plan.lora` says which layers have adapters."""
    return [(r"\.(lora_a|lora_b|magnitude)$", TRAIN), (HEADS, TRAIN), ("", FREEZE)]


def adapters(config: PlanConfig, num_layers: int) -> Rows:
    """Trains bottleneck adapters and heads; Houlsby's kind also trains the norms of the layers."""
    norm: Rows = [(r"^encoder\.(layer\..*LayerNorm|final_norm)\.", TRAIN)] if config.adapters.kind == "houlsby" else []
    return [(r"\.adapter\.(down|up)\.", TRAIN), *norm, (HEADS, TRAIN), ("", FREEZE)]


PRESETS: dict[str, Callable[[PlanConfig, int], Rows]] = {
    preset.__name__: preset
    for preset in (
        full, head, last_n, freeze_embeddings, bias, norms, gradual, layerwise_decay, reinit, new_tokens, lora, adapters
    )
}  # fmt: skip


def times(duration: int | str, factor: int) -> int | str:
    """`factor` times a duration."""
    number, _, unit = str(duration).strip().partition(" ")
    return f"{float(number) * factor:.15g} {unit.strip() or 'steps'}"
