"""adapter_config.json: what PEFT calls the numbers of an adapter, and which of its options jaxft computes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxft.core import patterns
from jaxft.core.errors import UserError, nearest
from jaxft.models.encoder.adapters import Bottleneck, Lora
from jaxft.models.encoder.layers import ACTIVATIONS
from jaxft.models.weights import tensor_files

CONFIG = "adapter_config.json"
LORA, BOTTLENECK = "LORA", "JAXFT_BOTTLENECK"  # the second is ours: PEFT has no such adapters
MOST = 1e15  # of ranks, sizes and alphas
TASK_TYPES = {
    "text-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
    "question-answering": "QUESTION_ANS",
    "feature-extraction": "FEATURE_EXTRACTION",
}
# How A and B began does not matter, unless it changed the base.
_INITIAL = (None, True, False, "gaussian", "eva", "orthogonal")
# What else changes the sum x W + scale * x A B.
_REFUSED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)


@dataclass(frozen=True)
class Settings:
    """An adapter_config.json.

    Attributes:
      kind: numbers of the adapters.
      base, revision: the model that they were made for.
      task: kind of the head, where the file says it.
      alphas: pattern at the end of a module's name -> alpha there.
      targets: modules that have LoRA: a pattern of whole names, or endings of names; None where the file does not say.
      excluded: the same of modules that have none all the same.
    """

    kind: Lora | Bottleneck
    base: str
    revision: str | None = None
    task: str | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    targets: str | tuple[str, ...] | None = None
    excluded: str | tuple[str, ...] = ()

    def expected(self, modules: Sequence[str]) -> list[bool]:
        """Which modules, by Hugging Face's names, have LoRA as the file says."""
        if self.targets is None:
            return [False] * len(modules)
        named, excluded = _named(modules, self.targets), _named(modules, self.excluded)
        return [yes and not no for yes, no in zip(named, excluded, strict=True)]

    def scales(self, ranks: Mapping[str, int]) -> dict[str, float]:
        """The scale of each LoRA layer.

        Args:
          ranks: Hugging Face's name of the module -> rank.
        """
        kind = self.kind
        assert isinstance(kind, Lora)
        alphas: dict[str, float] = {}
        ends = [rf"^(.*\.)?({pattern})$" for pattern in self.alphas]  # as PEFT has it
        for alpha, found in zip(self.alphas.values(), patterns.match_each(ends, ranks, "alpha_pattern"), strict=True):
            alphas = {module: alpha for module, fits in zip(ranks, found, strict=True) if fits} | alphas
        return {
            module: Lora(rank, alphas.get(module, kind.alpha), rank_stabilized=kind.rank_stabilized).scale
            for module, rank in ranks.items()
        }


