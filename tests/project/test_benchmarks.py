"""Parts of the benchmarks: medians of rounds, windows of steps, result files, and the pages that show them."""

import ast
import importlib
import importlib.util
import io
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from benchmarks import pages, profile, recipes, record, report, scores, strategies, synthetic
from benchmarks.peers.windows import MARK, Done, Windows
from benchmarks.step import Case
from jaxft.config import Config, MeshConfig, PlanConfig, RuleConfig, TrainConfig
from jaxft.core import tree
from jaxft.core.errors import UserError
from tests.support import ROOT


def test_what_benchmarks_import_from_jaxft_exists():
    """Also inside functions, where nothing else would tell before a run of hours."""
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("jaxft", "benchmarks"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    found = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                    assert found, f"{path.name}: {node.module} has no {alias.name}"


def test_ratios_are_of_the_same_round():
    """A slow second round slows both alternatives."""
    seconds = record.in_turn({"a": iter([1.0, 10.0, 1.0]).__next__, "b": iter([2.0, 20.0, 2.0]).__next__}, 3)
    found = record.compare(seconds, "a")
    assert found["b"]["ratio"] == {"median": 2.0, "quartiles": [2.0, 2.0]}
    assert found["b"]["seconds"]["median"] == 2.0


def test_every_alternative_is_first_in_some_round():
    asked = []
    record.in_turn({name: lambda name=name: asked.append(name) or 1.0 for name in "abc"}, 7)
    rounds = [asked[i : i + 3] for i in range(0, 21, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert {order[0] for order in rounds} == {"a", "b", "c"}


def test_a_row_replaces_the_one_of_the_same_keys(tmp_path):
    path = tmp_path / "results" / "x.json"
    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        record.add(path, {"name": name, "device": "cpu", "value": value}, "name", "device")
    rows = record.read(path)["rows"]
    assert [(row["name"], row["value"]) for row in rows] == [("b", 2), ("a", 3)]
    assert all(row["versions"]["jax"] and row["commit"] for row in rows)
    assert record.read(tmp_path / "none.json") == {}


def test_windows_count_only_their_own_steps(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("go\ngo\n"))
    windows, steps = Windows(steps=3, warm=2, wait=lambda: None), 0

    def step() -> None:
        windows.tick()
        nonlocal steps
        steps += 1
        windows.count(examples=1, tokens=10**steps)

    for _ in range(2 + 2 * 3):
        step()
    with pytest.raises(Done):
        step()
    said = [json.loads(line.removeprefix(MARK)) for line in capsys.readouterr().out.splitlines()]
    assert steps == 2 + 2 * 3
    assert "first_step_seconds" in said[0]
    assert said[1] == {"ready": True}
    assert [(x["examples"], x["tokens"]) for x in said[2:]] == [(3, 111 * 10**3), (3, 111 * 10**6)]


def test_lengths_are_those_of_pairs_of_sentences():
    lengths = synthetic.glue_lengths(100_000)
    assert np.median(lengths) == 38
    assert (lengths.min(), lengths.max()) == (6, 128)
    assert 0.03 < (lengths == 128).mean() < 0.06


def test_a_difference_of_scores_has_its_standard_error():
    """Over the seeds of both sides, and seed by seed if the peer has jaxft's head and order."""
    found = {"jaxft": [0.80, 0.82, 0.84], "trainer": [0.81, 0.83, 0.85], "same": [0.80, 0.82, 0.83]}
    rows = [
        {"set": "small", "side": side, "seed": seed, "score": score}
        for side, own in found.items()
        for seed, score in enumerate(own)
    ]
    made = scores.table(rows)
    assert made[2] == "| small | 3 | 82.00 ± 1.15 | 83.00 ± 1.15 | -1.00 ± 1.63 | 81.67 ± 0.88 | +0.33 ± 0.33 |"
    assert scores.table(rows[:4])[2] == "| small | 3 | 82.00 ± 1.15 | not run | not run | not run | not run |"


def test_a_section_of_a_page_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n")
    pages.write(page, {"x": ["new", r"\1"]})
    assert page.read_text() == "a\n<!-- x -->\nnew\n\\1\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n"
    with pytest.raises(UserError, match="0 sections <!-- z -->"):
        pages.write(page, {"z": []})


def test_slices_have_as_many_rows_of_each_label():
    rows = [{"label": x, "text": str(i)} for i, x in enumerate("aaabbbbc")]
    chosen = scores.some_of_each(rows, "label", 2)
    assert sorted(row["label"] for row in chosen) == ["a", "a", "b", "b", "c"]
    assert chosen == scores.some_of_each(rows, "label", 2)


@pytest.mark.parametrize("section", report.SECTIONS)
def test_the_page_shows_the_results(section):
    made = pages.section(section, report.SECTIONS[section]())
    assert made in report.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "section", "lines"),
    [
        (recipes.PAGE, "recipes", lambda: recipes.table(recipes.read(report.ROOT / recipes.RESULTS))),
        (scores.PAGE, "scores", lambda: scores.table(record.rows(report.ROOT / scores.RESULTS))),
        (
            strategies.PAGE,
            "strategies",
            lambda: strategies.table(
                recipes.read(report.ROOT / strategies.RESULTS), record.rows(report.ROOT / strategies.COSTS)
            ),
        ),
    ],
    ids=["recipes", "scores", "strategies"],
)
def test_other_pages_show_the_results(page, section, lines):
    assert pages.section(section, lines()) in (report.ROOT / page).read_text(encoding="utf-8")


def test_numbers_are_rounded_for_reading():
    assert report.number(1234567.8) == "1,230,000"
    assert report.number(0.00123456) == "0.00123"
    assert report.middle({"median": 0.5, "quartiles": [0.25, 1.0]}, 1e3) == "500 (250 to 1,000)"


def test_a_synthetic_run_trains_what_its_plan_says():
    """As `make_run` does, with the adapters of the plan."""
    run = Case("tiny", 4, 32, preset="lora").run()
    trained = {name for name, x in run.plan.settings.items() if x.trainable}
    assert {name.rpartition(".")[2] for name in trained if name.startswith("encoder")} == {"lora_a", "lora_b"}
    assert trained <= set(tree.all_names(run.params))


def test_a_synthetic_run_reinitialises_and_drops_as_its_plan_says():
    """An abstract run has the same shapes."""
    lengths, plan = synthetic.glue_lengths(32), PlanConfig(preset="reinit")
    plan = replace(plan, rules=[RuleConfig(r"layer\.0\.output\.dropout", dropout=0.3)])
    config = Config(train=TrainConfig(batch_size=4, max_steps=2), mesh=MeshConfig(data=1), seed=3)
    plain, drawn = (synthetic.run_of("tiny", lengths, replace(config, plan=x)) for x in (PlanConfig(), plan))
    before, after = tree.unstack(plain.params), tree.unstack(drawn.params)
    changed = {name for name, x in after.items() if not np.array_equal(before[name], x)}
    assert changed == {name for name in after if name.startswith("encoder.layer.1.") and name.endswith("kernel")}
    assert drawn.model.rates.own == {"encoder.layer.0.output.dropout": 0.3}
    abstract = synthetic.run_of("tiny", lengths, replace(config, plan=plan), abstract=True)
    assert jax.tree.map(np.shape, abstract.params) == jax.tree.map(np.shape, drawn.params)


def test_operations_are_classified():
    """From instructions as XLA's CPU compiler prints them."""
    layer = "jit(train_step)/transpose(jvp(encoder))/closed_call/PostNormLayer"
    lines = {
        "products of attention": ("f32[8,12,128,32]{3,2,1,0} fusion(%x)", f"{layer}/attention/self/dot_general"),
        "products with kernels": ("bf16[1024,384]{1,0} dot(%x, %y)", f"{layer}/attention/self/key/dot_general"),
        "the rest of attention": ("f32[8,12,128,128]{3,2,1,0} fusion(%x)", f"{layer}/attention/self/max"),
        "layer norms": ("f32[8,128,384]{2,1,0} fusion(%x)", f"{layer}/output/LayerNorm/mul"),
        "activations": ("f32[8,128,1536]{2,1,0} fusion(%x)", f"{layer}/intermediate/mul"),
        "masks of dropout": ("f32[8,16,384]{2,1,0} fusion(%x)", "jit(train_step)/jvp(encoder)/PostNormLayer/output/sqrt"),
        "optimizer": ("f32[6,384,384]{2,1,0} fusion(%x)", "jit(train_step)/optimizer/sqrt"),
        "the rest": ("f32[1024,384]{1,0} fusion(%x)", f"{layer}/output/add"),
    }
    text = "\n".join(f'  %{i} = {what}, metadata={{op_name="{name}"}}' for i, (what, name) in enumerate(lines.values()))
    assert list(profile.kinds_of(text).values()) == list(lines)
    assert profile.kinds_of("  ROOT %bitcast_bitcast_fusion.1 = bf16[384,1024]{1,0} fusion(%x), kind=kLoop") == {
        "bitcast_bitcast_fusion.1": "copies"
    }
