"""Token classification as in Hugging Face's run_ner.py: the first piece of a word has its label, long sentences are
truncated."""

from typing import Any

import numpy as np
import transformers

from benchmarks.hf.settings import Peer, make_model, named
from jaxft.data.formats.sentences import WORDS
from jaxft.run.setup import Run
from jaxft.tasks.metrics.tagging import entity_scores, tag_scores

IGNORED = -100  # the label that torch's cross-entropy ignores


def make_peer(run: Run) -> Peer:
    """Sentences, padded batch by batch. Unlike run_ner.py's, the scores count truncated words: as O, or label 0."""
    labels = tuple(run.task.labels or ())
    outside = labels.index("O") if "O" in labels else 0
    encoded = {split: encode(run, split) for split in run.data}

    def features(split: str) -> list[dict[str, Any]]:
        made, ends = encoded[split], np.cumsum(run.data[split].notes["sizes"])
        gold = np.split(run.data[split].notes["gold"], ends[:-1])
        return [
            {name: made[name][i] for name in made} | {"labels": [IGNORED if w < 0 else int(tags[w]) for w in first]}
            for i, (tags, first) in enumerate(zip(gold, map(first_pieces, made.encodings), strict=True))
        ]

    def score(split: str, found: Any) -> dict[str, float]:
        sizes, gold = (run.data[split].notes[name] for name in ("sizes", "gold"))
        predicted = []
        for size, row, encoding in zip(sizes, found.predictions, encoded[split].encodings, strict=True):
            words = np.full(size, outside)
            for place, word in enumerate(first_pieces(encoding)):
                if word >= 0:
                    words[word] = row[place]
            predicted.append(words)
        if getattr(run.task, "scheme", "") == "none":
            scores = tag_scores(gold, np.concatenate(predicted), labels)
            return {name: value for name, value in scores.items() if name != "labels"}
        sides = (np.split(gold, np.cumsum(sizes)[:-1]), predicted)
        scores = entity_scores(*([[labels[i] for i in sentence] for sentence in side] for side in sides))
        return {name: value for name, value in scores.items() if name != "types"}

    return Peer(
        model=make_model(transformers.AutoModelForTokenClassification, run.config, **named(labels)),
        data={split: features(split) for split in run.data},
        collator=transformers.DataCollatorForTokenClassification(run.tokenizer),
        score=score,
        reduce=lambda logits, _: logits.argmax(-1),
    )


def encode(run: Run, split: str) -> Any:
    """The tokenized sentences of a split."""
    words = list(run.data[split].rows[WORDS])
    return run.tokenizer(words, is_split_into_words=True, truncation=True, max_length=run.config.data.max_length)


def first_pieces(encoding: Any) -> list[int]:
    """The word of each token that is the first piece of one; -1 for all others."""
    words = [-1 if w is None else w for w in encoding.word_ids]
    return [w if w != before else -1 for before, w in zip([-1, *words], words, strict=False)]