def read_settings(directory: Path) -> Settings:
    """The settings of an adapter directory.

    Raises:
      UserError: for another kind of adapter, an option that jaxft does not compute, or a number out of range.
    """
    where = directory / CONFIG
    values = tensor_files.read_json(where)

    def number(name: str, default: float, least: float, most: float = MOST) -> Any:
        value = values.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < most:
            raise UserError(f"{where}: {name} is {value!r}: must be a number, {least:g} or more and less than {most:g}")
        return value

    base, kind = values.get("base_model_name_or_path"), values.get("peft_type")
    if not isinstance(base, str) or not base:
        raise UserError(f"{where}: base_model_name_or_path is {base!r}: must name the model that the adapter was made for")
    if kind == LORA:
        if used := [name for name in _REFUSED if values.get(name)]:
            raise UserError(f"{where}: {used[0]} is {values[used[0]]!r}: jaxft computes only plain LoRA, rsLoRA and DoRA")
        if (initial := values.get("init_lora_weights")) not in _INITIAL:
            raise UserError(
                f"{where}: init_lora_weights is {initial!r}: it changed the base; save the model merged, with PEFT"
            )
        numbers: Lora | Bottleneck = Lora(
            rank=int(number("r", 8, 1)),
            alpha=float(number("lora_alpha", 8, 0)),
            dropout=float(number("lora_dropout", 0.0, 0, 1)),
            rank_stabilized=bool(values.get("use_rslora")),
            dora=bool(values.get("use_dora")),
        )
    elif kind == BOTTLENECK:
        activation = str(values.get("activation"))
        if activation not in ACTIVATIONS:
            raise UserError(f'{where}: activation "{activation}" is unknown{nearest(activation, ACTIVATIONS)}')
        numbers = Bottleneck(int(number("size", 0, 1)), activation)
    else:
        raise UserError(f"{where}: peft_type is {kind!r}: jaxft reads {LORA} and {BOTTLENECK}")
    tasks = {theirs: ours for ours, theirs in TASK_TYPES.items()}
    alphas = _alphas(values.get("alpha_pattern") or {}, where)
    if isinstance(numbers, Lora) and alphas and not numbers.alpha:  # the scale that layers share must not be 0
        numbers, alphas = replace(numbers, alpha=1.0), alphas | {".*": 0.0}
    # Single layers are chosen by options of their own, which only PEFT's model of the base can settle.
    some_layers = values.get("layers_to_transform") is not None
    return Settings(
        numbers,
        base,
        values.get("revision"),
        tasks.get(str(values.get("task_type"))),
        alphas,
        None if some_layers else _modules(values.get("target_modules"), f"{where}: target_modules"),
        _modules(values.get("exclude_modules"), f"{where}: exclude_modules") or (),
    )


def _alphas(values: Any, where: Path) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: alpha_pattern is {values!r}: must map patterns to numbers")
    for pattern, alpha in values.items():
        patterns.check(pattern, f"{where}: alpha_pattern")
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 <= alpha < MOST:
            raise UserError(
                f"{where}: alpha_pattern: {pattern} is {alpha!r}: must be a number, 0 or more, less than {MOST:g}"
            )
    return dict(values)


def _modules(value: Any, where: str) -> str | tuple[str, ...] | None:
    if isinstance(value, str):
        patterns.check(value, where)
        return value
    if not isinstance(value, list | None) or not all(isinstance(name, str) for name in value or []):
        raise UserError(f"{where} is {value!r}: must be a list of names, or a pattern")
    return tuple(value) if value else None


def _named(modules: Sequence[str], names: str | tuple[str, ...]) -> list[bool]:
    """As PEFT has it: a text is a pattern of the whole name, a list has whole names or their endings."""
    if isinstance(names, str):
        return patterns.match(names, modules, "target_modules", full=True)
    ends = tuple(f".{name}" for name in names)
    return [f".{module}".endswith(ends) for module in modules]


def settings_fields(
    kind: Lora | Bottleneck, task: str, base: str, revision: str | None, modules_to_save: list[str]
) -> dict[str, Any]:
    """What adapter_config.json holds, but for the modules that have adapters."""
    shared = {
        "base_model_name_or_path": base,
        "inference_mode": True,
        "modules_to_save": modules_to_save or None,
        "revision": revision,
        "task_type": TASK_TYPES.get(task),
    }
    if isinstance(kind, Bottleneck):
        return {"peft_type": BOTTLENECK, **shared, "size": kind.size, "activation": kind.activation}
    return {
        "peft_type": LORA,
        **shared,
        "r": kind.rank,
        "lora_alpha": kind.alpha,
        "lora_dropout": kind.dropout,
        "use_rslora": kind.rank_stabilized,
        "use_dora": kind.dora,
        "init_lora_weights": True,
        "fan_in_fan_out": False,
    }


def endings(targets: Collection[str], others: Collection[str]) -> list[str]:
    """For every target the shortest ending of its name that is no other's, as PEFT matches names in a list."""

    def ending(name: str) -> str:
        keys = name.split(".")
        ends = (".".join(keys[-n:]) for n in range(1, len(keys)))
        return next((end for end in ends if not any(f".{other}".endswith(f".{end}") for other in others)), name)

    return sorted(set(map(ending, targets)))
