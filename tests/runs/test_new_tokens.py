"""Runs with new words: what is trained and what is not; layouts and devices; resumed, evaluated, loaded by PyTorch."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxft
from jaxft import evaluate, export, plan, predict
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models.model import make_model
from jaxft.models.vocab_resize import join_rows, split_rows
from jaxft.param_plan import make_plan
from jaxft.run import rundir
from jaxft.run.setup import make_run
from jaxft.tasks.masked_lm import MaskedLM
from jaxft.train import train
from tests.support import new_words, running_text, tiny, vocabularies
from tests.support.steps import TOLERANCE, assert_same, gradients, rearranged

WEIGHTS = "model/model.safetensors"
TABLE = "bert.embeddings.word_embeddings.weight"
BIAS = "cls.predictions.bias"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return new_words.write(tmp_path_factory.mktemp("text"))


def masked(folder: Path, output: Path, **sections):
    sections = {
        "model": tiny.NO_DROPOUT,
        "vocabulary": {"most_frequent": 4},
        "plan": {"preset": "new_tokens"},
        "train": {"epochs": 2, "batch_size": 16},
        "optim": {"learning_rate": 1e-2, "weight_decay": 0.1},
        "eval": {"every": 100},
        "checkpoint": {"every": 4},
        **sections,
    }
    return running_text.configure(folder / "model", folder, output, "fill-mask", **sections)


@pytest.fixture(scope="module")
def finished(folder):
    """(run directory, config, scores) of a run of masked LM that trains the new rows and the head."""
    config = masked(folder, folder / "run")
    return folder / "run", config, train(config)


def test_only_the_new_rows_and_the_head_move(finished, folder):
    directory, *_ = finished
    before, after = load_file(folder / "model/model.safetensors"), load_file(directory / WEIGHTS)
    old = len(before[TABLE])
    tokenizer = load_tokenizer(directory / "model")
    assert sorted(tokenizer.convert_ids_to_tokens(range(old, len(tokenizer)))) == sorted(new_words.WORDS)
    assert len(after[TABLE]) == len(after[BIAS]) == old + 4
    start = join_rows(make_run(masked(folder, folder / "elsewhere")).params)
    first = start["encoder"]["embeddings"]["word_embeddings"]["embedding"]
    for name in before:
        if name in (TABLE, BIAS):
            np.testing.assert_array_equal(after[name][:old], before[name])
        elif name.startswith("cls."):
            assert not np.array_equal(after[name], before[name])
        elif name in after:
            np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert (np.abs(after[TABLE][old:] - first[old:]).max(axis=1) > 1e-3).all()
    assert (after[BIAS][old:] != start["heads"]["main"]["decoder"]["bias"][old:]).all()
    assert json.loads((directory / "model/config.json").read_text())["vocab_size"] == old + 4


def test_pytorch_loads_the_model_and_its_tokenizer(finished):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tests.support.zoo_torch import from_pretrained

    directory = finished[0] / "model"
    theirs = from_pretrained(transformers.AutoModelForMaskedLM, directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(["the river [MASK] over", "brightly a sun"], return_tensors="pt", padding=True)
    assert theirs.config.vocab_size == len(tokenizer) > inputs["input_ids"].max() >= len(tokenizer) - 4
    with torch.no_grad():
        expected = theirs(**inputs).logits.numpy()
    found = jaxft.forward(*jaxft.load(str(directory)), {name: x.numpy() for name, x in inputs.items()})["logits"]
    real = inputs["attention_mask"].numpy() == 1
    assert np.abs(found - expected)[real].max() <= 1e-5 * np.abs(expected).max()


def test_evaluate_and_predict_use_the_new_words(finished, folder, tmp_path):
    directory, _, scores = finished
    again = evaluate.main([str(directory), "--data.validation", str(folder / "dev.txt")])
    for name, value in scores.items():
        assert again[name.removeprefix("eval/")] == pytest.approx(value, rel=1e-5)
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "the [MASK] runs over brightly"}))
    predict.main([str(directory), "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")])
    (best,) = json.loads((tmp_path / "out.jsonl").read_text())["masks"]
    assert "river" in [word["token_str"] for word in best]


def test_a_run_that_lost_its_end_resumes_exactly(finished, tmp_path, monkeypatch):
    """Also in another directory, and without counting words again."""
    monkeypatch.delattr("jaxft.run.run_tokenizer._most_frequent")
    directory, config, scores = finished
    shutil.copytree(directory, tmp_path / "moved")
    steps = sorted(int(p.name) for p in (tmp_path / "moved/checkpoints").iterdir() if p.name.isdecimal())
    shutil.rmtree(tmp_path / "moved/checkpoints" / str(steps[-1]))
    shutil.rmtree(tmp_path / "moved/model")
    moved = replace(config, output_dir=str(tmp_path / "moved"))
    assert make_run(moved).own_tokenizer == tmp_path / "moved/tokenizer"
    assert train(moved) == scores
    for name in (WEIGHTS, "model/tokenizer.json", "model/config.json"):
        assert (tmp_path / "moved" / name).read_bytes() == (directory / name).read_bytes()
    export.main([str(tmp_path / "moved"), "--output", str(tmp_path / "out")])
    assert (tmp_path / "out/model.safetensors").read_bytes() == (directory / WEIGHTS).read_bytes()
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (directory / "model/tokenizer.json").read_bytes()
    with pytest.raises(UserError, match=r"holds another run, which differs in vocabulary.most_frequent \(4 there, 5 here"):
        train(replace(moved, vocabulary=replace(moved.vocabulary, most_frequent=5)))


def test_an_interrupted_claim_is_made_again(finished, tmp_path):
    directory, config, _ = finished
    config = replace(config, output_dir=str(tmp_path / "run"))
    for written in ([".tokenizer"], [".tokenizer", ".config.yaml"], ["tokenizer", ".config.yaml"]):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "run" / written[0]).mkdir(parents=True)
        (tmp_path / "run" / written[0] / "added_tokens.json").write_text("half")
        if written[1:]:
            (tmp_path / "run/.config.yaml").write_text("half")
        assert not rundir.check_claim(config)
        assert rundir.recorded_tokenizer(config) is None
        rundir.claim(config, {}, directory / "tokenizer")
        names = {path.name for path in (tmp_path / "run").iterdir()}
        assert names == {"checksums.json", "config.yaml", "tokenizer", "inputs.json"}
    assert rundir.check_claim(config)
    assert rundir.recorded_tokenizer(config) == tmp_path / "run/tokenizer"
    assert not (tmp_path / "run/tokenizer/added_tokens.json").exists()
    vocabulary = tmp_path / "run/tokenizer/tokenizer.json"
    vocabulary.write_text(vocabulary.read_text().replace("river", "liver"))
    with pytest.raises(
        UserError, match=r"run/tokenizer/tokenizer\.json has other content than was written: put back a copy"
    ):
        rundir.recorded_tokenizer(config)
    (tmp_path / "other/tokenizer").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds files but no config\.yaml"):  # somebody else's
        rundir.check_claim(replace(config, output_dir=str(tmp_path / "other")))


@pytest.fixture(scope="module")
def classifier(folder):
    """A run of text classification that trains everything but the old rows of words."""
    sections = {
        "model": tiny.NO_DROPOUT,
        "data": {"validation": None},
        "vocabulary": {"words": new_words.WORDS},
        "plan": {"preset": ["new_tokens", "full"]},
    }
    return make_run(tiny.run_config(folder / "model", folder, folder / "classifier", **sections))


@pytest.fixture(scope="module")
def reference(classifier):
    return gradients(rearranged(classifier, "pad"))


@pytest.mark.parametrize("layout", [{}, {"data": 4, "fsdp": 2, "micro_batches": 2}], ids=str)
def test_gradients_do_not_depend_on_the_layout(classifier, reference, layout):
    assert all("word_embeddings.embedding" not in name for _, grads in reference for name in grads)
    assert_same(rearranged(classifier, **layout), reference)


def test_gradients_are_those_of_one_table(classifier, reference):
    """Splitting the table changes no gradient: new rows have the same as in a single table."""
    params = join_rows(classifier.params)
    model = replace(
        classifier.model,
        encoder=replace(classifier.model.encoder, config=replace(classifier.model.encoder.config, new_words=0)),
    )
    config = replace(classifier.config.plan, preset="full")
    whole = replace(classifier, model=model, params=params, plan=make_plan(config, params, 1))
    name = "encoder.embeddings.word_embeddings"
    for (loss, grads), (right_loss, right) in zip(reference, gradients(rearranged(whole, "pad")), strict=True):
        assert loss == pytest.approx(right_loss, rel=TOLERANCE)
        right[f"{name}.new_embedding"] = right.pop(f"{name}.embedding")[-4:]
        assert grads.keys() == right.keys()
        largest = max(np.abs(g).max() for g in right.values())
        for key, g in grads.items():
            assert np.abs(g - right[key]).max() <= TOLERANCE * largest, key
        assert np.abs(right[f"{name}.new_embedding"]).max() > 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_scores_of_words_are_those_of_one_table(folder, tied):
    config = tiny.CONFIG | {"tie_word_embeddings": tied, "num_hidden_layers": 1}
    model = make_model(config, "fill-mask", "tiny")
    params = tiny.random_params(model)
    inputs = {"input_ids": np.arange(41)[None]}
    expected = jaxft.forward(model, params, inputs)["logits"]
    found = jaxft.forward(*split_rows(model, params, 5), inputs)["logits"]
    assert found.shape == expected.shape == (1, 41, 41)
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_new_tokens_combines_with_other_presets(folder, tmp_path):
    """Each trains its own parameters; with new_tokens the old rows stay frozen, whatever the others train."""

    def trained(**options) -> set[str]:
        run = make_run(masked(folder, tmp_path / "run", plan=options))
        return {name for name, setting in run.plan.settings.items() if setting.trainable}

    everything = set(tree.all_names(make_run(masked(folder, tmp_path / "run", plan={"preset": "new_tokens"})).params))
    old = "encoder.embeddings.word_embeddings.embedding"
    new = {"encoder.embeddings.word_embeddings.new_embedding", "heads.main.decoder.new_bias"}
    assert new < everything
    heads = {name for name in everything if name.startswith("heads.")}
    assert trained(preset="new_tokens") == new | heads - {"heads.main.decoder.bias"}
    assert trained(preset=["new_tokens", "full"]) == everything - {old}
    assert trained(preset=["last_n", "new_tokens"], n=0) == new | heads
    whole = make_run(masked(folder, tmp_path / "run", plan={"preset": "full"}))
    assert whole.params["encoder"]["embeddings"]["word_embeddings"].keys() == {"embedding"}
    assert len(whole.params["heads"]["main"]["decoder"]["bias"]) == len(whole.tokenizer)


def test_a_run_may_replace_the_vocabulary(folder, tmp_path):
    vocabularies.unigram(tmp_path, ["the", "river", "runs", "over"])
    sections = {"vocabulary": {"tokenizer": str(tmp_path)}, "plan": {"preset": "full"}, "train": {"max_steps": 1}}
    run = make_run(masked(folder, tmp_path / "run", **sections))
    size = len(load_tokenizer(tmp_path))
    kept = [word for word in ("the", "runs", "over") if word in load_tokenizer(folder / "model").get_vocab()]
    assert len(kept) == 3
    assert run.model.hf_config["vocab_size"] == len(run.tokenizer) == size
    assert run.notes[0].endswith("are new (mean)")
    assert run.notes[0] in plan.summary(run)
    assert max(run.data["train"].examples.tokens["input_ids"]) < size
    with pytest.raises(UserError, match=r"plan\.preset new_tokens: the new words do not stand behind the old ones"):
        make_run(masked(folder, tmp_path / "run", vocabulary={"tokenizer": str(tmp_path)}))


def test_a_masked_word_may_be_replaced_by_a_new_one(finished):
    """One masked word in ten is replaced by a random one of all words, new ones included."""
    task = make_run(finished[1]).task
    assert isinstance(task, MaskedLM)
    size = len(load_tokenizer(finished[0] / "model"))
    drawn = np.asarray(task.masking._any_word(np.arange(4 * size, dtype=np.uint32)))
    assert set(range(size - 4, size)) < set(drawn) < set(range(size))


def test_from_scratch_all_rows_are_random(folder, tmp_path):
    config = masked(folder, tmp_path / "run", model={"from_scratch": True}, plan={"preset": "full"})
    run = make_run(config)
    table = run.params["encoder"]["embeddings"]["word_embeddings"]["embedding"]
    assert len(table) == len(run.tokenizer)
    assert table[-4:].std() == pytest.approx(tiny.CONFIG["initializer_range"], rel=0.3)
    assert run.notes[0].endswith("4 are new (random)")


def test_a_plan_without_new_words_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"plan\.preset new_tokens: there are none; give vocabulary\.words"):
        make_run(masked(folder, tmp_path / "run", vocabulary={}))


def test_a_teacher_of_tokens_must_know_the_words(folder, tmp_path):
    """A teacher of whole texts need not: it divides them into its own tokens."""
    sections = {"vocabulary": {"words": ["quark", "gluon"]}, "distill": {"teacher": str(folder / "model")}}
    with pytest.raises(UserError, match=r"does not know the words that were added \(quark, gluon\)"):
        make_run(masked(folder, tmp_path / "run", **sections))
