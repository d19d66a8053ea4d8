"""Which layers of a student and of a teacher are compared."""

import pytest

from jaxft.config import MatchConfig
from jaxft.core.errors import UserError
from jaxft.step.layer_maps import layer_pairs
from jaxft.step.matches import Match, Matches


@pytest.mark.parametrize(
    ("layers", "student", "teacher", "pairs"),
    [
        ("last", 3, 12, [(3, 12)]),
        ("last 2", 3, 12, [(2, 11), (3, 12)]),
        ("every 2", 3, 6, [(1, 2), (2, 4), (3, 6)]),
        ("uniform", 3, 6, [(1, 2), (2, 4), (3, 6)]),
        ("uniform", 4, 6, [(1, 2), (2, 3), (3, 5), (4, 6)]),  # 1.5, 3, 4.5, 6: halves are rounded up
        ([[0, 0], [2, 5]], 3, 6, [(0, 0), (2, 5)]),
    ],
)
def test_maps(layers, student, teacher, pairs):
    assert list(layer_pairs(layers, student, teacher, "layers")) == pairs


@pytest.mark.parametrize(("layers", "wrong"), [("every 3", "layer 9 of the teacher"), ([[4, 1]], "layer 4 of the student")])
def test_a_layer_that_is_not_there_is_refused(layers, wrong):
    with pytest.raises(UserError, match=wrong):
        layer_pairs(layers, 3, 6, "distill.matches 1 layers")


def test_the_log_names_the_pairs():
    first = Match(MatchConfig("cos"), 1, "hidden_states", ((0, 0), (1, 3)))
    found = Matches((first, Match(MatchConfig("key_relation"), 2, "keys", ((2, 6),))))
    assert found.line().endswith(": cos 0-0, 1-3; key_relation 2-6")
