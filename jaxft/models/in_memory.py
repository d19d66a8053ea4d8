"""Models in memory, written to a model directory, so that everything reads, records and checks them as it does any other."""

import os
import tempfile
from pathlib import Path

from jaxft.core import checksums
from jaxft.core.errors import UserError
from jaxft.core.paths import cache_dir
from jaxft.core.tree import Params
from jaxft.models.load_save import save
from jaxft.models.model import Model


def stored_model(given: tuple[Model, Params], option: str) -> str:
    """The path of a model directory of the cache folder with this model; its name is the SHA-256 of its files.

    Args:
      given: (model, parameters) as `jaxft.load` returns them.
      option: what the model is given for, for messages.

    Raises:
      UserError: if it is no model, or cannot be written.
    """
    if len(given) != 2 or not isinstance(given[0], Model):
        raise UserError(f"{option}: must be a path, a hub id, or the (model, parameters) that jaxft.load returns")
    if given[0].directory is None:
        raise UserError(f"{option}: the model in memory has no tokenizer; only models that jaxft.load has opened have one")
    folder = cache_dir() / "models"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
            made = Path(temporary) / "model"
            save(*given, made)
            files = sorted(made.iterdir())
            target = folder / checksums.of_json({file.name: checksums.of_file(file) for file in files})
            if not target.is_dir():
                os.replace(made, target)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return str(target.absolute())
