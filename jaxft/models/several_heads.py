"""One encoder with a head for each of several tasks, from the models of the tasks, and back."""

from collections.abc import Iterable
from dataclasses import replace

from jaxft.core.tree import Params
from jaxft.models.heads import POOLER
from jaxft.models.model import MAIN, Model
from jaxft.models.weights.merge import Report


def with_all_heads(loaded: Iterable[tuple[str, Model, Params]]) -> tuple[Model, Params]:
    """The model with the heads of several that were loaded from the same directory, each with one head.

    Args:
      loaded: (name, model, its parameters) of each head; an iterator holds few encoders in memory at a time.

    Returns:
      (model, parameters); their encoder is that of the first model, or of the first that has a pooler.
    """
    base: Model | None = None
    encoder: Params = {}
    heads, params, configs, new = {}, {}, {}, []
    for name, model, own in loaded:
        heads[name], configs[name] = model.heads[MAIN], model.hf_config
        params[name] = own["heads"].get(MAIN, {})
        new += [_renamed(x, MAIN, name) for x in (model.report.new if model.report else ()) if x.startswith("heads.")]
        if base is None or (model.encoder.pooler and not base.encoder.pooler):
            base, encoder = model, own["encoder"]
    assert base is not None
    report = base.report or Report(0, (), ())
    in_encoder = [x for x in report.new if not x.startswith("heads.")]
    report = replace(report, new=(*in_encoder, *new))
    return replace(base, heads=heads, head_configs=configs, report=report), {"encoder": encoder, "heads": params}


def with_one_head(model: Model, params: Params, name: str) -> tuple[Model, Params]:
    """(model, parameters) of one head of several, as they would be alone; `params` may be of any kind of leaf."""
    head, encoder = model.heads[name], dict(params["encoder"])
    pooler = any(part.source == POOLER for part in head.parts.values())
    if not pooler:
        encoder.pop("pooler", None)
    adapted = model.adapted
    if adapted is not None:
        others = tuple(f"heads.{x}." for x in model.heads if x != name)
        saved = {x for x in adapted.saved if not x.startswith(others) and (pooler or not x.startswith("encoder.pooler."))}
        adapted = replace(adapted, saved=frozenset(_renamed(x, name, MAIN) for x in saved))
    single = replace(
        model,
        hf_config=model.head_configs[name],
        encoder=replace(model.encoder, pooler=pooler),
        heads={MAIN: head},
        head_configs={},
        adapted=adapted,
    )
    return single, {"encoder": encoder, "heads": {MAIN: params["heads"].get(name, {})}}


def _renamed(parameter: str, old: str, new: str) -> str:
    """The name of a parameter in a head of another name."""
    prefix = f"heads.{old}."
    return f"heads.{new}.{parameter.removeprefix(prefix)}" if parameter.startswith(prefix) else parameter
