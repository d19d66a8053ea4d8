"""Every family trains from a small random start on real sentences, and PyTorch computes the same with the saved model."""
# ruff: noqa: E402

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxft.core import random_keys

torch = pytest.importorskip("torch")

from transformers import AutoModelForSequenceClassification, AutoTokenizer

import jaxft
from jaxft.models.families import FAMILIES
from jaxft.models.model import make_model
from jaxft.train import train
from tests.support import read_jsonl, tiny, vocabularies
from tests.support.zoo_torch import from_pretrained

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 80,
    "initializer_range": 0.05,
    "pad_token_id": 0,
}
OWN = {
    "albert": {"embedding_size": 32, "hidden_act": "gelu", "num_hidden_groups": 1},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "conv_kernel_size": 3,
    },
    "distilbert": {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96},
    "electra": {"embedding_size": 32},
    "modernbert": {"local_attention": 8, "num_hidden_layers": 3},
}
WORDPIECE = {"bert": "bert-base-uncased", "distilbert": "bert-base-uncased", "electra": "bert-base-cased"}


def write(family: str, directory: Path, shared: Path, texts: list[str]) -> Path:
    """An untrained model of a family, with the family's kind of tokenizer."""
    directory.mkdir()
    if name := WORDPIECE.get(family):
        vocabularies.wordpiece(directory, shared / "vocab" / name, lower=name.endswith("uncased"))
    elif family in ("roberta", "modernbert"):
        vocabularies.byte_level(directory, shared / "vocab" / "roberta-base", one_file=family == "modernbert")
    else:
        vocabularies.sentencepiece(directory, texts)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    config = {"model_type": family, **SMALL, **OWN.get(family, {})}
    config |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    model = make_model(config, "feature-extraction", "here")
    jaxft.save(model, jax.device_get(jax.jit(model.init)(random_keys.root_key(0))), directory)
    return directory


@pytest.fixture(scope="module")
def sst2(shared_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sst2")
    lines = (shared_data / "glue/SST-2/train.tsv").read_text(encoding="utf-8").splitlines()
    (folder / "train.tsv").write_text("\n".join([lines[0], *lines[1:16000:20]]), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_and_is_read_by_pytorch(family, sst2, shared_data, tmp_path):
    texts = [line.split("\t")[0] for line in (sst2 / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    start = write(family, tmp_path / "start", shared_data, texts)
    run = tmp_path / "run"
    config = tiny.run_config(
        start,
        sst2,
        run,
        data={"train": str(sst2 / "train.tsv"), "validation": None, "text": "sentence", "max_length": 64},
        optim={"learning_rate": 2e-3},
        train={"epochs": 5, "batch_size": 32},
        log={"every": 25},
        model={"path": str(start), "dropout": 0, "attention_dropout": 0, "classifier_dropout": 0},
    )
    train(config)
    rows = read_jsonl(run / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[0] > 0.6
    assert losses[-1] < 0.8 * losses[0]
    for path in start.iterdir():  # the tokenizer is unchanged
        if path.name not in ("config.json", "model.safetensors"):
            assert (run / "model" / path.name).read_bytes() == path.read_bytes()

    theirs = from_pretrained(AutoModelForSequenceClassification, run / "model")
    inputs = AutoTokenizer.from_pretrained(run / "model")(texts[:24], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**inputs).logits.numpy()
    found = jaxft.forward(*jaxft.load(str(run / "model")), {name: x.numpy() for name, x in inputs.items()})["logits"]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert len(set(found.argmax(-1))) == 2
