"""Tag schemes, against seqeval and their grammars; entity scores, against seqeval."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from sklearn import metrics

from jaxft.data.formats import tags
from jaxft.tasks.metrics.tagging import entity_scores, tag_scores

TYPES = ["PER", "creative-work"]
anything = st.lists(st.sampled_from(["O", *(f"{x}-{t}" for x in "BIES" for t in TYPES)]), min_size=1, max_size=12)


@st.composite
def entities(draw) -> list[str]:
    """IOB2 tags of a sentence."""
    found: list[str] = []
    for kind in draw(st.lists(st.sampled_from([*TYPES, None]), min_size=1, max_size=6)):
        length = draw(st.integers(1, 3))
        found += ["O"] * length if kind is None else [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
    return found


def spelt(iob2: list[str], scheme: str) -> list[str]:
    """IOB2 in another scheme, word by word from its neighbours."""
    found = []
    for i, tag in enumerate(iob2):
        before, after = (iob2[i - 1] if i else "O"), (iob2[i + 1] if i + 1 < len(iob2) else "O")
        letter, kind = tag[0], tag[2:]
        ends = after != f"I-{kind}"
        if letter == "O" or scheme == "iob2":
            found.append(tag)
        elif scheme == "iob1":
            found.append(f"B-{kind}" if letter == "B" and before[2:] == kind else f"I-{kind}")
        else:
            one, middle, last = {"bioes": "SIE", "bilou": "UIL", "bmes": "SME"}[scheme]
            found.append(f"{('B', one)[ends] if letter == 'B' else (middle, last)[ends]}-{kind}")
    return found


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "bioes", "bilou", "bmes"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(iob2=entities())
def test_every_scheme_is_read_as_iob2(scheme, iob2):
    there = spelt(iob2, scheme)
    assert tags.find_violation(there, scheme) is None
    assert tags.find_violation(there, "auto") is None
    assert tags.to_iob2(there) == iob2
    assert tags.mark_entities(there) == (set(there) != {"O"})


@settings(max_examples=300, deadline=None, derandomize=True)
@given(sentence=anything)
def test_entities_are_those_of_seqeval(sentence):
    right = [(kind, first, last + 1) for kind, first, last in get_entities(sentence)]
    assert tags.spans(sentence) == right
    assert tags.spans(tags.to_iob2(sentence)) == right
    assert tags.find_violation(tags.to_iob2(sentence), "iob2") is None


GRAMMARS = {"iob1": "(O|I[IB]*)*", "iob2": "(O|BI*)*", "bioes": "(O|S|BI*E)*", "bilou": "(O|U|BI*L)*", "bmes": "(O|S|BM*E)*"}


@pytest.mark.parametrize("scheme", GRAMMARS)
def test_a_scheme_accepts_exactly_its_grammar(scheme):
    seen = set()
    for length in range(1, 6):
        for letters in itertools.product(tags.LETTERS[scheme], repeat=length):
            fine = re.fullmatch(GRAMMARS[scheme], "".join(letters)) is not None
            assert (tags.find_violation(letters, scheme) is None) == fine, letters
            seen.add(fine)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("scheme", "sentence", "position", "words"),
    [
        ("auto", ["O", "PER"], 1, "neither O nor begins with B-, I-, E-, S-, M-"),
        ("auto", ["O", "b-PER"], 1, "neither"),
        ("auto", ["B-"], 0, "neither"),
        ("iob2", ["B-a", "E-a"], 1, "neither O nor begins with B-, I- (iob2)"),
        ("iob2", ["B-a", "I-b"], 1, "cannot follow B-a"),
        ("iob2", ["I-a"], 0, "cannot begin a sentence"),
        ("iob1", ["I-a", "B-b"], 1, "cannot follow I-a"),
        ("bioes", ["B-a", "E-b"], 1, "cannot follow B-a"),
        ("bioes", ["O", "B-a"], 1, "cannot end a sentence"),
        ("bmes", ["B-a", "I-a", "E-a"], 1, "neither O nor begins with B-, M-, E-, S- (bmes)"),
    ],
)
def test_violations_name_the_tag(scheme, sentence, position, words):
    where, why = tags.find_violation(sentence, scheme) or (None, "")
    assert where == position
    assert words in why


@pytest.mark.parametrize(
    ("distinct", "yes"),
    [
        ({"O", "B-PER"}, True),
        ({"I-PER", "O"}, True),
        ({"O", "B-PER", "PER"}, True),
        ({"B", "I", "O"}, True),
        ({"B", "M", "E", "S"}, True),
        ({"NN", "NNP", "-LRB-", "PRP$"}, False),
        ({"B", "E", "S", "V", "A"}, False),  # Italian word classes are single letters
        ({"O"}, False),
    ],
)
def test_entity_tags_are_recognised(distinct, yes):
    assert tags.mark_entities(distinct) is yes


def test_labels_are_completed_to_iob2():
    assert sorted(tags.iob2_labels({"S-b", "I-a"})) == ["B-a", "B-b", "I-a", "I-b", "O"]
    assert tags.iob2_labels(["I-a", "O", "E-a", "S-a", "B-a"]) == ["I-a", "O", "B-a"]
    assert tags.iob2_labels(["B", "M", "E", "S"]) == ["B", "I", "O"]
    assert tags.are_iob2(["O", "I-a"])
    assert not tags.are_iob2(["O", "I-a", "E-a"])
    assert not tags.are_iob2(["o", "i-a"])
    assert all(map(tags.are_entities, (["O", "I-a"], ["O", "U-a", "L-a"], ["o", "b-a"], ["a-B", "O"])))
    assert not any(map(tags.are_entities, (["NN", "O"], ["B-a", "NN"], ["i-adj", "noun"])))


SPELLINGS = {
    "as it is": lambda tag: tag,
    "lower case": lambda tag: tag[0].lower() + tag[1:],
    "underscore": lambda tag: tag.replace("-", "_", 1),
    "suffix": lambda tag: f"{tag[2:]}-{tag[0]}" if tag != "O" else tag,
    "lower suffix": lambda tag: f"{tag[2:]}_{tag[0].lower()}" if tag != "O" else "o",
}


@pytest.mark.parametrize("scheme", ["iob2", "bioes", "bilou", "bmes"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_read_and_restored(scheme, spelling):
    iob2 = ["B-PER", "O", "B-creative-work", "I-creative-work", "I-creative-work", "B-PER", "I-PER"]
    there = [SPELLINGS[spelling](tag) for tag in spelt(iob2, scheme)]
    # Each type with each letter, as in a model's labels.
    labels = [SPELLINGS[spelling](f"{letter}-{kind}") for letter in tags.LETTERS[scheme][1:] for kind in TYPES]
    names = tags.canonical([*there, *labels])
    assert tags.to_iob2([names[tag] for tag in there]) == iob2
    assert tags.to_scheme_of(iob2, list(names)) == there


@pytest.mark.parametrize(
    ("distinct", "unread"),
    [
        (["o", "b-per", "per"], ["per"]),
        (["O", "PER-B", "PER"], ["PER"]),
        (["O", "B-per", "per"], ["per"]),
        (["i-adj", "noun"], ["i-adj", "noun"]),
        (["NN-B", "VB"], ["NN-B", "VB"]),
    ],
)
def test_other_labels_stay_unchanged(distinct, unread):
    found = tags.canonical(distinct)
    assert [tag for tag in distinct if tags.parse(found[tag]) is None] == unread
    assert all(found[tag] == tag for tag in unread)


LABELS = ["O", *(f"{x}-{t}" for x in "BI" for t in TYPES)]
RANDOM = np.random.default_rng(0)
GOLD = [tags.to_iob2(list(RANDOM.choice(LABELS, n))) for n in (1, 9, 30, 4)]
PREDICTIONS = {
    "random": [list(RANDOM.choice(LABELS, len(s))) for s in GOLD],
    "half right": [[x if RANDOM.random() < 0.5 else "O" for x in s] for s in GOLD],
    "all right": GOLD,
    "no entity": [["O"] * len(s) for s in GOLD],
    "all entities": [["B-PER"] * len(s) for s in GOLD],
    "one long entity": [["I-PER"] * len(s) for s in GOLD],
    "a type nobody has": [["B-ORG"] * len(s) for s in GOLD],
}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", PREDICTIONS)
def test_scores_are_seqevals(name, swapped):
    gold, predicted = (PREDICTIONS[name], GOLD) if swapped else (GOLD, PREDICTIONS[name])
    scores = entity_scores(gold, predicted)
    kinds = scores.pop("types")
    assert scores == {
        "precision": precision_score(gold, predicted, zero_division=0),
        "recall": recall_score(gold, predicted, zero_division=0),
        "f1": f1_score(gold, predicted, zero_division=0),
        "accuracy": accuracy_score(gold, predicted),
    }
    assert (scores["f1"] == 1) == (name == "all right")
    found, right = ({(i, *e) for i, s in enumerate(part) for e in get_entities(s)} for part in (predicted, gold))
    assert kinds.keys() == {e[1] for e in found | right}
    for kind, row in kinds.items():
        mine, theirs = ({e for e in part if e[1] == kind} for part in (found, right))
        assert row["support"] == len(theirs)
        assert row["precision"] == pytest.approx(len(mine & theirs) / max(len(mine), 1))
        assert row["recall"] == pytest.approx(len(mine & theirs) / max(len(theirs), 1))


def test_scores_without_entities_are_zero():
    nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 1.0, "types": {}}
    assert entity_scores([["O", "O"]], [["O", "O"]]) == nothing


def test_scores_of_single_tags_are_scikit_learns():
    gold, predicted = np.random.default_rng(1).integers(0, 4, (2, 80))
    names = list("abcdef")
    found = tag_scores(gold, predicted, names)
    table = found.pop("labels")
    columns = metrics.precision_recall_fscore_support(gold, predicted, labels=range(6), zero_division=0)
    assert list(table) == names
    for place, row in enumerate(table.values()):
        assert list(row) == ["precision", "recall", "f1", "support"]
        assert list(row.values()) == pytest.approx([x[place] for x in columns], rel=1e-12)
    assert found == {
        "accuracy": metrics.accuracy_score(gold, predicted),
        "macro_f1": pytest.approx(metrics.f1_score(gold, predicted, average="macro")),
    }
