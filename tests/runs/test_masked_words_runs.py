"""Runs of fill-mask and pretraining: from scratch, evaluated, resumed, loaded by PyTorch, reused for other tasks."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxft
from jaxft import evaluate, predict, vocabulary
from jaxft.core.errors import UserError
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.run.setup import make_run
from jaxft.train import train
from tests.support import read_jsonl, running_text, tiny
from tests.support.resuming import assert_resumes_to_same_model

WEIGHTS = "model/model.safetensors"
SHORT = {
    "train": {"epochs": 6, "batch_size": 16},
    "optim": {"learning_rate": 3e-3},
    "checkpoint": {"every": 10, "keep": 2},
    "eval": {"every": 100},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    running_text.write(path / "train.txt", 120)
    running_text.write(path / "dev.txt", 30, seed=1)
    return path


@pytest.fixture(scope="module")
def start(folder):
    """The output of the vocabulary command for the corpus: a tokenizer and a config.json, no weights."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    sizes["max_position_embeddings"] = 64
    argv = ["--input", str(folder / "train.txt"), "--output", str(folder / "start"), "--size", "90"]
    vocabulary.main([*argv, *(str(x) for name, value in sizes.items() for x in (f"--{name}", value))])
    return folder / "start"


@pytest.fixture(scope="module", params=["fill-mask", pytest.param("pretraining", marks=pytest.mark.slow)])
def run(request, folder, start):
    """(task, run directory, config, scores) of a short run from scratch."""
    directory = folder / request.param
    config = running_text.configure(start, folder, directory, request.param, model={"from_scratch": True}, **SHORT)
    return request.param, directory, config, train(config)


def test_limits_count_examples_if_texts_are_joined(folder, start):
    """As in run_mlm: a txt file without empty lines is a single row."""
    limits = {"max_train_examples": 5, "max_eval_examples": 3}
    made = make_run(
        running_text.configure(start, folder, folder / "unused", "fill-mask", model={"from_scratch": True}, data=limits)
    )
    whole = make_run(running_text.configure(start, folder, folder / "unused", "fill-mask", model={"from_scratch": True}))
    for split, count in (("train", 5), ("validation", 3)):
        found, every = made.data[split].examples, whole.data[split].examples
        assert len(found) == count < len(every)
        assert found.tokens["input_ids"].tolist() == every.tokens["input_ids"][: every.offsets[count]].tolist()


def test_the_vocabulary_command_makes_a_tokenizer(folder, start, tmp_path):
    tokenizer = load_tokenizer(start)
    words = {word for line in (folder / "train.txt").read_text().split("\n") for word in line.split()}
    assert {*words, *vocabulary.SPECIAL} <= set(tokenizer.get_vocab())
    assert len(tokenizer) == json.loads((start / "config.json").read_text())["vocab_size"] <= 90
    assert tokenizer("The River")["input_ids"] == tokenizer("the river")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(range(5)) == vocabulary.SPECIAL
    argv = ["--input", str(folder / "train.txt"), str(folder / "dev.txt"), "--output", str(tmp_path), "--size"]
    files = []
    for _ in range(2):  # the same every time
        vocabulary.main([*argv, "50", "--cased"])
        files.append((tmp_path / "vocab.txt").read_bytes())
    assert files[0] == files[1]
    cased = load_tokenizer(tmp_path)
    assert len(cased) == 50
    assert cased.tokenize("The") != cased.tokenize("the")
    with pytest.raises(UserError, match=r"--size is 20, but there are \d+ special tokens and single characters: raise it"):
        vocabulary.main([*argv, "20"])
    with pytest.raises(UserError, match="hidden_size 33 is not a multiple of num_attention_heads 4"):
        vocabulary.main([*argv, "50", "--hidden_size", "33"])


