"""How a model's texts were cleaned, kept in its config.json, so that a model directory alone cleans them alike."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from jaxft.config import CleanConfig, CleanRuleConfig, Config
from jaxft.core.errors import UserError
from jaxft.models.model import as_stored_options, stored_options

NAME = "clean"


def with_cleaning(hf_config: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """A copy of a config.json with the options of `data.clean` that change texts, and without those of an earlier run."""
    kept = {name: x for name, x in stored_options(hf_config).items() if name != NAME}
    if config.data.clean.edits:
        kept[NAME] = {name: x for name, x in asdict(_edits(config.data.clean)).items() if x != getattr(CleanConfig(), name)}
    others = {name: x for name, x in (hf_config.get("task_specific_params") or {}).items() if name != "jaxft"}
    params = {**others, **(as_stored_options(kept)["task_specific_params"] if kept else {})}
    without = {name: x for name, x in hf_config.items() if name != "task_specific_params"}
    return without | ({"task_specific_params": params} if params or hf_config.get("task_specific_params") == {} else {})


def cleaned_as_stored(config: Config, hf_config: Mapping[str, Any]) -> Config:
    """A copy of a config whose texts are cleaned as the model's were in training, unless the config says how.

    Raises:
      UserError: if config.json has what this version cannot do.
    """
    stored = stored_options(hf_config).get(NAME)
    if not stored or config.data.clean.edits:
        return config
    try:
        rules = [CleanRuleConfig(**rule) for rule in stored.get("rules", [])]
        clean = replace(config.data.clean, **{**stored, "rules": rules})
    except (TypeError, AttributeError) as error:
        known = ", ".join(field.name for field in fields(CleanConfig))
        raise UserError(f"config.json: task_specific_params.jaxft.clean is {stored!r}: must have {known}") from error
    clean.validate("config.json: task_specific_params.jaxft.clean.")
    return replace(config, data=replace(config.data, clean=clean))


def _edits(clean: CleanConfig) -> CleanConfig:
    """The options that change texts; the others have their defaults."""
    return CleanConfig(
        clean.html_tags, clean.html_entities, clean.unicode, clean.control_characters, clean.rules, clean.whitespace
    )
