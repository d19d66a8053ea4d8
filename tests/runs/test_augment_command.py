"""jaxft augment: the file holds the rows and their copies, and a run reads it."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest

from jaxft import augment
from jaxft.core.errors import UserError
from jaxft.run.setup import make_run
from tests.support import questions, read_jsonl, tagged, tiny
from tests.support.steps import configure

SWAP = '[{"step": "swap", "rate": 0.4}]'


@pytest.fixture(scope="module")
def plain_data(tmp_path_factory):
    """60 rows of different words that are one token each."""
    rng, words = random.Random(0), [word for word in tiny.WORDS if word.isalpha()]
    folder = tmp_path_factory.mktemp("plain")
    lines = [f"{' '.join(rng.sample(words, rng.randint(2, 9)))},{rng.choice(tiny.LABELS)}" for _ in range(60)]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines]))
    return folder


def write(model, output, steps: str = SWAP, *more: str, **options) -> list[dict]:
    arguments = [f"--{name.replace('__', '.')}={value}" for name, value in options.items()]
    augment.main([f"--model.path={model}", f"--output={output}", f"--augment.steps={steps}", *arguments, *more])
    return read_jsonl(output) if str(output).endswith(".jsonl") else []


def test_rows_come_first_and_copies_keep_their_labels(tiny_model, plain_data, tmp_path, capfd):
    found = write(tiny_model, tmp_path / "a.jsonl", SWAP, "--copies=3", data__train=plain_data / "train.csv")
    given, copies = found[:60], found[60:]
    assert all(set(row) == {"text", "label"} for row in found)
    labels = {tuple(sorted(row["text"].split())): row["label"] for row in given}
    assert all(labels[tuple(sorted(row["text"].split()))] == row["label"] for row in copies)
    texts = {row["text"] for row in given}
    assert 120 < len(copies) < 180
    assert not any(row["text"] in texts for row in copies)
    said = capfd.readouterr().err
    assert (
        f"augmentation: {len(copies)} of 180 copies edited, the others left out ({180 - len(copies)}: nothing to edit)"
        in said
    )
    assert f"wrote {len(found)} examples, 60 of them as they were" in said


def test_a_copy_is_what_an_epoch_trains_on(tiny_model, plain_data, tmp_path):
    found = write(tiny_model, tmp_path / "a.jsonl", SWAP, "--copies=2", data__train=plain_data / "train.csv")
    steps = {"steps": json.loads(SWAP), "share": 1}
    run = make_run(configure(tiny_model, plain_data, tmp_path / "run", augment=steps))
    examples = [run.epochs.augmentation.epoch(n).examples for n in (0, 1)]
    trained = [
        " ".join(tiny.VOCABULARY[i] for i in x.tokens["input_ids"][first + 1 : last - 1])
        for x in examples
        for first, last in pairwise(x.offsets)
    ]
    given = [row["text"] for row in found[:60]]
    assert [text for text, old in zip(trained, given * 2, strict=True) if text != old] == [row["text"] for row in found[60:]]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_run_reads_tagged_copies(tiny_model, tmp_path, kind):
    folder, output = tagged.write_files(tmp_path), tmp_path / f"train.{kind}"
    steps = '[{"step": "replace_mentions", "rate": 1}, {"step": "delete"}]'
    options = {"task__name": "token-classification", "data__train": folder / "train.conll", "data__max_length": 16}
    write(tiny_model, output, steps, **options)
    columns = {"train": str(output), "text": "text", "label": "label"}
    run = make_run(tagged.configure(tiny_model, folder, tmp_path / "run", data=columns))
    assert 60 < len(run.data["train"].rows) <= 78
    assert set(run.task.names) == set(tagged.LABELS)


def test_a_run_reads_copies_of_questions(tmp_path):
    model = questions.write_model(tmp_path / "model")
    rows = questions.make(30, 0)
    for name in ("train", "dev"):
        questions.write(tmp_path / f"{name}.json", rows)
    output = tmp_path / "copies.jsonl"
    options = {"task__name": "question-answering", "data__train": tmp_path / "train.json", "data__max_length": 32}
    found = write(model, output, SWAP, "--copies=2", **options)
    assert len({row["id"] for row in found}) == len(found) > 70
    for row in found:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"].startswith(text, start)
    run = make_run(questions.configure(model, tmp_path, tmp_path / "run", data={"train": str(output)}))
    assert len(run.data["train"].rows) == len(found)


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory):
    """The tiny BERT with a masked LM head."""
    import jaxft
    from jaxft.models.model import make_model

    directory = tmp_path_factory.mktemp("mlm") / "model"
    config = tiny.CONFIG | {"architectures": ["BertForMaskedLM"]}
    model = make_model(config, "fill-mask", "tiny")
    jaxft.save(model, tiny.random_params(model), directory)
    tiny.write_tokenizer(directory)
    return directory


def test_a_masked_lm_proposes_words(masked_lm, plain_data, tmp_path):
    steps = (
        '[{"step": "replace", "source": "masked_lm", "rate": 0.3}, {"step": "insert", "source": "masked_lm", "rate": 0.1}]'
    )
    options = {"data__train": plain_data / "train.csv", "data__max_length": 32}
    found = write(masked_lm, tmp_path / "a.jsonl", steps, **options)
    again = write(masked_lm, tmp_path / "b.jsonl", steps, **options)
    assert found == again
    given, copies = found[:60], found[60:]
    assert len(copies) > 50
    assert not any("[MASK]" in row["text"] for row in copies)
    known = {word for word in tiny.VOCABULARY if word.isalpha()}
    assert all(set(row["text"].replace(".", "").split()) <= known for row in copies)
    words = Counter(len(row["text"].split()) for row in copies)
    assert words != Counter(len(row["text"].split()) for row in given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--augment.steps=[]"], ["augment.steps is empty"]),
        ([f"--augment.steps={SWAP}", "--copies=0"], ["--copies is 0", "at least 1"]),
        (['--augment.steps=[{"step": "mask_pieces"}]'], ["mask_pieces", "a file has texts"]),
        (
            ['--augment.steps=[{"step": "replace", "source": "masked_lm"}]'],
            ["is a feature-extraction model", "masked LM head"],
        ),
        ([f"--augment.steps={SWAP}", "--output=x.csv"], ["x.csv", ".jsonl or .parquet"]),
    ],
    ids=str,
)
def test_bad_options(fails, tiny_model, plain_data, tmp_path, arguments, words):
    output = [] if any(x.startswith("--output") for x in arguments) else [f"--output={tmp_path / 'a.jsonl'}"]
    fails("augment", [f"--model.path={tiny_model}", f"--data.train={plain_data / 'train.csv'}", *output, *arguments], *words)
    assert not (tmp_path / "a.jsonl").exists()


def test_the_data_is_not_overwritten(tiny_model, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a river", "label": "calm"}\n{"text": "a storm", "label": "angry"}\n')
    with pytest.raises(UserError, match="is an input file"):
        write(tiny_model, path, data__train=path)
