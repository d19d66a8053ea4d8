"""ONNX graphs against jaxft: every family and head, any batch and length."""
# ruff: noqa: E402

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft
from jaxft.core.errors import UserError
from jaxft.models.model import make_model
from tests.support import tiny, zoo

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from jaxft.deploy.onnx import artefact, session
from jaxft.deploy.onnx.convert import converted
from jaxft.deploy.onnx.fusions import RULES
from jaxft.deploy.onnx.graph import Graph
from jaxft.deploy.onnx.write import model_graph
from jaxft.deploy.replay import random_inputs

# One of each kind of attention and of positions, with heads on all sources of a part.
DEFAULT = {
    ("bert", "text-classification"),
    ("deberta-v2", "token-classification"),
    ("modernbert", "fill-mask"),
    ("roberta", "multiple-choice"),
}
PAIRS = [pytest.param(*p, marks=() if p in DEFAULT else pytest.mark.slow, id="-".join(p)) for p in zoo.PAIRS]


def opened(proto, tmp_path):
    """The graph as a function, after ONNX's own check."""
    onnx.checker.check_model(proto, full_check=True)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    return session.open_session(tmp_path / "model.onnx")


def alone(outputs, mask, row, length):
    """The outputs of one row without its padding."""
    tokens = {name: x.shape[: mask.ndim] == mask.shape for name, x in outputs.items()}
    cut = (slice(row, row + 1), *[slice(None)] * (mask.ndim - 2), slice(length))
    return {name: x[cut] if tokens[name] else x[row : row + 1] for name, x in outputs.items()}


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_a_graph_has_the_outputs_of_the_model(family, kind, tmp_path):
    """Within 1e-5 of the largest output, for a padded batch and for one row alone."""
    config = zoo.fixed(family, kind)
    model = make_model(config, kind, "test")
    params = tiny.random_params(model, 1, 0.2)
    run = opened(model_graph(model, params), tmp_path)
    inputs = zoo.inputs_for(family, kind, config)
    mask = inputs["attention_mask"]
    expected = jaxft.forward(model, params, inputs)
    length = int(mask[1:2].sum(-1).max())
    first = {name: x[1:2, ..., :length] for name, x in inputs.items()}
    for given, right in ((inputs, expected), (first, alone(expected, mask, 1, length))):
        found = run(given)
        assert found.keys() == right.keys()
        for name, x in found.items():
            mine, theirs = (zoo.real(y, given["attention_mask"]) for y in (x, right[name]))
            assert mine.shape == theirs.shape, name
            assert np.abs(mine - theirs).max() <= 1e-5 * np.abs(theirs).max(), name


@pytest.mark.parametrize(("dtype", "limit", "size"), [("float16", 0.02, 0.75), ("bfloat16", 0.05, 0.75), ("int8", 0.2, 0.6)])
def test_smaller_variants_are_near_the_model(dtype, limit, size, tmp_path):
    """In outputs and in bytes."""
    config = tiny.CONFIG | {"hidden_size": 48, "intermediate_size": 192, "num_labels": 3}
    model = make_model(config, "text-classification", "test")
    params = tiny.random_params(model, spread=0.2)
    (whole, _), (run, details) = (artefact.write(model, params, x, make(tmp_path / x)) for x in ("float32", dtype))
    assert details["opset"] == 20
    inputs = random_inputs(model)
    right, found = whole(inputs)["logits"], run(inputs)["logits"]
    assert found.dtype == np.float32
    assert 1e-6 < np.abs(found - right).max() / np.abs(right).max() < limit
    sizes = [(tmp_path / x / "model.onnx").stat().st_size for x in ("float32", dtype)]
    assert sizes[1] < size * sizes[0]
    assert len(list((tmp_path / dtype).iterdir())) == 1


def make(folder):
    folder.mkdir()
    return folder


def graph_of(function, *arguments):
    """(the nodes of a function of arrays, in a runnable order, the graph)."""
    graph = Graph({}, RULES)
    jaxpr = jax.make_jaxpr(function)(*arguments)
    inputs = [graph.input(f"x{i}", x.shape, x.dtype) for i, x in enumerate(arguments)]
    converted(graph, jaxpr.jaxpr, jaxpr.consts, inputs)
    return graph


def test_a_graph_has_single_nodes_for_layer_norm_gelu_and_softmax_and_the_names_of_the_checkpoint():
    config = tiny.CONFIG | {"hidden_act": "gelu", "architectures": ["BertForMaskedLM"]}
    model = make_model(config, "fill-mask", "test")
    params = tiny.random_params(model)
    graph = model_graph(model, params).graph
    ops = [node.op_type for node in graph.node]
    assert (ops.count("LayerNormalization"), ops.count("Softmax"), ops.count("Gelu")) == (6, 2, 3)
    assert not {"ReduceMean", "Erf", "Exp", "Expand"} & set(ops)
    weights = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}
    kernel = params["encoder"]["layer"]["0:2"]["intermediate"]["dense"]["kernel"][1]
    np.testing.assert_array_equal(weights["bert.encoder.layer.1.intermediate.dense.weight"], kernel)
    words = [name for name, x in weights.items() if x.size == config["vocab_size"] * config["hidden_size"]]
    assert words == ["bert.embeddings.word_embeddings.weight"]  # once, although the decoder multiplies by it
    assert [x.type.tensor_type.shape.dim[1].dim_param for x in graph.input] == ["sequence"] * 3


def test_shared_layers_are_stored_once():
    config = zoo.fixed("albert", "feature-extraction") | {
        "num_hidden_layers": 4,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
    }
    model = make_model(config, "feature-extraction", "test")
    graph = model_graph(model, tiny.random_params(model)).graph
    assert sum("ffn.weight" in x.name for x in graph.initializer) == 1


def test_approximate_gelu_is_one_node():
    graph = graph_of(lambda x: jax.nn.gelu(x, approximate=True), jnp.ones((2, 3)))
    assert "Gelu" in [node.op for node in graph.nodes.values()]


def test_an_operation_that_is_not_converted_is_named():
    with pytest.raises(UserError, match="the operation sort is not supported"):
        graph_of(jnp.sort, jnp.ones(3))


def test_a_condition_on_the_inputs_is_refused():
    with pytest.raises(UserError, match="a condition that depends on the inputs"):
        graph_of(lambda x: jax.lax.cond(x[0] > 0, lambda: x, lambda: -x), jnp.ones(3))
