"""Embeddings of `predict`: those of transformers' hidden states, in any batch; as jsonl and npy."""

from pathlib import Path

import numpy as np
import pytest

from jaxft import predict
from jaxft.data.tokens.tokenizer import load_tokenizer
from tests.support import read_jsonl, tiny

TEXTS = ["the river runs", "a bright lake .", "storm", "old stone and song under the bridge runs over the old sun"]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("features") / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("classifier") / "model", labels=tiny.LABELS)


def embedded(model: Path, source: Path, output: Path, *options: str) -> np.ndarray:
    predict.main([str(model), "--input", str(source), "--output", str(output), "--data.max_length", "32", *options])
    if output.suffix == ".npy":
        return np.load(output)
    rows = [row["embedding"] for row in read_jsonl(output)]
    return np.array(rows, object if None in rows else None)


def right(model: Path) -> dict[str, np.ndarray]:
    """The embeddings from transformers' outputs for single texts."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModel

    found: dict[str, list[np.ndarray]] = {"cls": [], "mean": [], "pooled": []}
    theirs, tokenizer = AutoModel.from_pretrained(model).eval(), load_tokenizer(model)
    for text in TEXTS:
        with torch.no_grad():
            outputs = theirs(**tokenizer([text], return_tensors="pt"))
        hidden = outputs.last_hidden_state[0].numpy()
        found["cls"].append(hidden[0])
        found["mean"].append(hidden.mean(0))
        found["pooled"].append(outputs.pooler_output[0].numpy())
    return {name: np.array(x) for name, x in found.items()}


def test_rows_without_a_text_have_no_embedding(tiny_model, tmp_path):
    (tmp_path / "in.txt").write_text(f"{TEXTS[0]}\n\n{TEXTS[2]}\n")
    assert np.isnan(embedded(tiny_model, tmp_path / "in.txt", tmp_path / "a.npy")).all(axis=1).tolist() == [
        False,
        True,
        False,
    ]
    rows = embedded(tiny_model, tmp_path / "in.txt", tmp_path / "a.jsonl")
    assert [row is None for row in rows] == [False, True, False]


def test_every_kind_of_embedding_is_transformers(tiny_model, source, tmp_path):
    expected = right(tiny_model)
    for name in ("cls", "mean", "pooled"):
        found = embedded(tiny_model, source, tmp_path / f"{name}.jsonl", "--features", name)
        assert found.shape == (len(TEXTS), tiny.CONFIG["hidden_size"])
        np.testing.assert_allclose(found, expected[name], atol=1e-5 * np.abs(expected[name]).max())
    plain = embedded(tiny_model, source, tmp_path / "plain.npy", "--eval.batch_size", "2")  # no head: the mean
    assert plain.dtype == np.float32
    np.testing.assert_allclose(plain, expected["mean"], atol=1e-5 * np.abs(expected["mean"]).max())


def test_a_model_with_a_head_gives_embeddings_on_request(classifier, source, tmp_path):
    expected = right(classifier)["cls"]
    found = embedded(classifier, source, tmp_path / "a.npy", "--features", "cls")
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_pooled_needs_a_pooler(fails, tmp_path, source):
    """A checkpoint without one would be given a random one."""
    from safetensors.numpy import load_file, save_file

    model = tiny.write_model(tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    save_file({name: x for name, x in tensors.items() if "pooler" not in name}, model / "model.safetensors")
    argv = [model, "--input", source, "--output", tmp_path / "o.jsonl", "--data.max_length", 32]
    fails("predict", [*argv, "--features", "pooled"], str(model), "no pooler", "cls or mean")
    assert not (tmp_path / "o.jsonl").exists()


def test_an_array_is_for_embeddings_only(fails, classifier, source, tmp_path):
    argv = [classifier, "--input", source, "--output", tmp_path / "o.npy", "--data.max_length", 32]
    fails("predict", argv, "o.npy", "--features cls, mean, pooled")
