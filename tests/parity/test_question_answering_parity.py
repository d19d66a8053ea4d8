"""Loss, gradients and soft loss of question answering are PyTorch's, for windows in padded and in packed rows."""
# ruff: noqa: E402

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers import BertConfig, BertForQuestionAnswering

import jaxft
from jaxft.config import DistillConfig, cli
from jaxft.core import tree
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.run.loss import make_loss
from jaxft.step.distillation import soft_loss
from jaxft.step.parameters import Parameters
from jaxft.tasks import QuestionAnswering
from tests.support import questions, tiny, zoo_torch

TASK = QuestionAnswering(unanswerable=True)


def hf_model(directory, seed):
    """A random Hugging Face model in evaluation mode, as itself and loaded by jaxft."""
    torch.manual_seed(seed)
    config = {key: x for key, x in tiny.CONFIG.items() if key not in ("model_type", "architectures")}
    model = BertForQuestionAnswering(BertConfig(**config)).eval()
    zoo_torch.add_noise(model)
    model.save_pretrained(directory)
    tiny.write_tokenizer(directory)
    return model, *jaxft.load(str(directory), unroll=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return [hf_model(tmp_path_factory.mktemp("model"), seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def examples(models):
    import datasets

    rows = datasets.Dataset.from_list(questions.make(6, seed=4, unanswerable=0.3, longest=50))
    directory = models[0][1].directory
    config = cli.parse({"data": {"max_length": 30, "cache": False}}, [], origin="test")
    found = TASK.encode(rows, load_tokenizer(directory), directory, config, "a.json").examples
    assert len(set(found.lengths.tolist())) > 3
    assert 0 < (found.columns["start_positions"] == 0).sum() < len(found)
    return found


def one(examples, number):
    """A single window as inputs of PyTorch's model."""
    low, high = examples.offsets[number : number + 2]
    names = ("input_ids", "token_type_ids")
    return {name: torch.tensor(examples.tokens[name][low:high].astype(np.int64))[None] for name in names}


@pytest.mark.parametrize("layout", ["pad", "pack"])
def test_loss_and_gradients_are_transformers(models, examples, layout):
    theirs, model, params = models[0]
    theirs.zero_grad()
    total = 0.0
    for number in range(len(examples)):
        places = {
            name: torch.tensor(examples.columns[name][number : number + 1].astype(np.int64))
            for name in ("start_positions", "end_positions")
        }
        loss = theirs(**one(examples, number), **places).loss / len(examples)
        loss.backward()
        total += loss.item()
    batch = step(examples, layout)

    def mean(params):
        (loss, weight), _ = make_loss(model, TASK)(Parameters(params), batch, None, {})
        return loss / weight

    ours, grads = jax.jit(jax.value_and_grad(mean))(params)
    assert float(ours) == pytest.approx(total, rel=1e-5)
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    largest = max(np.abs(g).max() for g in expected.values())
    grads = tree.unstack(jax.tree.map(np.asarray, grads))
    assert len(grads) == len(expected)
    for name, g in grads.items():
        right = expected[model.naming.hf_name(name)]
        assert np.abs((g.T if name.endswith(".kernel") else g) - right).max() <= 1e-5 * largest, name


def test_the_soft_loss_is_pytorchs(models, examples):
    """The cross-entropy of two softmaxes at a temperature, times its square, over the tokens of every window."""
    (theirs, model, params), (teacher, teacher_model, teacher_params) = models
    temperature, expected = 3.0, 0.0
    with torch.no_grad():
        for number in range(len(examples)):
            outputs = [m(**one(examples, number)) for m in (theirs, teacher)]
            for name in ("start_logits", "end_logits"):
                student, target = (x[name] / temperature for x in outputs)
                loss = torch.nn.functional.cross_entropy(student, target.softmax(-1))
                expected += loss.item() * temperature**2 / 2 / len(examples)
    batch = step(examples, "pack")
    pairs = TASK.soft_pairs(model.apply(params, batch), teacher_model.apply(teacher_params, batch), batch)
    total = soft_loss(pairs, DistillConfig(temperature=temperature))
    assert float(total / pairs[0].weights.sum()) == pytest.approx(expected, rel=1e-5)


def test_windows_whose_answer_has_no_known_position_have_no_weight(models, examples):
    _, model, params = models[0]
    batch = step(examples, "pack")
    hidden = batch["example"] % 2 == 1
    assert hidden.any()
    known = batch | {"weights": np.where(hidden, 0, batch["weights"]).astype(np.float32)}
    unknown = batch | {f"{x}_positions": np.where(hidden, -1, batch[f"{x}_positions"]) for x in ("start", "end")}
    outputs = jax.jit(model.apply)(params, batch)
    for right, found in zip(TASK.loss(outputs, known, True), TASK.loss(outputs, unknown, True), strict=True):
        assert float(found) == float(right) > 0


def step(examples, layout):
    """All windows as one micro-batch."""
    sampler = make_sampler(examples.lengths, batch_size=len(examples), max_length=40, layout=layout, seed=0)
    batch = {name: x[0] for name, x in sampler.epoch_batches(0).batch(examples, 0).items()}
    assert (batch["segment_ids"].max() > 1) == (layout == "pack")
    assert (batch["segment_ids"] == 0).any()
    return batch
