"""Which layers of a run's model get adapters: plan.lora, plan.adapters, and the rules of the plan that decide `adapter`."""

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
from jaxft.step.training_only import is_training_only

_IN_LAYERS = r"^encoder\.layer\.\d+\."
QUERY_VALUE = rf"{_IN_LAYERS}attention\.self\.(query|value|qkv)$"  # PEFT's default; some families have them fused
_BEFORE_BOTTLENECK = {
    "houlsby": rf"{_IN_LAYERS}(attention\.)?output\.dense$",
    "pfeiffer": rf"{_IN_LAYERS}output\.dense$",
}


def add_adapters(model: Model, params: Params, config: Config) -> tuple[Model, Params]:
    """Add the adapters of the plan; without any, model and parameters are returned unchanged.

    Raises:
      UserError: for a pattern that names no dense layer, or a rule about adapters in a plan without any.
    """
    plan = config.plan
    preset = next((name for name in plan.presets() if name in ("lora", "adapters")), None)
    if preset is None:
        if rule := next((rule for rule in plan.rules if rule.adapter is not None), None):
            raise UserError(f'rule "{rule.pattern}" decides adapter, but plan.preset is neither lora nor adapters')
        return model, params
    names = tree.all_names(params)
    dense = [name for name in adapters.dense_modules(params) if name.startswith("encoder.")]
    lora, bottleneck = plan.lora, plan.adapters
    adapter: Lora | Bottleneck
    if preset == "lora":
        adapter = Lora(lora.rank, lora.alpha, lora.dropout, lora.rank_stabilized, lora.dora)
        candidates, targets, what = dense, _lora_targets(lora, dense, names), "a dense layer"
    else:
        if bottleneck.activation not in ACTIVATIONS:
            raise UserError(f"plan.adapters.activation is {bottleneck.activation}: must be one of {', '.join(ACTIVATIONS)}")
        adapter = Bottleneck(bottleneck.size, bottleneck.activation, model.encoder.config.initializer_range)
        candidates = [name for name in dense if re.search(_BEFORE_BOTTLENECK["houlsby"], name)]
        targets = {name for name in dense if re.search(_BEFORE_BOTTLENECK[bottleneck.kind], name)}
        what = "a dense layer behind which an adapter can stand"
    decided = decide(plan, names, model.encoder.config.parameter_layers, ("adapter",))["adapter"]
    rules = {name: decided[f"{name}.kernel"] for name in candidates if f"{name}.kernel" in decided}
    used = set(rules.values())
    for rule in decided.values():
        if rule not in used:
            raise UserError(f"{rule.where} decides adapter, but matches no kernel of {what}, such as {candidates[0]}.kernel")
    modules = [name for name in candidates if (rules[name].cells["adapter"] if name in rules else name in targets)]
    if not modules:
        raise UserError(f"plan.preset {preset}: the rules leave no layer with an adapter")
    base = str(config.model.path)  # the adapter's directory names a local base by its absolute path
    base = os.path.abspath(os.path.expanduser(base)) if Path(base).expanduser().is_dir() else base
    adapted = Adapted(tuple(modules), base, config.model.revision)
    return with_adapters(model, adapter, adapted), adapters.add(params, modules, adapter, config.seed)


def complete_adapters(
    model: Model, params: Params, plan: ParameterPlan, seed: int, *, resized: bool = False
) -> tuple[Model, Params]:
    """Record in the model which parameters are saved with its adapters, because they are not those of the base.

    These are trained, drawn by the plan, newly initialised, or word embeddings of a `resized` vocabulary. DoRA's magnitudes,
    which are the lengths of columns at first, are computed again if the plan has drawn kernels.
    """
    kind = model.encoder.config.adapter
    if model.adapted is None or kind is None:
        return model, params
    drawn = {name for name, setting in plan.settings.items() if setting.init == "random"}
    new = set(model.report.new) if model.report else set()
    names = {name for name, setting in plan.settings.items() if setting.trainable} | drawn | new
    names = {joined_name(name) for name in names} | (word_leaves(params) if resized else set())
    saved = frozenset(name for name in names if not (adapters.is_adapter(name) or is_training_only(name)))
    params = adapters.add(params, model.adapted.modules, kind, seed) if drawn else params
    return replace(model, adapted=replace(model.adapted, saved=saved)), params


def _lora_targets(config: LoraConfig, dense: Sequence[str], names: Sequence[str]) -> set[str]:
    """The dense layers that plan.lora.targets names.

    Raises:
      UserError: for a pattern that matches none.
    """
    if config.targets is None:
        return {name for name in dense if re.search(QUERY_VALUE, name)}
    found: set[str] = set()
    for target in [config.targets] if isinstance(config.targets, str) else config.targets:
        pattern = _IN_LAYERS if target == "all" else target
        matching = _matching(pattern, dense)
        if not matching:
            other = min(_matching(pattern, names), default=None)
            why = f"no dense layer of the encoder, but {other}" if other else "no dense layer"
            raise UserError(f'plan.lora.targets "{target}" matches {why}{tree.nearest_path(target, dense)}')
        found |= matching
    return found


def _matching(pattern: str, names: Sequence[str]) -> set[str]:
    return {name for name, matches in zip(names, patterns.match(pattern, names), strict=True) if matches}
