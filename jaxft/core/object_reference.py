"""Object references such as `my_module:MyTask`: how a config names a Python object of the user's own."""

import importlib.util
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

from jaxft.core.errors import UserError, nearest, one_line

EXAMPLES = {
    "task.name": "MyTask",
    "task.loss": "my_loss",
    "eval.metrics": "my_metric",
    "optim.name": "my_optimizer",
    "augment.steps": "MyStep",
    "train.callbacks": "MyCallback",
}
# Folders that a folder of the user may contain.
_PACKAGE = f"{Path(__file__).parents[1]}/"
_NOT_OWN = (_PACKAGE, f"{sysconfig.get_path('stdlib')}/")
_folders: set[str] = set()  # of the modules that references have named
_given: dict[str, Any] = {}  # objects of this process that no module has under their name, by their references


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


def reference_of(found: Any, option: str, name: str | None = None) -> str:
    """`module:name` for an object that is given in place of a reference.

    One that cannot be imported (of a script, a notebook or a function, or under another `name`) is known by its reference in
    this process only; of several with the same one, the last counts, as for names in Python.

    Raises:
      UserError: for an object without a name, such as a lambda.
    """
    own, module = getattr(found, "__name__", None), getattr(found, "__module__", None) or "__main__"
    if name is not None and not name.isidentifier():
        raise UserError(f"{option}: the name {name!r} must be of letters, digits and _")
    name = name or own
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"{option}: {own or repr(found)} has no name: define it by def or class")
    reference = f"{module}:{name}"
    if module == "__main__" or getattr(sys.modules.get(module), name, None) is not found:
        _given[reference] = found
    return reference


def load_object(reference: str, option: str) -> Any:
    """The object that `module:name`, the value of an option, names; its module is on the path or in the working directory.

    Raises:
      UserError: for another form, a module that is not there or cannot be imported, or a name that it lacks.
    """
    if reference in _given:
        return _given[reference]
    module_name, _, name = reference.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise UserError(f"{option} {reference}: must be module:name, such as my_module:{EXAMPLES[option]}")
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
    if module_name == "__main__" and not hasattr(module, name):
        raise UserError(f"{option} {reference}: is of a script or notebook: give it there again, or move it to a module")
    if not hasattr(module, name):
        own = [x for x, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
        raise UserError(f"{option} {reference}: {module_name} has no {name}{nearest(name, own)}")
    if file := getattr(module, "__file__", None):
        _folders.add(f"{Path(file).parent}/")
    return getattr(module, name)


def failure_of_own_code(error: Exception) -> tuple[str, str] | None:
    """(which function failed and where, the traceback through the user's own files) if these raised the exception.

    The function is the last one of the user's that jaxft called: a script that starts the run may be in the same folder.
    """
    own, called = [], True
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _is_own(frame.f_code.co_filename):
            own = [*([] if called else own), (frame, line)]
            called = False
        elif frame.f_code.co_filename.startswith(_PACKAGE):
            called = True
    if not own:
        return None
    frames = traceback.StackSummary.extract(iter(own))
    where = f"{own[0][0].f_code.co_qualname} failed in {frames[-1].filename}, line {frames[-1].lineno}"
    return f"{where}: {type(error).__name__}: {one_line(error)}", "".join(frames.format())


def _is_own(file: str) -> bool:
    """Whether a file is in the folder of such a module, and not of an installed package, of jaxft or of Python itself."""
    inside = [file.removeprefix(folder) for folder in _folders if file.startswith(folder)]
    return any("-packages" not in path for path in inside) and not file.startswith(_NOT_OWN)


def _search_working_directory() -> None:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: a file there replaces no installed package
    importlib.invalidate_caches()
