"""Bad options and files of augmentation: one line that says what is wrong, where, and what would be right."""

import json

import pytest


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"step": "delet"}, ["augment.steps 1 step is delet", "one of delete, swap", 'did you mean "delete"']),
        ({"step": "delete", "rate": 1.5}, ["augment.steps 1 rate is 1.5", "from 0 to 1"]),
        ({"step": "delete", "rate": -0.1}, ["augment.steps 1 rate is -0.1", "from 0 to 1"]),
        ({"step": "delete", "rate": 1}, ["augment.steps 1 rate is 1", "delete would empty every text"]),
        ({"step": "drop_pieces", "rate": 1}, ["drop_pieces would empty every text"]),
        ({"step": "delete", "file": "x"}, ["augment.steps 1 file is x", "delete has no such option", "rate"]),
        ({"step": "swap", "entities": True}, ["entities is true", "swap has no such option"]),
        ({"step": "replace"}, ["augment.steps 1 (replace) has neither a file nor a source", "wordnet, embeddings"]),
        ({"step": "replace", "file": "x", "source": "wordnet"}, ["both a file and a source"]),
        ({"step": "replace", "source": "dictionary"}, ["source is dictionary", "wordnet, embeddings, masked_lm"]),
        ({"step": "replace", "source": "masked_lm"}, ["masked_lm", "jaxft augment"]),
        ({"step": "back_translation"}, ["file is null", "text<TAB>translation"]),
        ({"step": "keyboard", "layout": "dvorak"}, ["layout is dvorak", "qwerty, qwertz, azerty"]),
        ({"step": "case", "to": "small"}, ["to is small", "random, lower, upper"]),
    ],
    ids=str,
)
def test_bad_step(train_fails, step, words):
    train_fails({"augment.steps": json.dumps([step])}, *words)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("delete", ["augment.steps is delete: must be a list of mappings"]),
        ("{step: delete}", ["augment.steps is {'step': 'delete'}: must be a list of mappings"]),
        ("[{rate: 0.1}]", ["augment.steps 1 has no step: must be a mapping with step, and perhaps rate, file"]),
        ("[{step: swap}, {}]", ["augment.steps 2 has no step"]),
        ("[{step: null}]", ["augment.steps 1 has no step"]),
        ("[{step: swap}, delete]", ["augment.steps 2 is delete: must be a mapping such as {step: delete}"]),
        ("[step:delete]", ["augment.steps 1 is step:delete: must be a mapping with step", "with a space after each colon"]),
        ("[{step:delete}]", ['augment.steps 1: unknown option "step:delete"', "with a space after each colon"]),
        ("[null]", ["augment.steps 1 is null: must be a mapping with step"]),
        ("[[delete]]", ["augment.steps 1 is ['delete']: must be a mapping"]),
        ("[{step: swap}, {step: delete, rates: 1}]", ['augment.steps 2: unknown option "rates"; did you mean "rate"']),
        ("[{delete: 0.1}]", ['augment.steps 1: unknown option "delete"; an element has step']),
        ("[{1: 2}]", ['augment.steps 1: unknown option "1"']),
        ("[{step: 3}]", ["augment.steps 1 step is 3: must be text"]),
        ("[{step: swap, rate: high}]", ["augment.steps 1 rate is high: must be a number"]),
        ("[{step: swap, rate: null}]", ["augment.steps 1 rate is null: must be a number"]),
        ("[{step: case, to: null}]", ["augment.steps 1 to is null: must be text"]),
        (
            "[{step: replace, source: wordnet, candidates: 2.5}]",
            ["1 candidates is 2.5: must be a whole number"],
        ),
        ("[{step: replace, file: [a]}]", ["augment.steps 1 file is ['a']: must be text in quotes or null"]),
    ],
)
@pytest.mark.parametrize("place", ["file", "argument"])
def test_malformed_list_of_steps(fails, tmp_path, place, steps, words):
    config = tmp_path / "config.yaml"
    config.write_text(f"augment: {{steps: {steps if place == 'file' else '[]'}}}\n", encoding="utf-8")
    if place == "file":
        fails("train", [config], f"{config}: ", *words)
    else:
        line = fails("train", [config, f"--augment.steps={steps}"], *words)
        assert str(config) not in line  # the file is right


def test_an_appended_step_has_the_number_that_it_gets(fails, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("augment: {steps: [{step: swap}]}\n", encoding="utf-8")
    fails("train", [config, "--augment.steps+={step: swap}", "--augment.steps+={rate: 0.1}"], "augment.steps 3 has no step")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("plan.rules=[{trainable: true}]", ["plan.rules 1 has no pattern"]),
        ("plan.rules=[{pattern: a, dropout: x}]", ["plan.rules 1 dropout is x: must be a number or null"]),
        ("plan.rules=[{pattern: a}]", ['plan.rules "a" is null in every column: set at least one of trainable']),
        ("data.clean.rules=[{pattern: a, replacement: null}]", ["data.clean.rules 1 replacement is null: must be text"]),
    ],
)
def test_other_lists_of_mappings(fails, option, words):
    fails("train", [f"--{option}"], *words)


def test_bad_share(train_fails):
    train_fails({"augment.share": "1.5"}, "augment.share is 1.5", "from 0 to 1")


@pytest.mark.parametrize(
    ("step", "content", "words"),
    [
        ("replace", "caf\xe9\tbar\n".encode("latin-1"), ["line 1", "not UTF-8", "0xe9", "convert the file"]),
        ("replace", "a\tb\n".encode("utf-16"), ["line 1", "not UTF-8"]),
        ("insert", b"", ["no synonyms"]),
        ("insert", b"a,b\nc\n", ["line 2 has no synonyms", "word<TAB>synonym,synonym"]),
        ("replace", b"a\t ,\n", ["line 1 has no synonyms"]),
        ("replace", b"a,a\n", ["no synonyms"]),
        ("back_translation", b"a\tb\n\nc\t \n", ["line 3", "empty text or translation"]),
        ("back_translation", b"a b\n", ["line 1", "text<TAB>translation"]),
        ("back_translation", b"\n", ["no translations"]),
    ],
)
def test_bad_file(train_fails, tmp_path, step, content, words):
    path = tmp_path / "file.tsv"
    path.write_bytes(content)
    train_fails({"augment.steps": json.dumps([{"step": step, "file": str(path)}])}, f"file {path}", *words)


def test_missing_file(train_fails, tmp_path):
    steps = json.dumps([{"step": "replace", "file": str(tmp_path / "absent.tsv")}])
    train_fails({"augment.steps": steps}, "absent.tsv", "No such file")


def test_wordnet_without_nltk(train_fails, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nltk", None)
    train_fails({"augment.steps": '[{"step": "replace", "source": "wordnet"}]'}, "nltk", "pip install nltk")


def test_a_tokenizer_without_a_mask_token(train_fails, tiny_model, tmp_path):
    import shutil

    model = shutil.copytree(tiny_model, tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text()) | {"mask_token": None}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    train_fails({"augment.steps": '[{"step": "mask_pieces"}]'}, "no mask token, but a step needs it", model=model)
