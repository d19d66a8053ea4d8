"""adapter_config.json: PEFT's names of an adapter's hyperparameters, and which of its options jaxft supports."""

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
LORA, BOTTLENECK = "LORA", "JAXFT_BOTTLENECK"  # PEFT has no bottleneck adapters; their name is jaxft's own
MAX_VALUE = 1e15  # limit of ranks, sizes and alphas
TASK_TYPES = {
    "text-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
    "question-answering": "QUESTION_ANS",
    "feature-extraction": "FEATURE_EXTRACTION",
}
# The initialisation of A and B does not matter, unless it changed the base.
_INITIAL = (None, True, False, "gaussian", "eva", "orthogonal")
# Options that change the sum x W + scale * x A B in other ways.
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
class AdapterConfig:
    """The content of an adapter_config.json.

    Attributes:
      kind: the hyperparameters of the adapters.
      base, revision: the model that the adapter was made for.
      task: task of the head, if the file names it.
      alphas: pattern for the end of a module's name -> alpha of matching modules.
      targets: modules with LoRA: a pattern of full names, or suffixes of names; None if the file does not say.
      excluded: modules without LoRA despite `targets`, in the same form.
    """

    kind: Lora | Bottleneck
    base: str
    revision: str | None = None
    task: str | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    targets: str | tuple[str, ...] | None = None
    excluded: str | tuple[str, ...] = ()

    def expected(self, modules: Sequence[str]) -> list[bool]:
        """For each module (Hugging Face's names), whether it should have LoRA according to the file."""
        if self.targets is None:
            return [False] * len(modules)
        targets, excluded = _matches(modules, self.targets), _matches(modules, self.excluded)
        return [is_target and not is_excluded for is_target, is_excluded in zip(targets, excluded, strict=True)]

    def scales(self, ranks: Mapping[str, int]) -> dict[str, float]:
        """The scales of LoRA layers, from their ranks; both by Hugging Face's name of the module."""
        kind = self.kind
        assert isinstance(kind, Lora)
        alphas: dict[str, float] = {}
        ends = [rf"^(.*\.)?({pattern})$" for pattern in self.alphas]  # as in PEFT
        for alpha, matched in zip(self.alphas.values(), patterns.match_each(ends, ranks, "alpha_pattern"), strict=True):
            alphas = {module: alpha for module, is_match in zip(ranks, matched, strict=True) if is_match} | alphas
        return {
            module: Lora(rank, alphas.get(module, kind.alpha), rank_stabilized=kind.rank_stabilized).scale
            for module, rank in ranks.items()
        }


def read_adapter_config(directory: Path) -> AdapterConfig:
    """Reads the adapter_config.json of an adapter directory.

    Raises:
      UserError: for another kind of adapter, an option that jaxft does not support, or a number out of range.
    """
    where = directory / CONFIG
    values = tensor_files.read_json(where)

    def number(name: str, default: float, least: float, most: float = MAX_VALUE) -> float:
        return _number(values.get(name, default), f"{where}: {name}", least, most)

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
        adapter: Lora | Bottleneck = Lora(
            rank=int(number("r", 8, 1)),
            alpha=number("lora_alpha", 8, 0),
            dropout=number("lora_dropout", 0.0, 0, 1),
            rank_stabilized=bool(values.get("use_rslora")),
            dora=bool(values.get("use_dora")),
        )
    elif kind == BOTTLENECK:
        activation = str(values.get("activation"))
        if activation not in ACTIVATIONS:
            raise UserError(f'{where}: activation "{activation}" is unknown{nearest(activation, ACTIVATIONS)}')
        adapter = Bottleneck(int(number("size", 0, 1)), activation)
    else:
        raise UserError(f"{where}: peft_type is {kind!r}: jaxft reads {LORA} and {BOTTLENECK}")
    tasks = {task_type: task for task, task_type in TASK_TYPES.items()}
    alphas = _alphas(values.get("alpha_pattern") or {}, where)
    if isinstance(adapter, Lora) and alphas and not adapter.alpha:  # the common scale of all layers must not be 0
        adapter, alphas = replace(adapter, alpha=1.0), alphas | {".*": 0.0}
    # layers_to_transform selects layers in a way that depends on PEFT's model of the base.
    some_layers = values.get("layers_to_transform") is not None
    return AdapterConfig(
        adapter,
        base,
        values.get("revision"),
        tasks.get(str(values.get("task_type"))),
        alphas,
        None if some_layers else _modules(values.get("target_modules"), f"{where}: target_modules"),
        _modules(values.get("exclude_modules"), f"{where}: exclude_modules") or (),
    )


def _number(value: Any, what: str, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < most:
        raise UserError(f"{what} is {value!r}: must be a number, {least:g} or more and less than {most:g}")
    return float(value)


def _alphas(values: Any, where: Path) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: alpha_pattern is {values!r}: must map patterns to numbers")
    for pattern in values:
        patterns.check(pattern, f"{where}: alpha_pattern")
    return {pattern: _number(x, f"{where}: alpha_pattern: {pattern}", 0, MAX_VALUE) for pattern, x in values.items()}


def _modules(value: Any, where: str) -> str | tuple[str, ...] | None:
    if isinstance(value, str):
        patterns.check(value, where)
        return value
    if not isinstance(value, list | None) or not all(isinstance(name, str) for name in value or []):
        raise UserError(f"{where} is {value!r}: must be a list of names, or a pattern")
    return tuple(value) if value else None


def _matches(modules: Sequence[str], names: str | tuple[str, ...]) -> list[bool]:
    """As in PEFT: a string is a pattern of the full name, a list contains full names or suffixes."""
    if isinstance(names, str):
        return patterns.match(names, modules, "target_modules", full=True)
    suffixes = tuple(f".{name}" for name in names)
    return [f".{module}".endswith(suffixes) for module in modules]


def adapter_config_fields(
    kind: Lora | Bottleneck, task: str, base: str, revision: str | None, modules_to_save: list[str]
) -> dict[str, Any]:
    """The fields of adapter_config.json, except the modules with adapters."""
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


def unique_suffixes(targets: Collection[str], others: Collection[str]) -> list[str]:
    """For every target the shortest suffix of its name that matches no other module, for PEFT's `target_modules`."""

    def suffix(name: str) -> str:
        keys = name.split(".")
        suffixes = (".".join(keys[-n:]) for n in range(1, len(keys)))
        return next((end for end in suffixes if not any(f".{other}".endswith(f".{end}") for other in others)), name)

    return sorted(set(map(suffix, targets)))
