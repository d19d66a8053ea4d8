"""Students: some layers of a checkpoint, other sizes than config.json has, and embeddings of another model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from jaxft.core import tree
from jaxft.core.errors import UserError, nearest
from jaxft.core.tree import Params
from jaxft.models import families
from jaxft.models.families.family import Family
from jaxft.models.model import Model
from jaxft.models.weights.merge import Report

RULE = re.compile(r"(first|last|every|uniform) ([1-9]\d{0,5})")


def chosen_layers(given: Sequence[int] | str, count: int, where: str) -> tuple[int, ...]:
    """The layers of a checkpoint of `count` layers that a list names, or a rule.

    The rules are `first 3`, `last 3`, `every 2` (0, 2, 4 ...) and `uniform 6`, which spreads 6 layers from the first to the
    last: 0, 2, 4, 7, 9, 11 of 12, as in DistilBERT (Sanh et al. 2019, arXiv:1910.01108).

    Args:
      where: the option and the checkpoint, for messages.

    Raises:
      UserError: for a layer that is not there, a list that is not ascending, or another text.
    """
    if isinstance(given, str):
        found = RULE.fullmatch(given)
        if not found:
            raise UserError(f"{where}: {given} is no rule: must be a list of layers, or first, last, every or uniform N")
        kind, number = found[1], int(found[2])
        if number > count:
            raise UserError(f"{where}: {given} of a model with {count} layers")
        if kind == "uniform":
            return tuple(int(x) for x in np.linspace(0, count - 1, number).round())
        return tuple({"first": range(number), "last": range(count - number, count), "every": range(0, count, number)}[kind])
    layers = tuple(given)
    if not layers or any(b <= a for a, b in pairwise(layers)):
        raise UserError(f"{where}: {list(layers)} must be layers in ascending order")
    if outside := [x for x in layers if not 0 <= x < count]:
        raise UserError(f"{where}: there is no layer {outside[0]}: the layers are 0 to {count - 1}")
    return layers


def with_layers(
    family: Family, hf_config: Mapping[str, Any], given: Sequence[int] | str | int, path: str, where: str
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(config.json with the layers that `chosen_layers` finds, their numbers in the checkpoint); a number keeps the first.

    Args:
      path, where: the model and its config.json, for messages.

    Raises:
      UserError: if there are no such layers, the model shares its layers, or its first layer has to stay the first.
    """
    config = family.encoder_config(hf_config, where)
    if isinstance(given, int):
        if not 0 < given <= config.num_layers:
            raise UserError(f"model.num_layers is {given} but {path} has {config.num_layers} layers")
        if config.groups > 1:
            raise UserError(f"model.num_layers: {path} shares {config.groups} groups of layers, which cannot be cut short")
        layers = tuple(range(given))
    else:
        if config.groups:
            raise UserError(f"model.layers: the layers of {path} share their parameters; model.num_layers has fewer of them")
        layers = chosen_layers(given, config.num_layers, f"model.layers of {path}")
        if config.first_layer_differs and layers[0]:
            raise UserError(f"model.layers: the first layer of {path} has parameters of another kind: keep layer 0, too")
    # The number of layers keeps the family's field name.
    shorter = dict(hf_config) | {family.fields["num_layers"][0]: len(layers)}
    kinds = hf_config.get("layer_types")
    if config.rotary and not kinds:  # they follow from the number of a layer, which changes
        local = [config.rotary.local[i] for i in layers]
        rotary = family.encoder_config(shorter, where).rotary
        if rotary and list(rotary.local) != local:
            return shorter | {"layer_types": ["sliding_attention" if x else "full_attention" for x in local]}, layers
    return shorter | ({"layer_types": [kinds[i] for i in layers]} if kinds else {}), layers


class _Recorded(dict[str, Any]):
    """A config.json that knows which of its fields were asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def with_changes(hf_config: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A config.json with other values in some fields; another `model_type` reads the other fields as that family does.

    Sizes that the two families call by different names (`hidden_size` of BERT, `dim` of DistilBERT) are renamed.

    Raises:
      UserError: for a field that the family does not read, or a value that jaxft does not support.
    """
    changed = _Recorded({**_renamed(hf_config, changes.get("model_type")), **changes})
    if not changes:
        return dict(changed)
    origin = f"{where} with model.config"
    family = families.family_of(changed, origin)
    family.encoder_config(changed, origin)
    family.rates(changed, origin)
    for kind in family.classes:
        family.parts(kind, changed, origin)
    known = changed.asked | {"model_type"}
    for name in changes:
        if name not in known:
            kind = changed["model_type"]
            raise UserError(f'model.config: {kind} has no field "{name}" that jaxft reads{nearest(name, sorted(known))}')
    return dict(changed)


def _renamed(hf_config: Mapping[str, Any], model_type: Any) -> dict[str, Any]:
    """A config.json in which the fields of the encoder have the names of another family."""
    both = [families.FAMILIES.get(str(x)) for x in (hf_config.get("model_type"), model_type)]
    old, new = ({name: field for name, (field, _) in x.fields.items()} if x else {} for x in both)
    renamed = {old[name]: new[name] for name in old.keys() & new.keys() if old[name] != new[name]}
    kept = {field: value for field, value in hf_config.items() if field not in renamed}
    return {renamed[field]: value for field, value in hf_config.items() if field in renamed} | kept


def with_embeddings(model: Model, params: Params, other: Model, theirs: Params, where: str) -> tuple[Model, Params]:
    """The model with the embeddings of another one: words, and positions, token types and their norm if their shapes agree.

    Args:
      model, params: random (numpy).
      other, theirs: with the same vocabulary.
      where: the option and the other model, for messages.

    Raises:
      UserError: if the tables of words have different sizes.
    """
    own, given = (tree.flatten(x["encoder"]["embeddings"]) for x in (params, theirs))
    words = ("word_embeddings", "embedding")
    if own[words].shape != given[words].shape:
        raise UserError(
            f"{where}: its word embeddings are {list(given[words].shape)}, those of the student {list(own[words].shape)}: "
            f"set embedding_size {given[words].shape[1]} in model.config, which albert, electra and deberta-v2 read, or "
            "leave it out"
        )
    a, b = model.encoder.config, other.encoder.config
    copied = {path: x for path, x in given.items() if path in own and own[path].shape == x.shape}
    copied = {path: x for path, x in copied.items() if "projection" not in path}
    if a.position_offset != b.position_offset:
        copied = {path: x for path, x in copied.items() if path[0] != "position_embeddings"}
    if a.projection == "before_norm" or b.projection == "before_norm":  # the norm is not of the embeddings
        copied = {path: x for path, x in copied.items() if path[0] != "LayerNorm"}
    embeddings = tree.unflatten({path: copied.get(path, x) for path, x in own.items()})
    report = Report(len(copied), ("all parameters but embeddings",), ())
    return replace(model, report=report), {**params, "encoder": {**params["encoder"], "embeddings": embeddings}}
