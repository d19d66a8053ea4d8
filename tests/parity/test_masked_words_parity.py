"""Masked LM and pretraining as in PyTorch: loss and gradients at given masks, and predictions."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

import dataclasses

import jax
import numpy as np
import pytest

from jaxft.core import random_keys

torch = pytest.importorskip("torch")

import transformers
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer, pipeline

import jaxft
from jaxft import predict
from jaxft.config import Config
from jaxft.core import tree
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.run.loss import make_loss
from jaxft.step.parameters import Parameters
from jaxft.tasks import TASKS
from tests.support import read_jsonl, tiny, zoo_torch

ROWS, LENGTH = 6, 20
CONFIG = tiny.CONFIG | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_hidden_layers": 1}


def hf_model(family: str, kind: str, directory):
    """A random model of Hugging Face with every parameter away from zero, in a directory with the tiny tokenizer."""
    values = {k: v for k, v in CONFIG.items() if k not in ("model_type", "architectures")}
    if family == "albert":
        values |= {"embedding_size": 16, "classifier_dropout_prob": 0.0}
    config = getattr(transformers, f"{family.capitalize()}Config")(**values, attn_implementation="eager")
    torch.manual_seed(0)
    model = {"fill-mask": AutoModelForMaskedLM, "pretraining": AutoModelForPreTraining}[kind].from_config(config).eval()
    zoo_torch.add_noise(model)
    model.save_pretrained(directory)
    tiny.write_tokenizer(directory)
    return model


def padded(lengths: np.ndarray) -> dict[str, np.ndarray]:
    """One example per row, two segments each; no id is that of padding, whose row PyTorch never trains."""
    rng = np.random.default_rng(0)
    place = np.arange(LENGTH)[None]
    real = place < lengths[:, None]
    word = real & (place > 0) & (place < lengths[:, None] - 1)
    batch = {
        "input_ids": np.where(word, rng.integers(5, len(tiny.VOCABULARY), real.shape), 2 * real),
        "token_type_ids": (place >= 4) * real,
        "segment_ids": real,
        "position_ids": place * real,
        "words": np.where(word, place + 1, 0),
        "first_token": np.zeros((ROWS, 1)),
        "example": np.arange(ROWS)[:, None],
        "labels": rng.integers(0, 2, (ROWS, 1)),
    }
    batch = {name: x[None].astype(np.int32) for name, x in batch.items()}
    return batch | {"weights": np.ones((1, ROWS, 1), np.float32)}


@pytest.mark.parametrize(("family", "kind"), [("bert", "fill-mask"), ("bert", "pretraining"), ("albert", "pretraining")])
def test_loss_and_gradients_at_given_masks(family, kind, tmp_path):
    theirs = hf_model(family, kind, tmp_path)
    model, params = jaxft.load(str(tmp_path))
    config = Config(task=dataclasses.replace(Config().task, name=kind, mask_rate=0.3))
    task = TASKS[kind].learn(config, model.hf_config, None, "here").with_tokenizer(load_tokenizer(tmp_path), tmp_path)
    batch = jax.jit(task.prepare)(padded(np.array([20, 9, 14, 20, 7, 12])), random_keys.root_key(0))
    batch = {name: np.asarray(x)[0] for name, x in batch.items()}

    def mean(p):
        (total, weight), _ = make_loss(model, task)(Parameters(p), batch, None, {})
        return total / weight

    loss, grads = jax.value_and_grad(mean)(params)
    labels = np.full((ROWS, LENGTH), -100)
    row, place = np.nonzero(batch["token_weights"])
    labels[row, batch["token_positions"][row, place]] = batch["targets"][row, place]
    assert 10 < (labels >= 0).sum() < 40
    inputs = {
        "input_ids": batch["input_ids"],
        "token_type_ids": batch["token_type_ids"],
        "attention_mask": batch["segment_ids"],
        "labels": labels,
    }
    if kind == "pretraining":
        second = "next_sentence_label" if family == "bert" else "sentence_order_label"
        inputs[second] = batch["labels"][:, 0]
    expected = theirs(**{name: torch.tensor(np.asarray(x, np.int64)) for name, x in inputs.items()}).loss
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    right = {name: x.grad.numpy() for name, x in theirs.named_parameters() if x.grad is not None}
    largest = max(np.abs(g).max() for g in right.values())
    seen = set()
    for ours, g in tree.unstack(jax.tree.map(np.asarray, grads)).items():
        name = model.naming.hf_name(ours)
        assert np.abs((g.T if ours.endswith(".kernel") else g) - right[name]).max() <= 1e-5 * largest, name
        seen.add(name)
    assert seen == right.keys()


def test_predictions_are_those_of_the_pipeline(tmp_path):
    model = hf_model("bert", "fill-mask", tmp_path / "model")
    texts = ["the [MASK] runs over the bridge", "a [MASK] stone and [MASK] sun .", "[MASK]"]
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n")
    argv = [str(tmp_path / "model"), "--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.jsonl")]
    predict.main([*argv, "--data.max_length", "40"])
    rows = read_jsonl(tmp_path / "out.jsonl")
    fill = pipeline("fill-mask", model=model, tokenizer=AutoTokenizer.from_pretrained(tmp_path / "model"), top_k=20)
    for row, text in zip(rows, texts, strict=True):
        theirs = fill(text)
        theirs = theirs if isinstance(theirs[0], list) else [theirs]
        assert len(row["masks"]) == text.count("[MASK]")
        for ours, right in zip(row["masks"], theirs, strict=True):
            assert [x["token"] for x in ours] == [x["token"] for x in right]
            assert [x["token_str"] for x in ours] == [x["token_str"] for x in right]
            assert [x["score"] for x in ours] == pytest.approx([x["score"] for x in right], abs=2e-6)
