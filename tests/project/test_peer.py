"""The peer in PyTorch (benchmarks/hf_trainer.py) trains with the recipe's settings and scores the same weights alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jaxft
from benchmarks import recipes
from benchmarks.hf import settings
from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.models.model import make_model
from jaxft.run.setup import make_run
from jaxft.train import train
from jaxft.training.loop import Loop
from tests.support import ROOT, questions, running_text, tiny

TAGS = ["B-place", "I-place", "O"]
HEAD = {"pattern": r"^heads\.", "learning_rate": 5}


@pytest.fixture
def peer():
    """`benchmarks.hf_trainer`, which needs torch."""
    pytest.importorskip("torch")
    from benchmarks import hf_trainer

    return hf_trainer


def assert_same_scores(peer, config) -> None:
    """Both give the weights of a config the same scores; the peer trains one step that is too small to change them."""
    run = make_run(config)
    trainer = Loop(run, Path(config.output_dir))
    splits = {"validation": "eval", "test": "test"}
    ours = {f"{splits[s]}/{k}": v for s in splits if s in run.data for k, v in trainer.scores(s).items()}
    trainer.close()
    still = replace(config, optim=replace(config.optim, learning_rate=1e-12), train=replace(config.train, max_steps=1))
    theirs = peer.train(still)["scores"]
    assert set(theirs) == {name for name in ours if name.partition("/")[2] in run.task.metrics}
    for name in theirs:
        if not (name.endswith("/loss") and run.task.kind == "question-answering"):  # theirs includes padding
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), name


def test_five_steps_give_the_same_scores(peer, classifier, tiny_data, tmp_path):
    """Batches of all rows, no dropout: learning rates, warm-up, decay, clipping, best evaluation and loss are the same."""
    config = tiny.run_config(
        classifier,
        tiny_data,
        tmp_path / "run",
        model=tiny.NO_DROPOUT,
        data={"test": str(tiny_data / "test.csv")},
        plan={"rules": [HEAD]},
        optim={"learning_rate": 1e-2, "weight_decay": 0.5, "warmup": 0.3, "clip": 0.1},
        train={"epochs": 5, "batch_size": 100},
        eval={"every": "2 epochs", "metric": "loss"},
    )
    ours, theirs = train(config), peer.train(config)
    assert (theirs["steps"], theirs["metric"]) == (5, "test/loss")
    assert theirs["scores"] == {name: pytest.approx(ours[name], rel=1e-4) for name in theirs["scores"]}


@pytest.mark.slow
def test_the_same_start_and_order_give_the_same_losses(peer, tiny_model, tiny_data, tmp_path):
    """A new head, small batches, two epochs: with jaxft's head and order the losses are the same, otherwise not."""
    config = tiny.run_config(
        tiny_model,
        tiny_data,
        tmp_path / "run",
        model=tiny.NO_DROPOUT,
        optim={"learning_rate": 1e-3},
        train={"epochs": 2, "batch_size": 7},
        eval={"metric": "loss"},
    )
    ours, same, other = train(config), peer.train(config, same=True), peer.train(config)
    assert same["steps"] == other["steps"] > 8
    assert same["score"] == pytest.approx(ours["eval/loss"], rel=1e-4)
    assert other["score"] != pytest.approx(ours["eval/loss"], rel=1e-3)


@pytest.mark.parametrize("problem", ["multi_label", "regression"])
def test_scores_of_texts_are_the_same(peer, problem, tmp_path):
    names = tiny.LABELS if problem == "multi_label" else ["how", "why"]
    rows = [[" ".join(tiny.WORDS[i : i + 5]), *(str((i >> c) % 2) for c in range(len(names)))] for i in range(10)]
    (tmp_path / "dev.csv").write_text("\n".join(",".join(row) for row in [["text", *names], *rows]))
    model = tiny.write_model(tmp_path / "model", labels=names)
    config = tiny.run_config(
        model,
        tmp_path,
        tmp_path / "run",
        task={"problem": problem},
        data={"train": str(tmp_path / "dev.csv"), "text_pair": "text", "label": names},
    )
    assert_same_scores(peer, config)


def test_scores_of_tags_are_the_same(peer, tmp_path):
    lines = ["old O", "stone B-place", "bridge I-place", "", "brightly O", "river B-place", "", "the O", "sun B-place"]
    (tmp_path / "dev.conll").write_text("\n".join([*lines, ""]))
    config = tiny.CONFIG | {"architectures": ["BertForTokenClassification"], "id2label": dict(enumerate(TAGS))}
    model = make_model(config, "token-classification", "tiny")
    jaxft.save(model, tiny.random_params(model, 3), tmp_path / "model")
    tiny.write_tokenizer(tmp_path / "model")
    files = {name: str(tmp_path / "dev.conll") for name in ("train", "validation", "test")}
    sections = {"task": {"name": "token-classification"}, "data": files}
    assert_same_scores(peer, tiny.run_config(tmp_path / "model", tmp_path, tmp_path / "run", **sections))


@pytest.mark.parametrize("unanswerable", [pytest.param(False, marks=pytest.mark.slow), True])
def test_scores_of_answers_are_the_same(peer, unanswerable, tmp_path):
    model, share = questions.write_model(tmp_path / "model"), 0.3 if unanswerable else 0.0
    files = {"train": 8, "validation": 20, "test": 21}
    for name, count in files.items():
        questions.write(tmp_path / f"{name}.json", questions.make(count, seed=count, unanswerable=share, longest=34))
    sections = {
        "task": {"name": "question-answering", "unanswerable": unanswerable},
        "data": {"stride": 8} | {name: str(tmp_path / f"{name}.json") for name in files},
    }
    assert_same_scores(peer, tiny.run_config(model, tmp_path, tmp_path / "run", **sections))


