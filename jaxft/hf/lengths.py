"""The maximum length in a Hugging Face script: its --max_seq_length, capped at the tokenizer's limit."""

from pathlib import Path
from typing import NamedTuple

from jaxft.core.model_source import PACKAGE, resolve
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.hf.scripts import Script
from jaxft.models.model import make_model
from jaxft.models.weights.tensor_files import read_model_config

_NO_LIMIT = 10**9  # transformers gives 10^30 if a tokenizer states no limit
_UNKNOWN = 512  # if no limit of the model is known


class Limits(NamedTuple):
    """Limits on the tokens of a sequence: the tokenizer's `model_max_length`, the model's positions; None if unlimited."""

    tokenizer: int | None = None
    positions: int | None = None


def limits_of(path: str, revision: str | None) -> Limits:
    """The limits of a model directory or hub id.

    Raises:
      UserError: if the model is not found or its files cannot be read.
    """
    directory = resolve(path, revision)
    stated = int(load_tokenizer(directory).model_max_length)
    model = make_model(read_model_config(directory), "feature-extraction", str(directory / "config.json"))
    return Limits(stated if stated < _NO_LIMIT else None, model.encoder.config.usable_positions)


def local_limits(path: str, revision: str | None) -> Limits:
    """The limits of a local model; no limits for a hub id, which is not downloaded."""
    return limits_of(path, revision) if path.startswith(PACKAGE) or Path(path).expanduser().is_dir() else Limits()


def choose_max_length(script: Script, given: int | None, limits: Limits) -> tuple[int, list[str]]:
    """(the length at which the script truncates, messages if it is not the length that was given).

    Scripts without a default use the tokenizer's limit. If a script's default exceeds the model's positions, the script
    would fail; here the number of positions is used.
    """
    if given is not None:
        if limits.tokenizer is None or given <= limits.tokenizer:
            return given, []
        line = f"  --max_seq_length {given} is more than the tokenizer's model_max_length: {limits.tokenizer} is used"
        return limits.tokenizer, [line]
    known = [x for x in (script.max_length, limits.tokenizer, limits.positions) if x is not None]
    return min([*(known or [_UNKNOWN]), *([script.most] if script.most else [])]), []
