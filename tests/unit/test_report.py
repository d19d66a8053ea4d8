"""The report: its figures, pictures and markup, and what it says of runs that lack something."""

import json
import os
import re
from html.parser import HTMLParser

import pytest
from sklearn import metrics

from jaxft.core.errors import UserError
from jaxft.data.formats.prediction_rows import column
from jaxft.evaluation.input_columns import merged
from jaxft.report import outcomes
from jaxft.report.__main__ import main
from jaxft.report.compare import differences
from jaxft.report.markup import Markup, element, escape, number
from jaxft.report.page import page
from jaxft.report.plot import Line, line_chart, smoothed, thinned, tick_labels, ticks
from jaxft.report.run_files import read_run
from tests.support.reports import journal, prediction, write_run

LABELS = [f"label {i}" for i in range(1000)]


class Checker(HTMLParser):
    """Counts the tags of a document, and demands that each is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"][1:]] if tag == "a" else []
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_whatever_is_not_markup_is_escaped():
    assert escape('<a href="x">&') == "&lt;a href=&quot;x&quot;&gt;&amp;"
    assert (
        element("p", "<b>", element("i", 1), None, dir="auto", title='"')
        == '<p dir="auto" title="&quot;">&lt;b&gt;<i>1</i></p>'
    )
    assert escape(["<", Markup("<br/>")]) == "&lt;<br/>"
    assert escape("a\x00b\ud800") == "a\u2400b?"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (3, "3"), (12345, "12,345"), (0.123456, "0.1235"), (98765.4, "98,765"), (float("nan"), "nan"), ("x", "x")],
)
def test_numbers_are_short(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.1, 0.3, [0.1, 0.15, 0.2, 0.25, 0.3]),
        (0, 1e-4, [0, 2e-5, 4e-5, 6e-5, 8e-5, 1e-4]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == expected


def test_ticks_of_steps_are_whole():
    assert ticks(28, 31, whole=True) == [28, 29, 30, 31]
    assert ticks(28, 29, whole=True) == [28, 29]
    chart = line_chart([Line("", [(29, 0.5)])], label="loss", x_label="step")
    assert [x for x in re.findall(r">([\d.]+)</text>", chart) if float(x) > 1] == ["28", "29", "30"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 20_000, ["0", "5,000", "10,000", "15,000", "20,000"]),
        (1.0985, 1.0995, ["1.0986", "1.0988", "1.099", "1.0992", "1.0994"]),
    ],
)
def test_labels_of_ticks_differ(low, high, expected):
    assert [label for _, label in tick_labels(low, high)] == expected


def test_thinning_keeps_spikes():
    points = [(i, 0.0) for i in range(10_000)]
    points[5678] = (5678, 9.0)
    few = thinned(points)
    assert len(few) <= 400
    assert (5678, 9.0) in few


def test_smoothing_has_no_pull_of_the_start():
    assert [y for _, y in smoothed([(i, 2.0) for i in range(50)])] == pytest.approx([2.0] * 50)


def test_a_line_has_gaps_and_bad_numbers_no_point():
    chart = line_chart([Line("a", [(1, 1.0), (2, float("nan")), (3, 2.0), (4, 3.0)])], label="L", x_label="step")
    assert chart.count("<polyline") == 2
    assert "nan" not in chart
    assert 'aria-label="L"' in chart
    assert "no number yet" in line_chart([Line("a", [(1, None)])], label="L", x_label="step")


@pytest.mark.parametrize("y", [0.0, 1e-9, -5.0, 1e12])
def test_a_single_point_is_drawn(y):
    assert "<circle" in line_chart([Line("a", [(1, y)])], label="L", x_label="step")


def test_scores_of_labels_are_those_of_scikit_learn():
    gold, given = [*"aabbbcc"], [*"abbbcca"]
    rows = [prediction(a, b, 0.9, "t") for a, b in zip(gold, given, strict=True)]
    found = {x.label: x for x in outcomes.label_scores(rows)}
    precision, recall, f1, support = metrics.precision_recall_fscore_support(gold, given)
    for i, label in enumerate("abc"):
        own = found[label]
        assert (own.precision, own.recall, own.f1, own.support) == pytest.approx(
            (precision[i], recall[i], f1[i], support[i])
        )
    assert [x.f1 for x in outcomes.label_scores(rows)] == sorted(x.f1 for x in found.values())


def test_calibration_error_is_the_mean_distance():
    """Ten predictions of 0.95 of which nine are right, ten of 0.55 of which five are."""
    rows = [prediction("a", "a" if i < 9 else "b", 0.95, "t") for i in range(10)]
    rows += [prediction("a", "a" if i < 5 else "b", 0.55, "t") for i in range(10)]
    points = outcomes.calibration(rows)
    assert points == [pytest.approx((0.55, 0.5, 10)), pytest.approx((0.95, 0.9, 10))]
    assert outcomes.calibration_error(points) == pytest.approx(0.05)
    assert outcomes.calibration([prediction("a", "a", 1.0, "t")]) == [(1.0, 1.0, 1)]


def test_the_worst_error_gives_the_gold_label_least():
    rows = [prediction("a", "b", score, text) for score, text in ((0.6, "mild"), (0.99, "worst"), (0.8, "bad"))]
    rows.append(prediction("a", "a", 0.5, "right"))
    assert [row["text"] for row in outcomes.worst(rows)] == ["worst", "bad", "mild"]


@pytest.mark.parametrize(
    ("row", "form", "right", "badness"),
    [
        ({"gold": ["x"], "prediction": ["x", "y"], "probabilities": {"x": 0.9, "y": 0.7}}, "labels", False, 0.7),
        ({"gold": ["y", "x"], "prediction": ["x", "y"], "probabilities": {}}, "labels", True, 0),
        ({"gold": ["O", "B-x"], "prediction": ["O", "O"], "words": ["a", "b"]}, "tags", False, 1),
        ({"gold": ["the Lake."], "prediction": "lake", "start": 4, "end": 8, "score": 0.5}, "answer", True, 0.5),
        ({"gold": [], "prediction": "", "start": None, "end": None, "score": 0.5}, "answer", True, 0.5),
        ({"gold": 1, "prediction": 0, "probabilities": [0.7, 0.3], "score": 0.7}, "choice", False, 0.7),
        ({"gold": {"x": 1.0}, "prediction": {"x": 1.5}}, "numbers", False, 0.5),
    ],
)
@pytest.mark.parametrize("columns", [{}, {"words": "a b", "tags": ["x"], "start": 3, "end": 9, "score": 7}])
def test_every_form_of_prediction_is_judged(row, form, right, badness, columns, tmp_path):
    """Columns of the file change nothing, whatever their names are."""
    row = merged({"text": "my text", "question": "q", **columns}, row, 7)
    assert outcomes.form(row) == form
    assert outcomes.is_right(row) is right
    assert outcomes.badness(row) == pytest.approx(badness)
    run = write_run(tmp_path / "run", rows=journal(), predictions=[row])
    Checker(text := page([read_run(run)]))
    assert ("row 7" in text) is not right
    assert "(7)" not in text


def test_columns_are_found_wherever_they_are_renamed():
    """Predictions of a file that holds earlier predictions keep those, and its texts are the file's own."""
    columns = {
        "row": 99,
        "text": "t",
        "input_text": "other",
        "score": "s",
        "input_score": "older",
        "words": "w",
        "gold": "g",
    }
    row = merged(columns, {"gold": "a", "prediction": "b", "score": 0.9}, 7)
    assert {name: column(row, name) for name in columns} == columns
    assert len(row) == 1 + len(columns) + 3
    assert (row["row"], row["gold"], row["score"]) == (7, "a", 0.9)
    assert column(row, "absent") is None


