"""docs/api.md shows every public name, as its signature and docstring say, and these describe every argument."""

import re

import pytest

import jaxft
from tests.support import ROOT

griffe = pytest.importorskip("griffe", reason="needs griffelib, which reads docstrings")
from docs import api  # noqa: E402

OF_THE_LOOP = {"asked", "accepts"}  # fields of RunningRun


def test_the_page_is_what_the_docstrings_say():
    assert api.page() == api.PAGE.read_text(encoding="utf-8"), "run python docs/api.py"


def test_the_page_shows_every_public_name_and_those_of_the_loop():
    headings = re.findall(r"^###+ `([\w.]+)`$", api.PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(set(headings)) == len(headings)
    assert set(headings) >= {f"jaxft.{name}" for name in jaxft.__all__}
    assert api.public_names().keys() == {f"jaxft.{name}" for name in jaxft.__all__}
    loop = (ROOT / "docs/own_loop.md").read_text(encoding="utf-8")
    for name in ("value_and_grad", "apply_gradients", "run_optimizer", "fresh_state"):
        assert name in loop
        assert [x for x in headings if x.endswith(f".{name}")], name
    assert {f"losses.{name}" for name in ("cross_entropy", "squared_error", "kl_divergence")} <= set(headings)
    assert "Callback.on_checkpoint" in headings
    assert not [x for x in headings if x.rpartition(".")[2].startswith("_") and not x.endswith("__call__")]


def test_everything_on_the_page_has_a_docstring_that_names_its_attributes():
    for _, _, names in api.sections():
        for name in names:
            thing = api.find(name)
            for each in (thing, *api.members(name)):
                assert each.docstring, each.path
            for field in thing.members.values() if isinstance(thing, griffe.Class) else ():
                if isinstance(field, griffe.Attribute) and field.annotation and field.name[0] != "_":
                    other = "property" in field.labels or field.labels == {"class-attribute"} or field.name in OF_THE_LOOP
                    assert other or re.search(rf"\b{field.name}\b", thing.docstring.value), field.path


def test_arguments_are_described_where_a_docstring_has_a_list_of_them():
    for _, _, names in api.sections():
        for name in names:
            for function in (api.find(name), *api.members(name)):
                if isinstance(function, griffe.Function) and "Args:" in function.docstring.value:
                    described = function.docstring.value.split("Args:")[1]
                    for parameter in function.parameters:
                        own = parameter.name.lstrip("*")
                        assert own in ("self", "cls") or re.search(rf"\b{own}\b", described), (function.path, own)
