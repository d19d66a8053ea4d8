"""Bad options of `distill.matches`: one line that says which match, what is wrong, and what would be right."""

import pytest

from tests.support import tiny

DEEP = {"num_hidden_layers": 3, "hidden_size": 30, "num_attention_heads": 5}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", labels=tiny.LABELS, **DEEP)


@pytest.mark.parametrize(
    ("matches", "words"),
    [
        ("[{match: nst, layers: [[1, 4]]}]", ["matches 1 layers", "needs layer 4 of the teacher", "0 to 3"]),
        ("[{match: nst}, {match: nst, layers: [[3, 1]]}]", ["matches 2 layers", "needs layer 3 of the student", "0 to 2"]),
        ("[{match: nst, layers: every 2}]", ["every 2", "needs layer 4 of the teacher", "1 to 3"]),
        ("[{match: nst, layers: last 3}]", ["last 3", "needs layer 0 of the student", "1 to 2"]),
        ("[{match: nst, layers: evry 2}]", ["layers is evry 2", "last N, every N, uniform"]),
        ("[{match: nst, layers: [[1, 2, 3]]}]", ["pairs [student layer, teacher layer]"]),
        ("[{match: nst, layers: [1, 2]}]", ["layers is [1, 2]", "[[0, 0], [1, 2]]"]),
        ("[{match: nst, layers: []}]", ["one or more pairs"]),
        ("[{match: nst, layers: [[1, 2], [1, 2]]}]", ["named once each"]),
        ("[{match: attention_mse_sum, layers: [[0, 0]]}]", ["layer 0 are the embeddings, which have no attention"]),
        ("[{match: fsp, projection: linear}]", ["fsp compares the flow between layers: give two pairs"]),
        ("[{match: hidden_mse}]", ["hidden states of 24 numbers (student) and 30 (teacher)", "projection: linear"]),
        ("[{match: attention_mse}]", ["the student has 3 and the teacher 5", "attention_mse_sum"]),
        ("[{match: key_relation}]", ["heads is 5 (of the teacher)", "student, 24, and of the teacher, 30"]),
        ("[{match: key_relation, heads: 4}]", ["heads is 4: must divide the widths"]),
        ("[{match: nst, weight: 0}]", ["every weight is 0"]),
        ("[{match: nst, weight: -1}]", ["weight is -1", "0 or more"]),
        ("[{match: gram}]", ["match is gram", "hidden_mse, cos"]),
        ("[{layers: last}]", ["has no match"]),
        ("[{match: nst, projection: linear}]", ["nst needs no common width"]),
        ("[{match: pkd, projection: relu}]", ["projection is relu", "linear"]),
        ("[{match: pkd, learning_rate: 0.1}]", ["no projection that it could train"]),
        ("[{match: pkd, heads: 4}]", ["only query_relation, key_relation, value_relation have relation heads"]),
    ],
)
def test_a_match_that_is_not_possible(train_fails, classifier, teacher, matches, words):
    train_fails({"distill.teacher": teacher, "distill.matches": matches}, "distill.matches", *words, model=classifier)


def test_matches_without_a_teacher(train_fails):
    train_fails({"distill.matches": "[{match: nst}]"}, "distill.teacher is null: name one")


def test_matches_with_two_teachers(train_fails, classifier, teacher):
    options = {"distill.teacher": f"[{classifier}, {teacher}]", "distill.matches": "[{match: nst}]"}
    train_fails(options, "compares the layers of one teacher, but distill.teacher has 2: name one", model=classifier)


def test_nothing_to_train_on(train_fails, teacher):
    options = {"distill.teacher": teacher, "distill.output_weight": 0}
    train_fails(options, "output_weight is 0 and distill.matches is empty")
    frozen = {"distill.matches": "[{match: nst}]", "plan.preset": "head"}
    train_fails(options | frozen, "the plan trains nothing of the encoder", "distill.output_weight is 0", "last_n")
    train_fails(options | {"distill.matches": "[{match: nst, weight: 0}]"}, "every weight is 0")


def test_a_kernel_that_writes_no_scores(train_fails, classifier, teacher):
    options = {"distill.teacher": teacher, "distill.matches": "[{match: attention_mse_sum}]", "runtime.attention": "splash"}
    train_fails(options, "attention_mse_sum reads the scores of attention", "leave it at auto", model=classifier)
