"""Code of the user's own: which names are suggested, and how its exceptions are told."""

import sys
import sysconfig
from pathlib import Path

import pytest

from jaxft.config import cli
from jaxft.core import object_reference
from jaxft.core.errors import UserError
from jaxft.core.object_reference import load_object

MODULE = """
import jax
import jax.numpy as jnp
from pathlib import Path as Events


class Event:
    def on_step(self, step):
        raise OSError("the disk is full")


def helper(x):
    return jnp.ones(2) @ jnp.ones(x)


def my_loss(x):
    return jax.vmap(lambda _: helper(x))(jnp.ones(1))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_code.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_code", raising=False)  # of another test
    monkeypatch.setattr(object_reference, "_folders", set())
    return tmp_path / "own_code.py"


def test_only_names_that_the_module_defines_are_suggested(module):
    with pytest.raises(UserError, match='own_code has no Evens; did you mean "Event"'):
        load_object("own_code:Evens", "train.callbacks")
    with pytest.raises(UserError, match="must be module:name, such as my_module:MyCallback"):
        load_object("Events", "train.callbacks")


def told(capsys, main) -> list[str]:
    """The lines of a command that fails."""
    with pytest.raises(SystemExit) as stop:
        cli.run_main(main, [])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_an_exception_is_a_line_and_the_frames_of_the_users_files(module, capsys):
    loss, callback = (load_object(f"own_code:{name}", "train.callbacks") for name in ("my_loss", "Event"))
    first, *frames, last = told(capsys, lambda _: loss(3))
    assert first.startswith(f"error: my_loss failed in {module}, line 13: TypeError: ")
    assert last == "--debug shows the whole traceback"
    found = [line.strip() for line in frames if line.startswith("  File ")]
    lines = {"my_loss": 17, "<lambda>": 17, "helper": 13}
    assert found == [f'File "{module}", line {line}, in {function}' for function, line in lines.items()]
    with pytest.raises(TypeError):
        cli.run_main(lambda _: loss(3), ["--debug"])
    line = told(capsys, lambda _: callback().on_step(1))[0]
    assert line == f"error: Event.on_step failed in {module}, line 9: OSError: the disk is full"


def test_other_exceptions_are_told_as_before(module, capsys):
    load_object("own_code:Event", "train.callbacks")
    with pytest.raises(ZeroDivisionError):
        cli.run_main(lambda _: 1 / 0, [])
    assert told(capsys, lambda _: Path("absent").read_text()) == ["error: absent: No such file or directory"]


def test_files_of_python_are_not_the_users(module, capsys, monkeypatch):
    """Not even if Python is installed below a folder with a module of the user's, such as the home directory."""
    load_object("own_code:Event", "train.callbacks")
    monkeypatch.setattr(object_reference, "_folders", {f"{Path(sysconfig.get_path('stdlib')).parents[1]}/"})
    assert told(capsys, lambda _: Path("absent").read_text()) == ["error: absent: No such file or directory"]
