"""How long sequences are in a Hugging Face script: its --max_seq_length, never more than the tokenizer says it takes."""

from pathlib import Path
from typing import NamedTuple

from jaxft.core.model_source import PACKAGE, resolve
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.hf.scripts import Script
from jaxft.models.model import make_model
from jaxft.models.weights.tensor_files import read_model_config

_NO_LIMIT = 10**9  # transformers gives 10^30 where a tokenizer states none
_UNKNOWN = 512  # where nothing is known of the model


class Limits(NamedTuple):
    """Most tokens of a sequence, None where there is no limit: the tokenizer's `model_max_length`, the model's positions."""

    tokenizer: int | None = None
    positions: int | None = None


def limits_of(path: str, revision: str | None) -> Limits:
    """Of a model directory or hub id.

    Raises:
      UserError: when there is none, or its files cannot be read.
    """
    directory = resolve(path, revision)
    stated = int(load_tokenizer(directory).model_max_length)
    model = make_model(read_model_config(directory), "feature-extraction", str(directory / "config.json"))
    return Limits(stated if stated < _NO_LIMIT else None, model.encoder.config.usable_positions)


def local_limits(path: str, revision: str | None) -> Limits:
    """The same where the hub need not be asked; else no limits."""
    return limits_of(path, revision) if path.startswith(PACKAGE) or Path(path).expanduser().is_dir() else Limits()


def choose_max_length(script: Script, given: int | None, limits: Limits) -> tuple[int, list[str]]:
    """The length that the script would cut to, and a line for people where it is not what was given.

    Scripts without a default take the tokenizer's limit. Where a default is more than the model has positions for, the
    script would fail; here all positions are taken.
    """
    if given is not None:
        if limits.tokenizer is None or given <= limits.tokenizer:
            return given, []
        line = f"  --max_seq_length {given} is more than the tokenizer's model_max_length: {limits.tokenizer} is taken"
        return limits.tokenizer, [line]
    known = [x for x in (script.max_length, limits.tokenizer, limits.positions) if x is not None]
    return min([*(known or [_UNKNOWN]), *([script.most] if script.most else [])]), []
