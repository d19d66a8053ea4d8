"""Models that Hugging Face's Flax classes wrote (goldens/write_flax.py): jaxft loads them, computes and saves the same."""

from pathlib import Path

import numpy as np
import pytest
from flax import serialization

import jaxft
from jaxft.core.tree import flatten
from tests.support import ROOT, zoo

GOLDENS = ROOT / "tests/goldens"
NAMES = sorted(path.parent.name for path in GOLDENS.glob("*/expected.npz"))
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def msgpack(directory: Path) -> dict[tuple[str, ...], np.ndarray]:
    return flatten(serialization.msgpack_restore((directory / "flax_model.msgpack").read_bytes()))


def test_there_is_a_golden_of_every_family_of_flax():
    assert {name.split("_")[1] for name in NAMES} == {"bert", "roberta", "xlm", "distilbert", "albert", "electra"}


@pytest.mark.parametrize("name", NAMES)
def test_forward_gives_what_hugging_face_flax_gave(name):
    golden = dict(np.load(GOLDENS / name / "expected.npz"))
    inputs = {key: golden.pop(key) for key in INPUTS if key in golden}
    model, params = jaxft.load(str(GOLDENS / name))
    outputs = jaxft.forward(model, params, inputs)
    assert outputs.keys() - {"mean_output"} == golden.keys()
    mask = inputs["attention_mask"]
    for key, expected in golden.items():
        ours = outputs[key]
        assert ours.shape == expected.shape
        assert zoo.real(np.abs(ours - expected), mask).max() <= 1e-5 * np.abs(expected).max(), key
    assert model.report.new == model.report.unused == ()


@pytest.mark.parametrize("name", NAMES)
def test_save_writes_the_same_msgpack(name, tmp_path):
    jaxft.save(*jaxft.load(str(GOLDENS / name)), tmp_path, flax=True)
    ours, theirs = msgpack(tmp_path), msgpack(GOLDENS / name)
    assert ours.keys() == theirs.keys()
    for key, x in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (x.dtype, x.shape), key
        assert ours[key].tobytes() == x.tobytes(), key


@pytest.mark.parametrize("name", NAMES)
def test_both_formats_hold_the_same_model(name, tmp_path):
    model, params = jaxft.load(str(GOLDENS / name))
    jaxft.save(model, params, tmp_path)
    assert not (tmp_path / "flax_model.msgpack").exists()
    again = flatten(jaxft.load(str(tmp_path))[1])
    assert again.keys() == flatten(params).keys()
    for key, x in flatten(params).items():
        assert again[key].tobytes() == x.tobytes(), key


def test_labels_come_from_the_config():
    assert jaxft.load(str(GOLDENS / "flax_bert_classifier"))[0].labels == ["angry", "calm", "merry"]