def test_examples_of_masked_words_are_the_same(peer, tiny_model, tmp_path):
    """The perplexity of an untrained model is about the size of its vocabulary."""
    for name in ("train", "dev"):
        running_text.write(tmp_path / f"{name}.txt", 8, lines=6)
    sections = {"data": {"documents": "lines", "max_length": 8}, "train": {"max_steps": 2}}
    config = running_text.configure(tiny_model, tmp_path, tmp_path / "run", "fill-mask", **sections)
    run = make_run(config)
    from benchmarks.hf import masks

    examples = run.data["train"].examples
    ours = np.split(examples.tokens["input_ids"], examples.offsets[1:-1])
    assert [row["input_ids"] for row in masks.make_peer(run).data["train"]] == [x.tolist() for x in ours]
    assert max(map(len, ours)) == 8
    assert peer.train(config)["score"] == pytest.approx(tiny.CONFIG["vocab_size"], rel=0.2)


# What Trainer cannot do, or only with other packages.
ONLY_JAXFT = ("augment.", "distill.", "domains.", "plan.preset", "vocabulary.", "regularization.", "optim.name", "tasks")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_has_a_peer(path):
    config = cli.load([str(path)])
    own = [name for name in settings.changed(config) if name.startswith(ONLY_JAXFT)]
    if not own and config.task.name != "pretraining":
        settings.check(config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.num_layers=1"], "model.num_layers is 1"),
        (["--task.focal_gamma=2"], "task.focal_gamma is 2"),
        (["--plan.preset=head"], "plan.preset is head"),
        (["--plan.rules=[{pattern: bias, learning_rate: 2}]"], "plan.rules"),
        (["--plan.rules=[{pattern: '^heads\\.', trainable: false}]"], "plan.rules"),
    ],
)
def test_options_that_the_peer_cannot_follow_are_refused(options, words):
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        settings.check(cli.load([str(ROOT / "configs" / "banking77.yaml"), *options]))


def test_results_are_collected_and_shown(tmp_path, monkeypatch, capsys):
    """Each side and seed is run once, and again only if the recipe has changed; they are shown in a table and a header."""
    done = []

    def fake(side: str, score: float):
        def run(recipe: str, options: list[str]) -> dict:
            done.append((side, *options))
            return {"metric": "test/accuracy", "score": score + 0.01 * len(done), "steps": 1}

        return run

    monkeypatch.setattr(recipes, "SCORERS", {"jaxft": fake("jaxft", 0.9), "trainer": fake("trainer", 0.8)})
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: {path: m}\ndata: {train: a.csv, test: b.csv}\n")
    command = ["--results", str(tmp_path / "all.json"), "run", str(recipe), "--seeds", "0", "1"]
    recipes.main(command)
    recipes.main(command)
    assert done == [(side, f"--seed={seed}") for seed in (0, 1) for side in ("jaxft", "trainer")]
    recipes.main([*command, "--model.path", "other"])
    assert done[4:] == [
        (side, "--model.path", "other", f"--seed={seed}") for seed in (0, 1) for side in ("jaxft", "trainer")
    ]
    recipe.write_text("model: {path: m}\ndata: {train: a.csv, test: b.csv}\ntrain: {epochs: 1}\n# new\n")
    recipes.main([*command[:-1]])
    assert len(done) == 10
    capsys.readouterr()
    recipes.main([*command[:2], "table"])
    own, other = capsys.readouterr().out.splitlines()[2:]
    assert own == f"| `{recipe}` | test/accuracy | 2 | 0.9600 ± 0.0424 | 0.8700 ± 0.0424 |"
    assert f"`{recipe} --model.path other`" in other
    monkeypatch.setattr(recipes, "PAGE", str(tmp_path / "page.md"))
    (tmp_path / "page.md").write_text("before\n<!-- recipes -->\n<!-- /recipes -->\n\n| other |\n|---|\n")
    recipe.write_text(f"# python -m jaxft.train {recipe}\n{recipe.read_text()}")
    for _ in range(2):  # the second replaces the first
        recipes.main([*command[:2], "write"])
        line = "# Test accuracy of seeds 0, 1: 0.9900, 0.9300 (Hugging Face Trainer: 0.9000, 0.8400)."
        assert recipe.read_text().splitlines()[:3] == [f"# python -m jaxft.train {recipe}", line, "model: {path: m}"]
        page = (tmp_path / "page.md").read_text().splitlines()
        assert page[2] == "| recipe | metric | seeds | jaxft | Hugging Face Trainer |"
        assert page[6:] == ["<!-- /recipes -->", "", "| other |", "|---|"]  # another table stays
    assert f"no line # python -m jaxft.train {recipe} --model.path other" in capsys.readouterr().out
    rows = [row for row in recipes.read(tmp_path / "all.json") if row["side"] == "jaxft" and not row["options"]]
    recipes.write_headers(rows)  # a recipe without a peer
    assert recipe.read_text().splitlines()[1] == "# Test accuracy of seeds 0, 1: 0.9900, 0.9300."
