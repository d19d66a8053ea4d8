"""Windows of questions and contexts, and the tokens of answers in them, for every kind of tokenizer."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.squad import NOWHERE
from jaxft.data.reading.empty_texts import EMPTY
from jaxft.data.tokens.questions import encode_questions
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.tasks.answer_candidates import rank_answers
from tests.support import questions, tiny, vocabularies

MAX_LENGTH, STRIDE = 32, 6
ODD = "café in 北京, 🙂🙂 naïve ﬁsh\u00a0and Ünïcode… the old stone bridge 🙂 runs over 東京 and under the sun"


def texts() -> list[str]:
    return [row["context"] for row in questions.make(60, seed=5)] + [ODD] * 3


def byte_level(directory):
    """RoBERTa's kind, without token types: a character may be several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **names, model_input_names=["input_ids", "attention_mask"]
    ).save_pretrained(directory)


@pytest.fixture(scope="module", params=["wordpiece", "byte level", "sentencepiece"])
def tokenizer(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    if request.param == "wordpiece":
        tiny.write_tokenizer(directory)
    elif request.param == "byte level":
        byte_level(directory)
    else:
        vocabularies.sentencepiece(directory, texts(), size=120)
    return load_tokenizer(directory), directory


def dataset(rows):
    import datasets

    return datasets.Dataset.from_list(rows)


def encode(tokenizer, rows, *, labelled=True, **options):
    tokenizer, directory = tokenizer
    config = DataConfig(**{"max_length": MAX_LENGTH, "stride": STRIDE, "cache": False} | options)
    return encode_questions(dataset(rows), tokenizer, directory, config, "a.json", labelled=labelled)


def odd_rows() -> list[dict]:
    """Parts of a text with many kinds of characters as answers, with and without blanks around them."""
    rows = []
    for text in ["café", "北京", "京", "🙂", "🙂🙂", " naïve ﬁsh", "Ünïcode… ", "東京 and under the sun", "c", ODD]:
        answers = {"text": [text], "answer_start": [ODD.index(text)]}
        rows.append({"id": str(len(rows)), "question": " what? 🙂", "context": ODD, "answers": answers})
    return rows


def windows(examples, notes):
    """For every window: (row, token ids, [(position, (begin, end) in characters)] of its context tokens)."""
    for number, row in enumerate(notes["question"]):
        begin, end = examples.offsets[number : number + 2]
        low, high = examples.columns["context"][number]
        places = range(low, high)
        characters = [(int(notes["begin"][begin + t]), int(notes["end"][begin + t])) for t in places]
        yield int(row), examples.tokens["input_ids"][begin:end].tolist(), list(zip(places, characters, strict=True))


def test_windows_are_those_of_the_tokenizer(tokenizer):
    """Question, context part, special tokens; neighbours share the stride, and together they are the context."""
    rows = questions.make(20, seed=6) + odd_rows()
    examples, notes = encode(tokenizer, rows)
    found: dict[int, list] = {}
    for row, ids, context in windows(examples, notes):
        assert len(ids) <= MAX_LENGTH
        found.setdefault(row, []).append((ids, context))
    assert max(map(len, found.values())) > 1
    for number, row in enumerate(rows):
        plain = tokenizer[0](row["context"], add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets, at = plain["input_ids"], plain["offset_mapping"], 0
        for i, (window, context) in enumerate(found[number]):
            size, first = len(context), context[0][0]
            assert window[first : first + size] == ids[at : at + size]
            # Byte-level tokenizers count the blank before a word to the first token of a window, though to no other.
            cuts = [
                [row["context"][a:b].lstrip(" ") for a, b in x] for x in (dict(context).values(), offsets[at : at + size])
            ]
            assert cuts[0] == cuts[1]
            pair = tokenizer[0](row["question"].lstrip(), add_special_tokens=False)["input_ids"]
            assert window[1 : 1 + len(pair)] == pair
            last = i == len(found[number]) - 1
            assert last or len(window) == MAX_LENGTH
            at += size - (0 if last else STRIDE)
        assert at == len(ids)
    types = set(examples.tokens["token_type_ids"].tolist())
    assert types == ({0, 1} if "token_type_ids" in tokenizer[0].model_input_names else {0})


def test_positions_are_the_tokens_that_share_characters_with_the_answer(tokenizer):
    rows = questions.make(40, seed=7, unanswerable=0.2) + odd_rows()
    examples, notes = encode(tokenizer, rows)
    held = 0
    for number, (row, _, context) in enumerate(windows(examples, notes)):
        place = tuple(int(examples.columns[name][number]) for name in ("start_positions", "end_positions"))
        answers = rows[row]["answers"]
        if not answers["text"]:
            assert place == (0, 0)
            continue
        text = answers["text"][0]
        start = answers["answer_start"][0] + len(text) - len(text.lstrip())
        end = start + len(text.strip())
        shared = [t for t, (low, high) in context if low < end and high > start]
        inside = context[0][1][0] <= start and context[-1][1][1] >= end
        held += inside
        assert place == ((shared[0], shared[-1]) if inside and shared else (0, 0))
    assert held >= 30


def test_positions_are_those_of_run_qa(tokenizer):
    """Hugging Face's script searches the offsets from both ends; compared for answers that are whole words."""
    rows = questions.make(40, seed=8)
    examples, notes = encode(tokenizer, rows)
    for number, (row, _, context) in enumerate(windows(examples, notes)):
        answers = rows[row]["answers"]
        start, end = answers["answer_start"][0], answers["answer_start"][0] + len(answers["text"][0])
        first, last = 0, len(context) - 1
        offsets = [characters for _, characters in context]
        expected = (0, 0)
        if offsets[first][0] <= start and offsets[last][1] >= end:
            while first < len(offsets) and offsets[first][0] <= start:
                first += 1
            while offsets[last][1] >= end:
                last -= 1
            expected = context[first - 1][0], context[last + 1][0]
        assert expected == (examples.columns["start_positions"][number], examples.columns["end_positions"][number])


def test_the_first_answer_with_a_known_position_is_used(tmp_path):
    tiny.write_tokenizer(tmp_path)
    answers = [([NOWHERE, 10], (7, 7)), ([10, NOWHERE], (6, 7)), ([NOWHERE, NOWHERE], (NOWHERE, NOWHERE))]
    context = "the sun a bridge runs over the river"
    rows = [
        {
            "id": str(i),
            "question": "the sun",
            "context": context,
            "answers": {"text": ["a bridge", "bridge"], "answer_start": s},
        }
        for i, (s, _) in enumerate(answers)
    ]
    rows[1]["answers"]["answer_start"][0] = 8
    examples, _ = encode((load_tokenizer(tmp_path), tmp_path), rows)
    found = zip(examples.columns["start_positions"], examples.columns["end_positions"], strict=True)
    assert list(found) == [place for _, place in answers]


def test_cached_arrays_are_the_same(tokenizer):
    rows = questions.make(5, seed=9)
    (first, notes), (again, same) = (encode(tokenizer, rows, cache=True) for _ in range(2))
    for one, two in ((first.tokens, again.tokens), (first.columns, again.columns), (notes, same)):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
    assert encode(tokenizer, rows, cache=True, labelled=False)[0].columns.keys() == {"context"}


def test_a_question_that_leaves_no_space_for_its_context_is_refused(tmp_path):
    tiny.write_tokenizer(tmp_path)
    tokenizer = (load_tokenizer(tmp_path), tmp_path)
    rows = questions.make(2, seed=10, longest=20)
    rows[1] |= {"question": "river " * 20, "context": "the sun " * 10}
    with pytest.raises(
        UserError, match=r'a\.json: question "q10-1" has 20 tokens and leaves its context 9 of.*data\.stride 9'
    ):
        encode(tokenizer, rows, stride=9)
    null, notes = encode(tokenizer, rows, stride=9, labelled=False, empty_texts="null")
    assert notes[EMPTY].tolist() == [False, True]
    assert set(notes["question"].tolist()) == {0, 1}
    assert max(null.lengths) <= 32
    assert not encode(tokenizer, rows, stride=8, empty_texts="null")[1][EMPTY].any()
    assert len(encode(tokenizer, rows, stride=8)[0]) > 2
    rows[1]["question"] = "river " * 50
    with pytest.raises(UserError, match=r"leaves its context 0 of data\.max_length 32"):
        encode(tokenizer, rows, stride=0)
    rows[1] |= {"question": "river " * 28, "context": "sun"}  # a single window needs no stride
    assert encode(tokenizer, rows[1:])[0].lengths.tolist() == [32]
    with pytest.raises(UserError, match=r"data\.stride is 29: question and context share 29 tokens"):
        encode(tokenizer, rows, stride=29)


@pytest.mark.parametrize("context", ["the cafe\u0301 runs", "a cafe\u0301", "\u0928\u092e\u0938\u094d\u0924\u0947"])
def test_accents_belong_to_their_answer(tmp_path, context):
    """BERT's tokenizers drop combining accents, so no token contains the last one."""
    tokenizer = load_tokenizer(vocabularies.letters(tmp_path, [])), tmp_path
    word = max(context.split(), key=lambda x: len(x.encode()))
    start = context.index(word)
    row = {"id": "1", "question": "who", "context": context, "answers": {"text": [word], "answer_start": [start]}}
    examples, notes = encode(tokenizer, [row])
    first, last = (int(examples.columns[f"{side}_positions"][0]) for side in ("start", "end"))
    assert first > 0
    place = (1.0, int(notes["begin"][first]), int(notes["end"][last]))
    best = rank_answers([place], context, None, 1).best
    assert (best.text, best.start, best.end) == (word, start, start + len(word))
