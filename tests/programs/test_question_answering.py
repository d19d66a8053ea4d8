"""Answers are chosen as in Hugging Face's script, in every layout."""

import collections

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.batching.collect import collect
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.tasks import QuestionAnswering, task_class
from jaxft.tasks.metrics.squad import squad_scores
from tests.support import questions, tiny


def configure(**task):
    return cli.parse({"task": {"name": "question-answering", **task}}, [], origin="test")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(directory)
    return load_tokenizer(directory), directory


def encode(tokenizer, rows, task, *, max_length=24, labelled=True):
    import datasets

    settings = {"data": {"max_length": max_length, "stride": 5, "cache": False}}
    config = cli.parse(settings, [], origin="test")
    return task.encode(datasets.Dataset.from_list(rows), *tokenizer, config, "a.json", labelled=labelled)


def collected(task, split, logits, layout="pack", batch_size=7):
    """What evaluation collects for given start and end logits [total tokens, 2]; those of padding are the highest."""
    examples = split.examples
    sampler = make_sampler(
        examples.lengths, batch_size=batch_size, max_length=24, layout=layout, seed=None, shapes=2, shards=1
    )
    plan, summarise = sampler.epoch_batches(0), jax.jit(task.summarise)

    def steps():
        for step in range(sampler.steps_per_epoch):
            batch = {name: x[0] for name, x in plan.batch(examples, step).items()}
            index, (_, row, offset, _) = plan.cells(step)
            outputs = {f"{side}_logits": np.full(batch["input_ids"].shape, 99, np.float32) for side in ("start", "end")}
            for example, r, o in zip(index, row, offset, strict=True):
                low, high = examples.offsets[example : example + 2]
                for i, side in enumerate(("start", "end")):
                    outputs[f"{side}_logits"][r, o : o + high - low] = logits[low:high, i]
            yield jax.tree.map(np.asarray, summarise(outputs, batch))

    return collect(plan, examples, steps())


def hugging_face(split, logits, *, n_best, max_answer_length, unanswerable, threshold):
    """postprocess_qa_predictions over whole logits, where only context tokens can be chosen; {id: (text, n-best, odds)}."""
    per_question = collections.defaultdict(list)
    for feature, row in enumerate(split.notes["question"]):
        per_question[int(row)].append(feature)
    chosen = {}
    for number, row in enumerate(split.rows):
        candidates, null = [], None
        for feature in per_question[number]:
            low, high = split.examples.offsets[feature : feature + 2]
            start_logits, end_logits = logits[low:high, 0], logits[low:high, 1]
            null_here = float(start_logits[0] + end_logits[0])
            null = null_here if null is None or null_here < null else null
            first, last = split.examples.columns["context"][feature]
            ranked = [np.argsort(-x[first:last], kind="stable")[:n_best] + first for x in (start_logits, end_logits)]
            for start in ranked[0]:
                for end in ranked[1]:
                    if start <= end < start + max_answer_length:
                        begin = int(split.notes["begin"][low + start])
                        text = row["context"][begin : int(split.notes["end"][low + end])]
                        candidates.append((float(start_logits[start]) + float(end_logits[end]), text, begin))
        if unanswerable:
            candidates.append((null, "", None))
        ranked = sorted(candidates, key=lambda c: c[0], reverse=True)
        best = ranked[:n_best] or [(0.0, "", None)]
        if unanswerable and not any(text == "" for _, text, _ in best):
            best.append((null, "", None))
        scores = np.exp([score - best[0][0] for score, _, _ in best])
        answered = next((c for c in ranked if c[1]), (0.0, "", None))
        odds = null - answered[0] if unanswerable else 0.0
        text = "" if unanswerable and odds > threshold else answered[1]
        n = [(text, begin, share) for (_, text, begin), share in zip(best, scores / scores.sum(), strict=True)]
        chosen[row["id"]] = (text, n, odds)
    return chosen


