"""The end of a distillation: sizes, speeds and scores of student and teachers are printed, recorded and reported."""

import json
from contextlib import redirect_stderr
from io import StringIO

import pytest

import jaxft
from jaxft import evaluate
from jaxft.core import tree
from jaxft.report.run_files import read_run
from jaxft.train import train
from jaxft.training.teacher_comparison import Comparison, Measured
from tests.support import read_jsonl, tiny

TEACHER = Measured("teacher", 1_000, 4_000, 50.0, 0.8)
STUDENT = Measured("student", 400, 1_600, 100.0, 0.6)


@pytest.fixture(scope="module")
def distilled(finished, tiny_data, tmp_path_factory):
    """(the directory of a student's run from the run of its teacher, its results, what it printed)."""
    output, printed = tmp_path_factory.mktemp("distilled") / "run", StringIO()
    sections = {
        "model": {"num_layers": 1, **tiny.NO_DROPOUT},
        "train": {"epochs": 1},
        "data": {"test": str(tiny_data / "test.csv")},
    }
    config = tiny.run_config(finished / "model", tiny_data, output, distill={"teacher": str(finished)}, **sections)
    with redirect_stderr(printed):
        results = train(config)
    return output, results, printed.getvalue()


def test_the_numbers_are_those_of_both_models(distilled, finished, tiny_data):
    output, results, _ = distilled
    for name, directory in (("teacher", finished), ("student", output)):
        size = tree.count(jaxft.load(str(directory / "model"))[1])
        assert results[f"distill/{name}_parameters"] == size
        assert results[f"distill/{name}_megabytes"] == pytest.approx(4 * size / 1e6)
        assert results[f"distill/{name}_examples_per_second"] > 0
    assert results["distill/student_accuracy"] == results["test/accuracy"]
    found = evaluated(finished, tiny_data)
    assert results["distill/teacher_accuracy"] == pytest.approx(found["accuracy"])
    assert results["distill/share"] == pytest.approx(results["test/accuracy"] / found["accuracy"])


def evaluated(directory, data):
    return evaluate.main([str(directory), "--data.validation", str(data / "test.csv")])


def test_they_are_printed_recorded_and_reported(distilled):
    output, results, printed = distilled
    lines = printed.splitlines()
    begin = lines.index("teacher and student on the test data (30 examples):")
    assert lines[begin + 1].split() == ["parameters", "size", "examples/s", "accuracy"]
    share, parameters = (f"{results['distill/share']:.1%}", f"{results['distill/student_parameters']:,}")
    assert lines[begin + 3].split()[:2] == ["student", parameters]
    assert lines[begin + 4].startswith(f"the student has {share} of the teacher's accuracy, ")
    numbers = {name: x for name, x in results.items() if name.startswith("distill/")}
    final = read_jsonl(output / "metrics.jsonl")[-1]
    stored = json.loads((output / "all_results.json").read_text())
    for name, x in numbers.items():
        assert final[name] == pytest.approx(x, rel=1e-5)
        assert stored[name.replace("/", "_")] == x
    assert not any("distill" in name for name in read_run(output).results)
    page = (output / "report.html").read_text()
    assert "Teacher and student" in page
    assert f"The student has {share}" in page


def test_scores_where_lower_is_better_have_no_share():
    found = Comparison("validation", 9, "loss", False, STUDENT, (TEACHER,))
    assert found.share is None
    assert "distill/share" not in found.results()
    assert found.lines()[-1] == "the student has 40.0% of the teacher's parameters and 2.0 times its speed"


def test_several_teachers_are_compared_by_the_best_and_cost_what_all_cost():
    other = Measured("teacher b", 1_000, 4_000, 50.0, 0.75)
    found = Comparison("test", 9, "accuracy", True, STUDENT, (other, TEACHER))
    assert found.share == pytest.approx(0.75)
    assert found.together == (2_000, 8_000, 25.0)
    said = "the student has 75.0% of the best teacher's accuracy, 20.0% of the teachers' parameters and 4.0 times"
    assert found.lines()[-1] == f"{said} their speed"
