"""Adapters of a model with new words: the directory has their rows; jaxft and PEFT read it."""

import json

import numpy as np
import pytest
from scipy.special import softmax

import jaxft
from jaxft import evaluate, export
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models.weights.tensor_files import open_safetensors
from jaxft.train import train
from tests.support import new_words, tiny

TABLE = "base_model.model.bert.embeddings.word_embeddings.weight"
TEXTS = ["brightly the river runs", "under the bridge a stone"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return new_words.write(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module", params=["new rows", "frozen rows"])
def run(request, folder, tmp_path_factory):
    """(run directory, final scores) of LoRA with new words, whose rows are trained or frozen."""
    directory = tmp_path_factory.mktemp("run") / "run"
    preset = ["lora", "new_tokens"] if request.param == "new rows" else "lora"
    sections = {
        "model": tiny.NO_DROPOUT,
        "vocabulary": {"words": new_words.WORDS},
        "plan": {"preset": preset, "lora": {"rank": 2, "targets": "all"}},
        "optim": {"learning_rate": 0.02},
        "data": {"validation": str(folder / "dev.csv"), "max_length": 48},
    }
    scores = train(tiny.run_config(folder / "model", folder, directory, **sections))
    return directory, scores


def inputs(directory):
    encoded = load_tokenizer(directory)(TEXTS, padding=True, return_tensors="np")
    return {name: encoded[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


def test_the_directory_has_the_new_rows(run, folder):
    directory, scores = run
    tensors = open_safetensors(directory / "model" / "adapter_model.safetensors")
    size = len(load_tokenizer(folder / "model")) + 4
    assert tensors[TABLE].shape[0] == size == len(load_tokenizer(directory / "model"))
    assert not any("new_" in name for name in tensors)
    assert json.loads((directory / "model/config.json").read_text())["vocab_size"] == size
    again = evaluate.main([str(directory), "--data.validation", str(folder / "dev.csv")])
    assert again["accuracy"] == pytest.approx(scores["eval/accuracy"])
    assert again["loss"] == pytest.approx(scores["eval/loss"], rel=1e-5)


def test_a_pipeline_opens_the_adapter(run):
    directory, _ = run
    logits = jaxft.forward(*jaxft.load(str(directory / "model")), inputs(directory / "model"))["logits"]
    for path in (directory, directory / "model"):
        found = jaxft.pipeline(path)(TEXTS, top_k=None)
        shares = [[{x["label"]: x["score"] for x in row}[label] for label in tiny.LABELS] for row in found]
        np.testing.assert_allclose(shares, softmax(logits, axis=-1), rtol=1e-5)


def test_a_merged_adapter_is_an_ordinary_model(run, tmp_path):
    directory, _ = run
    export.main([str(directory / "model"), "--merge", "--output", str(tmp_path / "merged")])
    given = inputs(directory / "model")
    adapted, merged = (
        jaxft.forward(*jaxft.load(str(x)), given)["logits"] for x in (directory / "model", tmp_path / "merged")
    )
    np.testing.assert_allclose(merged, adapted, rtol=0, atol=1e-5 * np.abs(adapted).max())


@pytest.mark.filterwarnings("ignore")  # PEFT and transformers warn of what they deprecate in each other
def test_peft_gives_the_same_logits(run, folder):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    directory, _ = run
    base = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=len(tiny.LABELS))
    base.resize_token_embeddings(len(load_tokenizer(directory / "model")))
    theirs = peft.PeftModel.from_pretrained(base, directory / "model").eval()
    given = inputs(directory / "model")
    with torch.no_grad():
        expected = theirs(**{name: torch.from_numpy(x) for name, x in given.items()}).logits.numpy()
    found = jaxft.forward(*jaxft.load(str(directory / "model")), given)["logits"]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