def test_predicted_numbers_are_drawn_beside_gold_ones(tmp_path):
    rows = [{"text": "t", "gold": {"x": float(i)}, "prediction": {"x": i + 0.5}} for i in range(2000)]
    assert outcomes.numbers(rows)["x"][3] == (3.0, 3.5)
    text = page([read_run(write_run(tmp_path / "run", predictions=rows))])
    Checker(text)
    assert text.count("<circle") == 1000
    assert "30 validation examples furthest from gold" in text


def test_several_labels_are_confused_and_calibrated():
    shares = {"x": 0.95, "y": 0.15, "z": 0.85}
    rows = [
        {"gold": ["x", "y"], "prediction": ["x", "z"], "probabilities": shares},
        {"gold": ["y"], "prediction": [], "probabilities": shares},
        {"gold": [], "prediction": ["z"], "probabilities": shares},
    ]
    assert outcomes.confusion(rows) == {("x", "x"): 1, ("y", "z"): 1, ("y", "(none)"): 1, ("(none)", "z"): 1}
    assert outcomes.calibration(rows) == [
        (pytest.approx(0.15), pytest.approx(2 / 3), 3),
        (pytest.approx(0.85), 0, 3),
        (pytest.approx(0.95), pytest.approx(1 / 3), 3),
    ]


@pytest.mark.parametrize("labels", [2, 30, 31, 1000])
def test_the_page_is_whole_and_small_for_any_number_of_labels(tmp_path, labels):
    rows = [prediction(LABELS[i % labels], LABELS[(i * 7) % labels], 0.8, "word " * 500) for i in range(3000)]
    text = page([read_run(write_run(tmp_path / "run", rows=journal(5000), predictions=rows))])
    found = Checker(text)
    assert set(found.links) <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert len(text.encode()) < 1_000_000
    assert text.count('class="matrix"') == 1
    assert (f"of {labels:,} labels" in text) is (labels > 30)


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    text = page([read_run(write_run(tmp_path / "a"))])
    assert "no evaluation yet" in text
    assert "Loss: no number yet" in text
    steps = [row for row in journal() if "loss" in row]
    text = page([read_run(write_run(tmp_path / "b", rows=steps))])
    assert "No evaluation yet: b" in text
    assert text.count("<polyline") > 3


def test_a_line_that_is_being_written_is_left_out_and_a_damaged_one_is_an_error(tmp_path):
    run = write_run(tmp_path / "run", rows=journal())
    path = run / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 41, "lo')
    assert len(read_run(run).rows) == len(journal())
    path.write_text('{"step": 41, "lo\n' + whole)
    with pytest.raises(UserError, match=r"metrics.jsonl: line 1 is damaged"):
        read_run(run)


