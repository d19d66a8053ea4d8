"""Object references such as `my_module:MyTask`: how a config names a Python object of the user's own."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from jaxft.core.errors import UserError, nearest, one_line


def is_reference(text: str) -> bool:
    """Whether a text may be an object reference: no name of jaxft's own has a colon."""
    return ":" in text


def module_file(reference: str) -> Path | None:
    """The file of the (outermost) package or module that a reference names, without importing it."""
    _search_working_directory()
    try:
        spec = importlib.util.find_spec(reference.partition(":")[0].partition(".")[0])
    except ValueError:  # no name of a module
        return None
    return Path(spec.origin).resolve() if spec and spec.origin else None


def load_object(reference: str, option: str) -> Any:
    """The object that `module:name` names; its module is imported from the Python path or the working directory.

    Args:
      reference: from the user's config.
      option: of the config, for messages.

    Raises:
      UserError: for another form, a module that is not there or cannot be imported, or a name that it lacks.
    """
    module_name, _, name = reference.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise UserError(f"{option} {reference}: must be module:name, such as my_module:MyClass")
    _search_working_directory()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(
                f"{option} {reference}: there is no module {error.name} in the working directory or on the Python path"
            ) from error
        raise UserError(
            f"{option} {reference}: {module_name} cannot be imported: {type(error).__name__}: {one_line(error)}"
        ) from error
    if not hasattr(module, name):
        raise UserError(f"{option} {reference}: {module_name} has no {name}{nearest(name, vars(module))}")
    return getattr(module, name)


def _search_working_directory() -> None:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: a file there replaces no installed package
    importlib.invalidate_caches()
