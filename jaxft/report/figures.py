"""What is known about a run besides its curves: results, data, options, versions and how to make it again."""

from collections.abc import Mapping
from typing import Any

from jaxft.report.markup import Markup, element, number, section, table
from jaxft.report.plot import bar_chart
from jaxft.report.run_files import RunFiles

_GOOD = ("accuracy", "f1", "macro_f1", "micro_f1", "exact_match", "mcc", "pearson", "spearman", "loss")
MOST_LABELS = 40


def results(run: RunFiles) -> Markup:
    """The scores of the selected parameters by split."""
    found = run.results
    if not found:
        return section("Results", element("p", "There is no evaluation yet."))
    rows: dict[str, dict[str, Any]] = {}
    for name, value in found.items():
        split, _, score = name.partition("/")
        rows.setdefault(score, {})["validation" if split == "eval" else split] = value
    splits = [x for x in ("validation", "test") if any(x in row for row in rows.values())]
    order = sorted(rows, key=lambda x: _GOOD.index(x) if x in _GOOD else len(_GOOD))
    cells = [[score, *(number(rows[score].get(x)) for x in splits)] for score in order]
    step = run.final.get("selected_step")
    about = f"Of the parameters of step {step:,}." if step is not None else "Of the latest evaluation; the run goes on."
    return section("Results", table(["score", *splits], cells, label="Scores"), about=about)


def distillation(run: RunFiles) -> Markup:
    """Sizes, speeds and scores of teacher and student; nothing for another run."""
    found = run.distillation
    names = [name.removeprefix("student_") for name in found if name.startswith("student_")]
    if not names:
        return Markup()
    cells = [[name.replace("_", " "), *(number(found.get(f"{x}_{name}")) for x in ("teacher", "student"))] for name in names]
    share = found.get("share")
    about = None if share is None else f"The student has {share:.1%} of the teacher's {names[0].replace('_', ' ')}."
    return section("Teacher and student", table(["", "teacher", "student"], cells, label="Teacher and student"), about=about)


def data(run: RunFiles) -> Markup:
    """Sizes, lengths, truncation and labels of the splits."""
    found: Mapping[str, Mapping[str, Any]] = run.figures.get("splits", {})
    splits = {name: found[name] for name in ("train", "validation", "test") if name in found}
    if not splits:
        return Markup()
    head = ["split", "rows", "examples", "median tokens", "longest", "at data.max_length", "repeated", "also in train"]
    rows = []
    for name, x in splits.items():
        cut = x.get("at_limit")
        share = "-" if cut is None else f"{cut:,} ({cut / max(1, x['examples']):.1%})"
        figures = (number(x.get(key)) for key in ("rows", "examples", "median_length", "longest"))
        rows.append([name, *figures, share, number(x.get("repeated")), number(x.get("in_train"))])
    parts = [table(head, rows, label="Splits of the data")]
    charts = [
        bar_chart([(low, count) for low, count in x["lengths"]], label=f"Lengths, {name}", x_label="tokens")
        for name, x in splits.items()
        if x.get("lengths")
    ]
    parts.append(element("div", charts, class_="grid"))
    padding = run.figures.get("padding")
    about = None if padding is None else f"Padding in the batches of the first epoch: {padding:.1%}."
    return section("Data", *parts, *_labels(splits), about=about)


def _labels(splits: Mapping[str, Mapping[str, Any]]) -> list[Markup]:
    """The share of each label in each split; of many labels, those whose shares differ most between the splits."""
    counts = {name: x["labels"] for name, x in splits.items() if x.get("labels")}
    if not counts:
        return []
    totals = {name: max(1, sum(x.values())) for name, x in counts.items()}
    names = list(dict.fromkeys(label for x in counts.values() for label in x))
    shares = {label: [counts[x].get(label, 0) / totals[x] for x in counts] for label in names}
    shown = sorted(names, key=lambda label: min(shares[label]) - max(shares[label]))[:MOST_LABELS]
    cells = [
        [label, *(f"{counts[x].get(label, 0):,} ({share:.1%})" for x, share in zip(counts, shares[label], strict=True))]
        for label in shown
    ]
    drift = [f"{name} {sum(abs(row[i] - row[0]) for row in shares.values()) / 2:.1%}" for i, name in enumerate(counts) if i]
    about = f"Share of labels that would have to change to match the training data: {', '.join(drift)}." if drift else ""
    more = f" The {len(shown)} labels whose shares differ most, of {len(names):,}." if len(shown) < len(names) else ""
    return [
        element("h3", "Labels of the splits"),
        element("p", f"{about}{more}", class_="about"),
        table(["label", *counts], cells, label="Labels of the splits"),
    ]


def plan(run: RunFiles) -> Markup:
    """Which parameters were trained, and how."""
    groups = run.figures.get("groups", [])
    if not groups:
        return Markup()
    head = ["parameters", "number", "learning rate", "decay", "from step"]
    keys = ("parameters", "highest_learning_rate", "weight_decay", "unfreeze")
    rows = [[x["pattern"], *(number(x.get(key)) for key in keys)] for x in groups]
    frozen = run.figures.get("frozen_parameters")
    rows += [["frozen", number(frozen), "-", "-", "-"]] if frozen else []
    return section("Plan", table(head, rows, label="Parameter plan"))


def options(run: RunFiles, text: str) -> Markup:
    """The config as it was resolved, versions, and the command that makes the run again."""
    versions = run.figures.get("versions", {})
    known = [table(["package", "version"], versions.items(), label="Versions", numbers_from=99)] if versions else []
    command = element("pre", element("code", "python -m jaxft.train config.yaml --output_dir NEW_DIRECTORY"))
    return section(
        "How to reproduce",
        element("p", "With the options below as config.yaml, the same data and the same versions:"),
        command,
        *known,
        element("details", element("summary", "config.yaml"), element("pre", element("code", text), tabindex="0")),
    )
