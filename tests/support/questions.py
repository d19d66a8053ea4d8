"""Small question-answering data over the words of `tiny`: the answer is the clue in the question and the word after it."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxft.core import random_keys
from tests.support import tiny

CLUES = list(tiny.CLUES.values())
PLAIN = [word for word in tiny.WORDS if word.isalpha()]


def make(count: int, seed: int, *, unanswerable: float = 0.0, longest: int = 30) -> list[dict[str, Any]]:
    """Rows in the hub's form: id, question, context, answers {text, answer_start}."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        clue = rng.choice(CLUES)
        there = rng.random() >= unanswerable
        said = clue if there else rng.choice([other for other in CLUES if other != clue])
        words = rng.choices(PLAIN, k=rng.randint(3, longest))
        words[rng.randrange(len(words) - 1)] = said
        context = " ".join(words)
        start = context.index(clue) if there else -1
        text = " ".join(context[start:].split()[:2])
        answers = {"text": [text, clue], "answer_start": [start, start]} if there else {"text": [], "answer_start": []}
        rows.append({"id": f"q{seed}-{number}", "question": f"the {clue}", "context": context, "answers": answers})
    return rows


def nested(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """SQuAD's own form, with two paragraphs per article."""
    paragraphs = []
    for row in rows:
        answers = [
            {"text": text, "answer_start": start}
            for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        ]
        qa = {"id": row["id"], "question": row["question"], "answers": answers, "is_impossible": not answers}
        paragraphs.append({"context": row["context"], "qas": [qa]})
    articles = [{"title": "t", "paragraphs": paragraphs[i : i + 2]} for i in range(0, len(paragraphs), 2)]
    return {"version": "v2.0", "data": articles}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A file in SQuAD's own form."""
    path.write_text(json.dumps(nested(rows)), encoding="utf-8")
    return path


def write_model(directory: Path, *, seed: int = 0, **changes: Any) -> Path:
    """The tiny BERT with a question-answering head, random weights."""
    import jax
    import numpy as np

    from jaxft.models import load_save
    from jaxft.models.model import make_model

    config = tiny.CONFIG | {"architectures": ["BertForQuestionAnswering"]} | changes
    model = make_model(config, "question-answering", "tiny")
    params = jax.tree.map(np.array, model.init(random_keys.root_key(seed)))
    noise = np.random.default_rng(seed)
    load_save.save(model, jax.tree.map(lambda x: (x + noise.normal(0, 0.05, x.shape)).astype(np.float32), params), directory)
    tiny.write_tokenizer(directory)
    return directory


def configure(model: Path, data: Path, output: Path, /, **sections):
    sections["task"] = {"name": "question-answering", "unanswerable": True, **sections.get("task", {})}
    files = {"train": str(data / "train.json"), "validation": str(data / "dev.json"), "stride": 8}
    sections["data"] = files | sections.get("data", {})
    return tiny.run_config(model, data, output, **sections)