@pytest.mark.parametrize("unanswerable", [False, True])
@pytest.mark.parametrize("layout", ["pack", "bucket", "pad"])
def test_answers_are_those_of_hugging_face(tokenizer, layout, unanswerable):
    """Logits have few values, so that there are many ties; n_best is below and above the number of tokens."""
    rows = questions.make(12, seed=1, unanswerable=0.3 if unanswerable else 0, longest=45)
    for n_best, longest in ((3, 4), (30, 30)):
        options = {"n_best": n_best, "max_answer_length": longest, "unanswerable": unanswerable}
        task = QuestionAnswering(**options, null_threshold=-4.0 if unanswerable else None)
        split = encode(tokenizer, rows, task)
        assert len(split.examples) > len(rows)
        total = int(split.examples.offsets[-1])
        logits = np.random.default_rng(n_best).integers(-4, 5, (total, 2)).astype(np.float32) / 2
        found = list(task.decode(collected(task, split, logits, layout), split))
        expected = hugging_face(split, logits, **options, threshold=-4.0)
        assert [row["id"] for row in found] == list(expected)
        assert any(row["answer"] for row in found)
        assert not unanswerable or not all(row["answer"] for row in found)
        for row in found:
            text, n, odds = expected[row["id"]]
            assert row["answer"] == text
            assert [(x["answer"], x["start"]) for x in row["n_best"]] == [(text, begin) for text, begin, _ in n]
            assert [x["score"] for x in row["n_best"]] == pytest.approx([share for _, _, share in n], abs=1e-6)
            assert row["score"] == next(x["score"] for x in row["n_best"] if x["answer"] == text)
            assert row.get("null_odds", 0.0) == pytest.approx(odds, abs=1e-6)
            if row["start"] is not None:
                assert rows[int(row["id"].split("-")[1])]["context"][row["start"] : row["end"]] == row["answer"]


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 30))
@settings(max_examples=10, deadline=None)
def test_tuned_threshold_is_the_best(tokenizer, seed, n_best, longest):
    """No other threshold between the questions' odds has a better F1, for any logits."""
    rows = questions.make(8, seed=seed, unanswerable=0.5)
    task = QuestionAnswering(n_best=n_best, max_answer_length=longest, unanswerable=True)
    split = encode(tokenizer, rows, task, max_length=40)
    logits = np.random.default_rng(seed).normal(size=(int(split.examples.offsets[-1]), 2)).astype(np.float32)
    what = collected(task, split, logits, batch_size=16)
    assert not task.tuned
    tuned = task.tune(what, split)
    assert tuned.tuned
    assert tuned.tune(what, split) is tuned
    odds = [row["null_odds"] for row in tuned.decode(what, split)]
    golds = [row["answers"]["text"] for row in rows]
    reached = tuned.scores(what, split)
    for threshold in [-1e9, *(odd + 1e-5 for odd in odds)]:
        other = QuestionAnswering(n_best, longest, unanswerable=True, null_threshold=threshold)
        texts = [row["answer"] for row in other.decode(what, split)]
        assert squad_scores(texts, golds, unanswerable=True)["f1"] <= reached["f1"] + 1e-9
    assert reached["null_threshold"] == tuned.null_threshold


def test_a_context_without_tokens_has_no_answer(tokenizer):
    """Its characters are dropped by the tokenizer; the answer is empty with score 1."""
    rows = [{"id": "a", "question": "the sun", "context": "\u200b\u200b", "answers": {"text": [], "answer_start": []}}]
    for unanswerable in (False, True):
        task = QuestionAnswering(unanswerable=unanswerable)
        split = encode(tokenizer, rows, task, labelled=False)
        logits = np.ones((int(split.examples.offsets[-1]), 2), np.float32)
        (found,) = task.decode(collected(task, split, logits), split)
        assert (found["answer"], found["start"], found["score"]) == ("", None, 1.0)


def test_questions_without_answer_need_task_unanswerable(tokenizer):
    rows = questions.make(3, seed=0)
    rows[1]["answers"] = {"text": [], "answer_start": []}
    with pytest.raises(UserError, match=r'a\.json: question "q0-1" has no answer.*task\.unanswerable'):
        encode(tokenizer, rows, QuestionAnswering())
    assert len(encode(tokenizer, rows, QuestionAnswering(), labelled=False).rows) == 3
    assert encode(tokenizer, rows, QuestionAnswering(unanswerable=True)).examples.columns["start_positions"].min() == 0


def test_options_are_restored_from_config_json():
    tuned = QuestionAnswering(unanswerable=True, null_threshold=-1.5)
    assert QuestionAnswering.restore(configure(), dict(tuned.config_fields)) == tuned
    assert QuestionAnswering.restore(configure(null_threshold=2), dict(tuned.config_fields)).threshold == 2.0
    assert QuestionAnswering.restore(configure(), {}) == QuestionAnswering()
    assert QuestionAnswering.restore(configure(unanswerable=True), {}).threshold == 0.0
    plain = QuestionAnswering()
    assert QuestionAnswering.restore(configure(), dict(plain.config_fields)) == plain


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": {"n_best": 0}}, "task.n_best is 0"),
        ({"task": {"max_answer_length": 0}}, "task.max_answer_length is 0"),
        ({"data": {"stride": -1}}, "data.stride is -1"),
        ({"data": {"stride": 128}}, "data.stride is 128: must be 0 or more and below data.max_length 128"),
        ({"task": {"labels": ["a", "b"]}}, "question-answering has no such option"),
        ({"eval": {"metric": "accuracy"}}, "must be one of f1, exact_match, loss for question-answering"),
    ],
)
def test_invalid_options_are_refused(options, words):
    values = {**options, "task": {"name": "question-answering", **options.get("task", {})}}

    def learn():
        config = cli.parse(values, [], origin="test")
        task_class(config).learn(config, {}, None, "a.json")

    with pytest.raises(UserError) as error:
        learn()
    assert words in str(error.value)