def test_a_run_from_scratch_learns(run):
    task, directory, _, scores = run
    rows = read_jsonl(directory / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    size = json.loads((directory / "model/config.json").read_text())["vocab_size"]
    assert scores["eval/perplexity"] < 0.5 * size
    assert scores["eval/accuracy"] > 2 / size
    if task == "fill-mask":
        assert scores["eval/perplexity"] == pytest.approx(np.exp(scores["eval/loss"]), rel=1e-5)


def test_pytorch_loads_the_model_and_computes_the_same(run):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from tests.support.zoo_torch import from_pretrained

    task, directory, *_ = run
    kind = transformers.AutoModelForMaskedLM if task == "fill-mask" else transformers.AutoModelForPreTraining
    theirs = from_pretrained(kind, directory / "model")
    inputs = transformers.AutoTokenizer.from_pretrained(directory / "model")(["the [MASK] runs"], return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**inputs)
    found = jaxft.forward(*jaxft.load(str(directory / "model")), {name: x.numpy() for name, x in inputs.items()})
    for name, x in found.items():
        right = expected[name].numpy()
        assert np.abs(x - right).max() <= 1e-5 * np.abs(right).max()


def test_evaluate_gives_what_training_saw(run, folder):
    _, directory, _, scores = run
    again = evaluate.main([str(directory), "--data.validation", str(folder / "dev.txt")])
    for name, value in scores.items():
        assert again[name.removeprefix("eval/")] == pytest.approx(value, rel=1e-5)


def test_a_run_that_lost_its_end_resumes_exactly(run):
    """The last checkpoint, the model and the last rows are gone, as after a kill."""
    _, directory, config, scores = run
    assert len([path for path in (directory / "checkpoints").iterdir() if path.name.isdecimal()]) == 2
    assert assert_resumes_to_same_model(config, keep=1) == scores


def test_predict_fills_masks(run, tmp_path):
    task, directory, *_ = run
    texts = [{"text": "under bridge brightly a [MASK] the river", "other": "runs over old stone"}] * 3
    texts.append({"text": "old [MASK] and [MASK] bridge", "other": "brightly a sun"})
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    argv = [str(directory), "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    predict.main(argv)
    rows = read_jsonl(tmp_path / "out.jsonl")
    assert [len(row["masks"]) for row in rows] == [1, 1, 1, 2]
    assert rows[0] == rows[1] == rows[2]
    assert all(row.keys() == {"masks"} for row in rows)
    for mask in rows[3]["masks"]:
        scores = [word["score"] for word in mask]
        assert len(mask) == 20
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) <= 1 + 1e-4
    if task == "pretraining":
        predict.main([*argv, "--data.text_pair", "other"])
        rows = read_jsonl(tmp_path / "out.jsonl")
        assert all(row["label"] in ("next", "random") and 0.5 <= row["score"] <= 1 for row in rows)
    (tmp_path / "in.jsonl").write_text('{"text": "old [MASK]"}\n{"text": "no mask"}\n')
    predict.main(argv)
    rows = read_jsonl(tmp_path / "out.jsonl")
    assert [row["masks"] is None for row in rows] == [False, True]  # a row without masks keeps its position


def test_an_adapted_model_starts_a_classifier(run, tiny_data, tmp_path):
    """The second step of domain adaptation: the encoder is that of masked LM, the head is new."""
    _, directory, *_ = run
    config = tiny.run_config(directory / "model", tiny_data, tmp_path / "run", train={"epochs": 1}, data={"shapes": 1})
    opened = make_run(config)
    adapted = load_file(directory / WEIGHTS)
    mine = opened.params["encoder"]["embeddings"]["word_embeddings"]["embedding"]
    np.testing.assert_array_equal(mine, adapted["bert.embeddings.word_embeddings.weight"])
    assert opened.model.report is not None
    new = {name for name in opened.model.report.new if not name.startswith("heads.main.classifier.")}
    assert new <= {"encoder.pooler.dense.kernel", "encoder.pooler.dense.bias"}
    assert len(opened.task.labels or ()) == 3


def test_from_scratch_ignores_weights(tmp_path, folder):
    """The seed determines random weights, whatever the directory contains; other options act as usual."""
    tiny.write_model(tmp_path / "model")
    (tmp_path / "model/model.safetensors").write_bytes(b"nothing of the sort")
    runs = [
        make_run(
            running_text.configure(
                tmp_path / "model",
                folder,
                tmp_path / "run",
                "fill-mask",
                model={"from_scratch": True, "num_layers": 1},
                seed=seed,
            )
        )
        for seed in (0, 0, 1)
    ]
    words = [np.asarray(run.params["encoder"]["embeddings"]["word_embeddings"]["embedding"]) for run in runs]
    np.testing.assert_array_equal(words[0], words[1])
    assert not np.array_equal(words[0], words[2])
    assert runs[0].model.encoder.config.num_layers == 1
    assert words[0].std() == pytest.approx(tiny.CONFIG["initializer_range"], rel=0.1)


def test_a_student_learns_a_teachers_words(run, folder, tmp_path):
    """With soft labels alone the student approaches its teacher."""
    task, directory, *_ = run
    sections = {**SHORT, "train": {"epochs": 3, "batch_size": 16}, "model": {"from_scratch": True, **tiny.NO_DROPOUT}}
    sections["distill"] = {"teacher": str(directory / "model"), "alpha": 1.0, "temperature": 1.0}
    scores = train(running_text.configure(directory / "model", folder, tmp_path / "run", task, seed=5, **sections))
    size = json.loads((directory / "model/config.json").read_text())["vocab_size"]
    assert scores["eval/perplexity"] < 0.6 * size


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"task": {"mask_rate": 0.0}}, ["task.mask_rate is 0.0", "above 0 and below 1"]),
        ({"task": {"mask_rate": 1.0}}, ["task.mask_rate is 1.0", "above 0 and below 1"]),
        ({"task": {"sentence_order": True}}, ["task.sentence_order", "fill-mask has no such option"]),
        ({"data": {"max_length": 3}, "task": {"name": "pretraining"}}, ["data.max_length is 3", "at least 5"]),
        ({"eval": {"metric": "f1"}}, ["eval.metric is f1", "perplexity"]),
    ],
    ids=str,
)
def test_invalid_options_are_refused(folder, start, tmp_path, sections, words):
    name = sections.get("task", {}).get("name", "fill-mask")
    sections = {"model": {"from_scratch": True}, **sections}
    with pytest.raises(UserError) as error:
        make_run(running_text.configure(start, folder, tmp_path / "run", name, **sections))
    for word in words:
        assert word in str(error.value)


