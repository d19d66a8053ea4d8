"""The nearest words in a table of embeddings."""

import numpy as np

from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.run.nearest_words import nearest_words
from tests.support import tiny


def test_the_nearest_words_by_cosine(tmp_path):
    tiny.write_tokenizer(tmp_path)
    rows = {word: i for i, word in enumerate(tiny.VOCABULARY)}
    table = np.random.default_rng(0).normal(size=(len(rows), 8)).astype(np.float32)
    table[rows["bridge"]] = 3 * table[rows["river"]] + 0.01  # the length does not count
    table[rows["##ly"]] = table[rows["the"]] = table[rows["river"]]  # no word, and a function word
    params = {"encoder": {"embeddings": {"word_embeddings": {"embedding": table}}}}
    ids = np.array([rows["river"], rows["sun"]], np.int32)
    examples = Examples({"input_ids": ids}, np.array([0, 2]), {})
    found = nearest_words(params, load_tokenizer(tmp_path), examples, 3)
    assert found("river")[0] == "bridge"
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    words = [word for word in tiny.VOCABULARY if word.isalpha() and word not in ("a", "the", "and", "over", "under")]
    likeness = {word: float(unit[rows[word]] @ unit[rows["sun"]]) for word in words if word != "sun"}
    assert found("sun") == sorted(likeness, key=likeness.get, reverse=True)[:3]
    assert found("stone") == ()  # not in the examples
    assert found("the") == ()
