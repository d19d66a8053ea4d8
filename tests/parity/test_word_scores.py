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


def config(max_length: int = 10):
    return cli.parse(
        {"data": {"train": "a.csv", "max_length": max_length}, "model": {"path": "m"}}, [], origin="t", prog="t"
    )


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


def test_labels_that_the_model_does_not_have_are_refused(classifier):
    with pytest.raises(UserError, match="one label per text"):
        word_scores(str(classifier), config(), [{"text": "a", "gold": "calm", "prediction": "other"}])
