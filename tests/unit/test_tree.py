"""Parameter trees: stacks and single layers, cuts, partitions, rules of which the first match wins."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.core import tree
from jaxft.core.errors import UserError

LAYERS = 5
quick = settings(max_examples=80, deadline=None, derandomize=True)


def make_params() -> tree.Params:
    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    layer = {
        "attention": {"self": {"query": {"kernel": array(LAYERS, 4, 4), "bias": array(LAYERS, 4)}}},
        "output": {"LayerNorm": {"scale": array(LAYERS, 4)}},
    }
    return {
        "encoder": {
            "embeddings": {"word_embeddings": {"embedding": array(7, 4)}},
            "layer": {f"0:{LAYERS}": layer},
            "pooler": {"dense": {"kernel": array(4, 4)}},
        },
        "heads": {"main": {"classifier": {"bias": array(3)}}},
    }


PARAMS = make_params()
cuts = st.lists(st.integers(-1, LAYERS + 2), max_size=6)


def same(left: tree.Params, right: tree.Params) -> bool:
    a, b = tree.flatten(left), tree.flatten(right)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


@quick
@given(cuts, cuts)
def test_recut_loses_nothing_and_can_be_undone(first, second):
    once = tree.recut(PARAMS, first)
    inside = sorted({c for c in first if 0 < c < LAYERS})
    assert list(once["encoder"]["layer"]) == [tree.span(a, b) for a, b in zip([0, *inside], [*inside, LAYERS], strict=True)]
    assert same(tree.recut(once, second), tree.recut(PARAMS, second))
    assert same(tree.recut(once, []), PARAMS)


@quick
@given(cuts)
def test_recut_of_shapes_is_the_shape_of_recut(where):
    shapes = jax.eval_shape(lambda: PARAMS)
    cut = tree.recut(tree.recut(shapes, [2]), where)
    assert {p: x.shape for p, x in tree.flatten(cut).items()} == {
        p: x.shape for p, x in tree.flatten(tree.recut(PARAMS, where)).items()
    }


@quick
@given(cuts)
def test_unstack_and_restack_are_inverses(where):
    cut = tree.recut(PARAMS, where)
    flat = tree.unstack(cut)
    assert flat.keys() == tree.unstack(PARAMS).keys() == set(tree.all_names(PARAMS))
    assert same(tree.restack(flat, cut), cut)
    assert same(tree.restack(flat, PARAMS), PARAMS)
    kernel = PARAMS["encoder"]["layer"]["0:5"]["attention"]["self"]["query"]["kernel"]
    np.testing.assert_array_equal(flat["encoder.layer.3.attention.self.query.kernel"], kernel[3])


@quick
@given(st.data())
def test_partition_and_combine_are_inverses(data):
    keep = {path: data.draw(st.booleans()) for path in tree.flatten(tree.recut(PARAMS, [2]))}
    cut = tree.recut(PARAMS, [2])
    chosen, rest = tree.partition(cut, keep.__getitem__)
    assert tree.flatten(chosen).keys() == {path for path, kept in keep.items() if kept}
    assert not tree.flatten(chosen).keys() & tree.flatten(rest).keys()
    assert same(tree.combine(chosen, rest), cut)
    assert same(tree.combine(rest, chosen), cut)


def test_names_of_stacked_leaves():
    assert tree.names(("encoder", "layer", "2:4", "output", "bias")) == [
        "encoder.layer.2.output.bias",
        "encoder.layer.3.output.bias",
    ]
    assert tree.names(("encoder", "pooler", "kernel")) == ["encoder.pooler.kernel"]
    assert tree.stacks({"10:12": "top", "0:2": "low", "2:10": "middle"}) == [
        (0, 2, "low"),
        (2, 10, "middle"),
        (10, 12, "top"),
    ]
    assert tree.count(PARAMS) == 7 * 4 + LAYERS * (16 + 4 + 4) + 16 + 3


def test_uniform_cuts_are_where_a_setting_changes():
    settings = {name: ".2." in name or name.endswith("0.output.LayerNorm.scale") for name in tree.all_names(PARAMS)}
    assert tree.uniform_cuts(PARAMS, settings) == [1, 2, 3]
    assert tree.uniform_cuts(PARAMS, dict.fromkeys(settings, 0)) == []
    cut = tree.recut(PARAMS, [2])  # cuts are layer numbers, also for a stack that does not begin at layer 0
    settings = {name: "layer.4." in name for name in tree.all_names(cut)}
    assert tree.uniform_cuts(cut, settings) == [4]


def test_the_first_match_wins():
    chosen = tree.first_match([(r"\.bias$", "bias"), (r"^encoder\.layer\.", "layer"), ("", "rest")], tree.all_names(PARAMS))
    assert chosen["encoder.layer.0.attention.self.query.bias"] == "bias"
    assert chosen["encoder.layer.4.attention.self.query.kernel"] == "layer"
    assert chosen["encoder.pooler.dense.kernel"] == "rest"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([(r"^encoder\.", 0)], "covered by no rule, first heads.main.classifier.bias"),
        ([("(", 0), ("", 1)], 'rule "(" is not a regular expression'),
    ],
)
def test_incomplete_and_malformed_rules_are_errors(rules, message):
    with pytest.raises(UserError) as error:
        tree.first_match(rules, tree.all_names(PARAMS))
    assert message in str(error.value)
