"""What determines the outputs for the rows of a file: two commands for which it is equal write the same."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jaxft.config import Config, cli
from jaxft.core import checksums
from jaxft.core.model_source import resolve
from jaxft.core.object_reference import is_reference, module_file
from jaxft.data.reading.spool import unload
from jaxft.data.tokens.cache import content_digest
from jaxft.evaluation.chunks import ROWS_PER_CHUNK, STEPS_OF_FIRST
from jaxft.models.peft.adapter_config import read_adapter_config
from jaxft.models.peft.read_adapter import is_adapter_directory
from jaxft.run.agreement import PACKAGES
from jaxft.run.trained_models import model_directory

# Sections and options that change where a result is, or how it is shown, but not the result. `data.test` names the input.
_WITHOUT_EFFECT = ("log.", "checkpoint.", "output_dir", "data.test", "data.cache")
_OF_RUNTIME = ("runtime.precision", "runtime.unroll", "runtime.attention")  # the only ones with an effect


def made_of(path: str, config: Config, rows: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values by the names that messages call them.

    Args:
      path, config: RUN_OR_MODEL_DIR and the config of the command.
      rows: the `datasets.Dataset` that is predicted; the content counts, not the file.
      given: more of it, which may stand in the place of an option.
    """
    device = jax.devices()[0]
    versions = {f"the version of {name}": version(name) for name in PACKAGES}
    try:
        content = {"the content of --input": [content_digest(rows)]}
    finally:
        unload()
    options = _options(config)
    return {
        **options,
        **given,
        **_of_code(options),
        **_of_model(path, config),
        **content,
        **versions,
        "the hardware": f"{jax.device_count()} x {device.device_kind}",
        "the size of chunks": [ROWS_PER_CHUNK, STEPS_OF_FIRST],
    }


def _options(config: Config) -> Mapping[str, Any]:
    """The options that may have an effect."""
    flat = cli.flatten(cli.as_dict(config))
    kept = {name: x for name, x in flat.items() if not name.startswith(_WITHOUT_EFFECT)}
    return {name: x for name, x in kept.items() if not name.startswith("runtime.") or name in _OF_RUNTIME}


def _of_code(options: Mapping[str, Any]) -> dict[str, Any]:
    """The digest of each file of the user's own that an option names by an object reference."""
    names = [x for x in options.values() if isinstance(x, str) and is_reference(x)]
    files = {name: file for name in names if (file := module_file(name)) and file.is_file()}
    return {f"the code of {name}": [checksums.of_file(file)] for name, file in files.items()}


def _of_model(path: str, config: Config) -> dict[str, Any]:
    """For each file of a model, and of the base of an adapter: its digest in the checksums of the directory.

    Models without checksums (from the hub) have the size and the time of each file instead, as they are large.
    """
    directory = resolve(model_directory(path), config.model.revision)
    found = _of_directory(directory, "the model's")
    if is_adapter_directory(directory):
        adapter = read_adapter_config(directory)
        found |= _of_directory(resolve(adapter.base, adapter.revision), "the base model's")
    return found


def _of_directory(directory: Path, whose: str) -> dict[str, Any]:
    try:
        files = checksums.read_sealed(directory / checksums.MANIFEST)["files"]
        return {f"{whose} {name}": [size, digest] for name, (size, digest) in sorted(files.items())}
    except (OSError, checksums.Damaged):
        paths = sorted(x for x in directory.iterdir() if x.is_file() and not x.name.startswith("."))
        return {f"{whose} {x.name}": [x.stat().st_size, x.stat().st_mtime_ns] for x in paths}