def test_several_runs_are_compared(tmp_path):
    runs = [
        write_run(
            tmp_path / name / "run", rows=journal(steps), config={"optim": {"learning_rate": rate}, "output_dir": name}
        )
        for name, steps, rate in (("a", 40, 1e-3), ("b", 60, 2e-3))
    ]
    read = [read_run(run) for run in runs]
    assert differences(read) == {"optim.learning_rate": [1e-3, 2e-3]}
    text = page(read)
    Checker(text)
    assert str(runs[0]) in text
    assert "0.975 (+0)" in text
    assert ("Validation loss" in text) > ("Validation loss" in page(read[:1]))
    assert page(read) == text


TIME = {"compiling": 20.0, "training": 60.0, "evaluating": 20.0}


def test_the_time_by_phase_the_goodput_and_the_waits_are_shown(tmp_path):
    waits = {"share_data": 0.25, "share_dispatch": 0.125, "share_device": 0.5}
    rows = [{**row, **waits} if "loss" in row else row for row in journal()]
    run = write_run(tmp_path / "run", rows=[*rows[:-1], {**rows[-1], "time": TIME, "goodput": 0.55}])
    text = page([read_run(run)])
    Checker(text)
    for shown in ("60 (60.0%)", ">55.0%<", ">25.0%<", ">12.5%<", ">50.0%<", "<title>training: 60</title>"):
        assert shown in text, shown
    parts = re.findall(r'<rect class="c\d" x="([\d.]+)" width="([\d.]+)"', text.split("Seconds by phase", 1)[1])[:3]
    lefts, widths = ([float(x) for x in column] for column in zip(*parts, strict=True))
    assert lefts[1:] == pytest.approx([lefts[0] + widths[0], lefts[0] + widths[0] + widths[1]], abs=0.2)
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.3)


def test_before_the_end_times_are_those_of_their_file(tmp_path):
    runs = [write_run(tmp_path / name, rows=journal()[:-1]) for name in ("a", "b")]
    assert "Seconds by phase" not in page([read_run(run) for run in runs])
    (runs[0] / "times.json").write_text(json.dumps({"phases": TIME, "counted": 30.0}))
    read = [read_run(run) for run in runs]
    assert (read[0].goodput, read[1].goodput, read[1].phases) == (0.3, None, {})
    text = page(read)
    Checker(text)
    assert ">30.0%<" in text
    assert "Share of time waiting for data: no number yet" in text


def test_the_command_refuses_what_is_no_run(tmp_path, monkeypatch):
    (tmp_path / "runs/one").mkdir(parents=True)
    (tmp_path / "runs/one/config.yaml").write_text("{}")
    for arguments, words in (
        ([str(tmp_path / "absent")], "no such directory"),
        ([str(tmp_path / "runs")], "holds the runs one"),
        ([str(tmp_path / "runs/one"), str(tmp_path / "runs/one")], "--output FILE"),
        ([str(tmp_path / "runs/one"), "--output", "a.pdf"], "ends in .html"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            main(arguments)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="one: is not writable: say with --output FILE where to write"):
        main([str(tmp_path / "runs/one"), "--words"])
    monkeypatch.undo()
    main([str(tmp_path / "runs/one")])
    assert (tmp_path / "runs/one/report.html").is_file()


def test_data_of_the_run_are_shown(tmp_path):
    run = write_run(tmp_path / "run", rows=journal())
    split = {"rows": 4, "examples": 4, "median_length": 3.0, "longest": 9, "at_limit": 1, "lengths": [["1", 3], ["2", 1]]}
    data = {"splits": {"train": {**split, "labels": {"a": 3, "b": 1}}, "test": {**split, "labels": {"a": 1, "b": 3}}}}
    (run / "figures.json").write_text(json.dumps(data))
    text = page([read_run(run)])
    Checker(text)
    assert "1 (25.0%)" in text
    assert "test 50.0%" in text  # half of the labels would have to change


def test_pictures_and_tables_have_names_keys_reach_what_scrolls_and_dark_mode_has_every_colour(tmp_path):
    rows = [prediction("a", "b", 0.9, "text"), prediction("b", "b", 0.8, "more")]
    text = page([read_run(write_run(tmp_path / "run", rows=journal(), predictions=rows))])
    pictures = re.findall("<svg[^>]*>", text)
    scrolled = re.findall('<div class="scroll"[^>]*>', text)
    assert len(pictures) > 3
    assert len(scrolled) > 1
    assert all('role="img"' in x and re.search('aria-label="[^"]+"', x) for x in pictures)
    assert all('tabindex="0"' in x and re.search('aria-label="[^"]+"', x) for x in scrolled)
    light, dark = re.search(r":root{(.*?)}\n@media \(prefers-color-scheme:dark\){:root{(.*?)}}", text, re.DOTALL).groups()
    assert re.findall("--[a-z0-9]+(?=:)", light) == re.findall("--[a-z0-9]+(?=:)", dark)
