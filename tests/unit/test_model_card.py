"""The model card: front matter that the hub reads, scores, and files of others that stay."""

from importlib.metadata import version

import pytest
import yaml

from jaxft.config import cli
from jaxft.report.model_card import FILE, card, write_card

RESULTS = {"eval/accuracy": 0.9, "eval/loss": 0.3, "test/accuracy": 0.875, "eval/labels": {"a": {}}, "eval/note": "x"}


def config(**sections):
    values = {"output_dir": "runs/mine", "data": {"train": "a.csv"}, "model": {"path": "google-bert/bert-base-uncased"}}
    return cli.parse(values | sections, [], origin="test")


def front_matter(text: str) -> dict:
    empty, front, body = text.split("---\n", 2)
    assert empty == ""
    assert body.startswith("<!-- written by jaxft")
    return yaml.safe_load(front)


def test_the_front_matter_is_that_of_the_hub():
    front = front_matter(card(config(), "text-classification", RESULTS))
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-classification"
    assert front["base_model"] == "google-bert/bert-base-uncased"
    assert front["metrics"] == ["accuracy"]
    assert [x["dataset"]["split"] for x in front["model-index"][0]["results"]] == ["validation", "test"]
    assert front["model-index"][0]["results"][1]["metrics"] == [{"type": "accuracy", "value": 0.875}]


@pytest.mark.parametrize("path", ["package:tiny/model", "/models/mine", None])
def test_a_model_that_the_hub_does_not_know_is_no_base(path):
    model = {"path": path} if path else {"path": "/models/mine", "from_scratch": True}
    assert "base_model" not in front_matter(card(config(model=model), "text-classification", {}))


def test_random_weights_have_no_base():
    text = card(config(model={"path": "google-bert/bert-base-uncased", "from_scratch": True}), "text-classification", {})
    assert "base_model" not in front_matter(text)
    assert "trained from scratch with jaxft." in text


@pytest.mark.parametrize(
    ("teacher", "shown"),
    [
        ("org/large", "org/large"),
        (["org/large", "/models/mine"], "org/large, a local model"),
        ("runs/seed-*", "local models"),
    ],
)
def test_it_names_the_teachers(teacher, shown):
    assert f"with jaxft, distilled from {shown}.\n" in card(config(distill={"teacher": teacher}), "text-classification", {})


def test_it_tells_limits_and_versions():
    text = card(config(data={"train": "a.csv", "max_length": 77}), "text-classification", RESULTS)
    assert "texts of at most 77 tokens" in text
    assert f"jaxft {version('jaxft')}, jax {version('jax')}, Python 3." in text
    assert "No scores were measured" in card(config(), "question-answering", {})


def test_hugging_faces_library_reads_it(tmp_path):
    cards = pytest.importorskip("huggingface_hub").ModelCard
    write_card(tmp_path, config(), "token-classification", RESULTS, adapter=True)
    read = cards.load(tmp_path / FILE)
    assert read.data.library_name == "peft"
    assert {(x.metric_type, x.metric_value, x.dataset_split) for x in read.data.eval_results} == {
        ("accuracy", 0.9, "validation"),
        ("loss", 0.3, "validation"),
        ("accuracy", 0.875, "test"),
    }
    write_card(tmp_path, config(), "token-classification", {})
    assert "0.875" not in (tmp_path / FILE).read_text()


def test_a_card_of_somebody_else_stays(tmp_path):
    (tmp_path / FILE).write_text("# Mine\n")
    write_card(tmp_path, config(), "text-classification", RESULTS)
    assert (tmp_path / FILE).read_text() == "# Mine\n"
