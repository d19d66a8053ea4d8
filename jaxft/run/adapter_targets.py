"""Which layers of a run's model get adapters: plan.lora and plan.adapters, and the plan's column of that name."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jaxft.config import Config, LoraConfig
from jaxft.core import patterns, tree
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.models.encoder import adapters
from jaxft.models.encoder.adapters import Adapted, Bottleneck, Lora
from jaxft.models.encoder.layers import ACTIVATIONS
from jaxft.models.model import Model
from jaxft.models.peft.read_adapter import with_adapters
from jaxft.models.vocab_resize import joined_name, word_leaves
from jaxft.param_plan import ParameterPlan
from jaxft.param_plan.rules import decide

_IN_LAYERS = r"^encoder\.layer\.\d+\."
QUERY_VALUE = rf"{_IN_LAYERS}attention\.self\.(query|value|qkv)$"  # PEFT's default; some families have them fused
_AFTER = {
    "houlsby": rf"{_IN_LAYERS}(attention\.)?output\.dense$",
    "pfeiffer": rf"{_IN_LAYERS}output\.dense$",
}


def add_adapters(model: Model, params: Params, config: Config) -> tuple[Model, Params]:
    """The model with the adapters of the plan; unchanged where it has none.

    Raises:
      UserError: for a pattern that names no dense layer, or a rule about adapters in a plan without any.
    """
    plan = config.plan
    chosen = [name for name in plan.presets() if name in ("lora", "adapters")]
    about = next((rule for rule in plan.rules if rule.adapter is not None), None)
    if not chosen:
        if about:
            raise UserError(f'rule "{about.pattern}" decides adapter, but plan.preset is neither lora nor adapters')
        return model, params
    names = tree.all_names(params)
    dense = [name for name in adapters.dense_modules(params) if name.startswith("encoder.")]
    own, kind = plan.lora, plan.adapters
    numbers: Lora | Bottleneck
    if chosen[0] == "lora":
        numbers = Lora(own.rank, own.alpha, own.dropout, own.rank_stabilized, own.dora)
        places, wanted = dense, _targets(own, dense, names)
    else:
        if kind.activation not in ACTIVATIONS:
            raise UserError(f"plan.adapters.activation is {kind.activation}: must be one of {', '.join(ACTIVATIONS)}")
        numbers = Bottleneck(kind.size, kind.activation, model.encoder.config.initializer_range)
        places = [name for name in dense if re.search(_AFTER["houlsby"], name)]
        wanted = {name for name in dense if re.search(_AFTER[kind.kind], name)}
    decided = decide(plan, names, model.encoder.config.parameter_layers, ("adapter",))["adapter"]
    rules = {name: decided[f"{name}.kernel"] for name in places if f"{name}.kernel" in decided}
    for rule in {id(rule): rule for rule in decided.values()}.values():
        if rule not in rules.values():
            what = "a dense layer" if chosen[0] == "lora" else "a dense layer behind which an adapter can stand"
            raise UserError(f"{rule.where} decides adapter, but matches no kernel of {what}, such as {places[0]}.kernel")
    modules = [name for name in places if (rules[name].cells["adapter"] if name in rules else name in wanted)]
    if not modules:
        raise UserError(f"plan.preset {chosen[0]}: the rules leave no layer with an adapter")
    adapted = Adapted(tuple(modules), _base(str(config.model.path)), config.model.revision)
    return with_adapters(model, numbers, adapted), adapters.add(params, modules, numbers, config.seed)


def settled(model: Model, params: Params, plan: ParameterPlan, seed: int, *, resized: bool = False) -> tuple[Model, Params]:
    """The model that knows which of its parameters are not the base's: trained, drawn by the plan, newly initialised, or, of
    a `resized` vocabulary, a row for each word.

    DoRA's magnitudes, which began as the lengths of the columns, follow kernels that the plan has drawn.
    """
    kind = model.encoder.config.adapter
    if model.adapted is None or kind is None:
        return model, params
    drawn = {name for name, setting in plan.settings.items() if setting.init == "random"}
    new = set(model.report.new) if model.report else set()
    names = {name for name, setting in plan.settings.items() if setting.trainable} | drawn | new
    names = {joined_name(name) for name in names} | (word_leaves(params) if resized else set())
    saved = frozenset(name for name in names if not adapters.is_adapter(name))
    params = adapters.add(params, model.adapted.modules, kind, seed) if drawn else params
    return replace(model, adapted=replace(model.adapted, saved=saved)), params


def _targets(config: LoraConfig, dense: Sequence[str], names: Sequence[str]) -> set[str]:
    """The dense layers that plan.lora.targets names.

    Raises:
      UserError: for a pattern that finds none.
    """
    if config.targets is None:
        return {name for name in dense if re.search(QUERY_VALUE, name)}
    found: set[str] = set()
    for pattern in [config.targets] if isinstance(config.targets, str) else config.targets:
        wanted = _IN_LAYERS if pattern == "all" else pattern
        matching = _found(wanted, dense)
        if not matching:
            other = min(_found(wanted, names), default=None)
            why = f"no dense layer of the encoder, but {other}" if other else "no dense layer"
            raise UserError(f'plan.lora.targets "{pattern}" matches {why}{tree.nearest_path(pattern, dense)}')
        found |= matching
    return found


def _found(pattern: str, names: Sequence[str]) -> set[str]:
    return {name for name, fits in zip(names, patterns.match(pattern, names), strict=True) if fits}


def _base(path: str) -> str:
    """How an adapter directory names the base: a local directory from wherever it is read."""
    return os.path.abspath(os.path.expanduser(path)) if Path(path).expanduser().is_dir() else path