def test_a_tokenizer_without_a_mask_token_is_refused(folder, start, tmp_path):
    shutil.copytree(start, tmp_path / "start")
    settings = json.loads((tmp_path / "start/tokenizer_config.json").read_text()) | {"mask_token": None}
    (tmp_path / "start/tokenizer_config.json").write_text(json.dumps(settings))
    config = running_text.configure(tmp_path / "start", folder, tmp_path / "run", "fill-mask", model={"from_scratch": True})
    with pytest.raises(UserError, match=r"start: the tokenizer has no mask token, which fill-mask needs"):
        make_run(config)


def test_pretraining_needs_two_documents_and_a_head(folder, start, tmp_path):
    one = running_text.write(tmp_path / "one.txt", 1)
    data = {"train": str(one), "validation": None}
    config = running_text.configure(start, folder, tmp_path / "run", "pretraining", model={"from_scratch": True}, data=data)
    with pytest.raises(UserError, match=r"one\.txt: next sentence needs two documents or more, but there is 1"):
        make_run(config)
    electra = json.loads((start / "config.json").read_text()) | {"model_type": "electra"}
    (tmp_path / "electra").mkdir()
    (tmp_path / "electra/config.json").write_text(json.dumps(electra))
    with pytest.raises(UserError, match=r"for albert and bert; an encoder of type electra needs task\.name fill-mask"):
        make_run(running_text.configure(tmp_path / "electra", folder, tmp_path / "run", "pretraining"))
