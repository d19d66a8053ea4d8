"""The presets: each writes rows of the plan, in the form in which users write their own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxft.config import PlanConfig
from jaxft.core.errors import UserError

# (pattern, column -> value). An empty pattern speaks of everything else.
Rows = list[tuple[str, Mapping[str, Any]]]

HEADS = r"^heads\."
TOP = r"^heads\.|^encoder\.(pooler|final_norm)\."  # what lies above the last layer
TRAIN, FREEZE = {"trainable": True}, {"trainable": False}


def layers(numbers: Iterable[int]) -> str:
    """The pattern of some layers' parameters."""
    text = "|".join(map(str, numbers))
    return rf"^encoder\.layer\.({text})\." if "|" in text else rf"^encoder\.layer\.{text}\."


def full(config: PlanConfig, num_layers: int) -> Rows:
    """Everything."""
    return [("", TRAIN)]


def head(config: PlanConfig, num_layers: int) -> Rows:
    """The head alone."""
    return [(HEADS, TRAIN), ("", FREEZE)]


def last_n(config: PlanConfig, num_layers: int) -> Rows:
    """The last `plan.n` layers and what lies above them."""
    if config.n > num_layers:
        raise UserError(f"plan.n is {config.n} but the encoder has {num_layers} layers")
    rows: Rows = [(layers(range(num_layers - config.n, num_layers)), TRAIN)] if config.n else []
    return [(TOP, TRAIN), *rows, ("", FREEZE)]


def freeze_embeddings(config: PlanConfig, num_layers: int) -> Rows:
    """Everything but the embeddings."""
    return [(r"^encoder\.embeddings\.", FREEZE)]


def bias(config: PlanConfig, num_layers: int) -> Rows:
    """Biases and heads: BitFit (Ben Zaken et al. 2022, arXiv:2106.10199)."""
    return [(r"\.bias$", TRAIN), (HEADS, TRAIN), ("", FREEZE)]


def norms(config: PlanConfig, num_layers: int) -> Rows:
    """Scales and biases of the norms, and heads (Houlsby et al. 2019, arXiv:1902.00751, section 3.4)."""
    return [(r"\.scale$|[nN]orm\.bias$", TRAIN), (HEADS, TRAIN), ("", FREEZE)]


def gradual(config: PlanConfig, num_layers: int) -> Rows:
    """From the head down, `plan.unfreeze_layers` layers every `plan.unfreeze_every` (Howard & Ruder 2018, arXiv:1801.06146).

    What all layers share (embeddings, tables of relative positions) comes with the lowest layers.
    """
    rows: Rows = [(TOP, {"unfreeze": 0})]
    stage, upper = 0, num_layers
    while upper > 0:
        stage, lower = stage + 1, max(0, upper - config.unfreeze_layers)
        rows.append((layers(range(lower, upper)), {"unfreeze": times(config.unfreeze_every, stage)}))
        upper = lower
    return [*rows, ("", {"unfreeze": times(config.unfreeze_every, max(1, stage))})]


def layerwise_decay(config: PlanConfig, num_layers: int) -> Rows:
    """Learning rates that fall by `plan.layer_decay` from layer to layer: 1 for heads and pooler, then the top layer's
    decay to the first power (ULMFiT's discriminative fine-tuning, arXiv:1801.06146; counted as in BEiT, arXiv:2106.08254).
    """
    rate = config.layer_decay
    rows: Rows = [(TOP, {"learning_rate": 1.0})]
    rows += [(layers([i]), {"learning_rate": rate ** (num_layers - i)}) for i in reversed(range(num_layers))]
    return [*rows, ("", {"learning_rate": rate ** (num_layers + 1)})]


def reinit(config: PlanConfig, num_layers: int) -> Rows:
    """The top `plan.reinit_layers` layers start from random values (Zhang et al. 2021, arXiv:2006.05987)."""
    if config.reinit_layers > num_layers:
        raise UserError(f"plan.reinit_layers is {config.reinit_layers} but the encoder has {num_layers} layers")
    return [(layers(range(num_layers - config.reinit_layers, num_layers)), {"init": "random"})]


def new_tokens(config: PlanConfig, num_layers: int) -> Rows:
    """The rows of new words, and not those of the others (setup makes them leaves of their own). Alone it also trains the
    head, of whose decoder again only the new rows; together with other presets it leaves the rest to them.
    """
    rows: Rows = [(r"\.new_", TRAIN), (r"\.word_embeddings\.embedding$", FREEZE)]
    if config.preset not in ("new_tokens", ["new_tokens"]):
        return rows
    return [*rows, (r"\.decoder\.(kernel|bias)$", FREEZE), (HEADS, TRAIN), ("", FREEZE)]


def lora(config: PlanConfig, num_layers: int) -> Rows:
    """Low-rank adapters and heads; which layers have some is said by `plan.lora`."""
    return [(r"\.(lora_a|lora_b|magnitude)$", TRAIN), (HEADS, TRAIN), ("", FREEZE)]


def adapters(config: PlanConfig, num_layers: int) -> Rows:
    """Bottleneck adapters and heads; Houlsby's trains the norms of the layers, too."""
    norm: Rows = [(r"^encoder\.(layer\..*LayerNorm|final_norm)\.", TRAIN)] if config.adapters.kind == "houlsby" else []
    return [(r"\.adapter\.(down|up)\.", TRAIN), *norm, (HEADS, TRAIN), ("", FREEZE)]


PRESETS: dict[str, Callable[[PlanConfig, int], Rows]] = {
    "full": full,
    "head": head,
    "last_n": last_n,
    "freeze_embeddings": freeze_embeddings,
    "bias": bias,
    "norms": norms,
    "gradual": gradual,
    "layerwise_decay": layerwise_decay,
    "reinit": reinit,
    "new_tokens": new_tokens,
    "lora": lora,
    "adapters": adapters,
}


def times(duration: int | str, factor: int) -> int | str:
    """A duration so many times."""
    number, _, unit = str(duration).strip().partition(" ")
    return f"{float(number) * factor:.15g} {unit.strip() or 'steps'}"
