"""Scores of words by gradient times input, compared with PyTorch's automatic differentiation."""

import numpy as np
import pytest

from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.evaluation.word_scores import word_scores
from jaxft.report.__main__ import main
from jaxft.report.run_files import read_run
from tests.support import tiny

TEXTS = ["the old  river runs over the brightly bridge.", "a song", "sun storm lake and stone under the bridge . the"]


def rows() -> list[dict]:
    return [{"text": text, "gold": "calm", "prediction": "merry" if i else "angry"} for i, text in enumerate(TEXTS)]


def config(max_length: int = 10, **data):
    data |= {"train": "a.csv", "max_length": max_length}
    return cli.parse({"data": data, "model": {"path": "m"}}, [], origin="t")


def test_scores_are_those_of_pytorch(classifier):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tests.support.zoo_torch import from_pretrained

    found = word_scores(str(classifier), config(), rows())
    assert ["".join(word for word, _ in words) for (words,) in found] == TEXTS
    model, tokenizer = (
        from_pretrained(AutoModelForSequenceClassification, classifier),
        AutoTokenizer.from_pretrained(classifier),
    )
    for (words,), row in zip(found, rows(), strict=True):
        inputs = tokenizer(row["text"], return_tensors="pt", truncation=True, max_length=10)
        size = torch.ones(inputs["input_ids"].shape[1], requires_grad=True)
        hook = model.bert.embeddings.register_forward_hook(lambda _, __, x, size=size: x * size[None, :, None])
        logits = model(**inputs).logits[0]
        hook.remove()
        (logits[tiny.LABELS.index(row["prediction"])] - logits[tiny.LABELS.index("calm")]).backward()
        expected = np.zeros(len(words))
        ends = np.cumsum([len(word) for word, _ in words])
        for token, score in enumerate(size.grad.tolist()):
            span = inputs.token_to_chars(0, token)
            if span is not None:
                expected[np.searchsorted(ends, span.start, side="right")] += score
        np.testing.assert_allclose([score for _, score in words], expected, atol=1e-6)
        assert np.abs(expected).max() > 1e-4


def test_a_report_colours_the_words(finished, tmp_path):
    run = read_run(finished)
    wrong = [row for row in run.predictions("validation") if row["gold"] != row["prediction"]]
    assert wrong
    main([str(finished), "--words", "--output", str(tmp_path / "words.html")])
    text = (tmp_path / "words.html").read_text()
    assert 'class="word ' in text
    assert 'class="word ' not in (finished / "report.html").read_text()


TEXT, OTHER = "the old river runs over a stone .", "sun storm lake"
LONG = " ".join([*["the river"] * 21, "sun runs over old stone"])
# By case: kind of head, number of labels, a row, and what grows with its mistake, of (logits of examples, of tokens ...).
CASES = {
    "labels": (
        *("text-classification", {"text": TEXT, "gold": ["calm", "merry"], "prediction": ["angry", "merry"]}),
        *([(TEXT,)], lambda out: out.logits[0, 0] - out.logits[0, 1]),
    ),
    "numbers": (
        *("text-classification", {"text": TEXT, "gold": {"a": 1, "b": 2, "c": 0}, "prediction": {"a": 2, "b": -1, "c": 0}}),
        *([(TEXT,)], lambda out: out.logits[0, 0] - out.logits[0, 1]),
    ),
    "pairs": (
        *("text-classification", {"text": TEXT, "other": OTHER, "gold": "merry", "prediction": "calm"}),
        *([(TEXT, OTHER)], lambda out: out.logits[0, 1] - out.logits[0, 2]),
    ),
    "tags": (
        "token-classification",
        {"words": TEXT.split(), "gold": ["calm"] * 8, "prediction": ["calm", "merry", *["calm"] * 5, "angry"]},
        [(TEXT,)],
        lambda out: out.logits[0, 2, 2] - out.logits[0, 2, 1] + out.logits[0, 8, 0] - out.logits[0, 8, 1],
    ),
    "answer": (
        *("question-answering", {"question": OTHER, "context": TEXT, "gold": ["over a", "a"]}),
        {"prediction": "old", "start": TEXT.index("old")},
        [(OTHER, TEXT)],
        lambda out: out.start_logits[0, 6] + out.end_logits[0, 6] - out.start_logits[0, 9] - out.end_logits[0, 10],
    ),
    "no answer": (
        *("question-answering", {"question": OTHER, "context": TEXT, "gold": ["over a"]}, {"prediction": "", "start": None}),
        [(OTHER, TEXT)],
        lambda out: out.start_logits[0, 0] + out.end_logits[0, 0] - out.start_logits[0, 9] - out.end_logits[0, 10],
    ),
    "choice": (
        "multiple-choice",
        {"text": TEXT, "one": "sun", "two": OTHER, "three": "a", "gold": 2, "prediction": 1},
        [(TEXT, OTHER), (TEXT, "a")],
        lambda out: out.logits[0, 0] - out.logits[0, 1],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes_of_every_task_are_weighed(tmp_path, case):
    """All words are one token, so that the scores of words are those of tokens that are not special."""
    torch = pytest.importorskip("torch")
    from transformers import AutoTokenizer

    from tests.support.zoo_torch import torch_model

    kind, *parts, texts, grows = CASES[case]
    row = {name: x for part in parts for name, x in part.items()}
    count = {"multiple-choice": 1, "question-answering": 2}.get(kind, 3)
    labels = tiny.LABELS if count == 3 else [f"LABEL_{i}" for i in range(count)]
    names = {"id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)}}
    model = torch_model("bert", kind, tiny.CONFIG | names, noise=0.3)
    model.save_pretrained(tmp_path)
    tiny.write_tokenizer(tmp_path)
    columns = {"pairs": {"text_pair": "other"}, "choice": {"choices": ["one", "two", "three"]}}.get(case, {})
    (found,) = word_scores(str(tmp_path), config(24, **columns), [row])
    inputs = AutoTokenizer.from_pretrained(tmp_path)(*map(list, zip(*texts, strict=True)), return_tensors="pt", padding=True)
    size = torch.ones(inputs["input_ids"].shape, requires_grad=True)
    model.bert.embeddings.register_forward_hook(lambda _, __, x: x * size[..., None])
    given = {name: x[None] if case == "choice" else x for name, x in inputs.items()}
    grows(model(**given)).backward()
    special = torch.isin(inputs["input_ids"], torch.tensor([0, 2, 3]))
    assert ["".join(word for word, _ in words).strip() for words in found] == [x for pair in texts for x in pair]
    expected = size.grad[~special].numpy()
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(
        [x for words in found for _, x in words], expected, rtol=0, atol=5e-6 * np.abs(expected).max()
    )


def test_the_window_of_a_long_context_is_that_of_the_answer(tmp_path):
    from tests.support.zoo_torch import torch_model

    torch_model("bert", "question-answering", tiny.CONFIG, noise=0.3).save_pretrained(tmp_path)
    tiny.write_tokenizer(tmp_path)
    row = {"question": "sun", "context": LONG, "gold": ["stone"], "prediction": "sun runs", "start": LONG.index("sun")}
    ((asked, context),) = word_scores(str(tmp_path), config(16, stride=4), [row])
    assert "".join(word for word, _ in context).endswith("the river sun runs over old stone")
    assert len(context) == 7  # the window before ends within the gold answer
    assert all(score != 0 for _, score in [*asked, *context])


def test_labels_that_the_model_does_not_have_are_refused(classifier):
    with pytest.raises(UserError, match="the label other, which the model does not have"):
        word_scores(str(classifier), config(), [{"text": "a", "gold": "calm", "prediction": "other"}])
