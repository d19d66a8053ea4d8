"""jaxft self_train CONFIG.yaml --unlabelled FILE [--rounds 3]: train in rounds on texts without labels.

Round 0 is the run of the config. Each later round is a run on its rows and on pseudo-labels: those predictions of the round
before for the texts of FILE whose probability reaches a threshold. The same command resumes.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jaxft.config import CleanConfig, Config, cli, help
from jaxft.core import backend
from jaxft.core.errors import UserError, naming, some
from jaxft.core.paths import refuse_url

COMMAND = help.Command(
    "jaxft self_train",
    "CONFIG.yaml --unlabelled FILE",
    own={
        "--unlabelled FILE": "Texts without labels, in the columns of the config: csv, tsv, json, jsonl, parquet or txt.",
        "--rounds N (3)": "Number of rounds after round 0.",
        "--threshold P (0.9)": "Smallest probability of a prediction that becomes a label.",
        "--most_per_class N": "Largest number of pseudo-labels of each class in a round, the most probable ones (no limit).",
        "--student START (pretrained)": "Where each round starts: from the pretrained model, or from the previous round.",
    },
    note="The other options are those of jaxft train; output_dir gets a run directory round-N and, from round 1, a file "
    "pseudo_labels-N.jsonl for each round.",
)
SHOWN = 20  # classes whose pseudo-labels a line counts
LABELLED, VALIDATION, TEST = "labelled.jsonl", "validation.jsonl", "test.jsonl"


@dataclass(frozen=True)
class Options:
    """Options of self-training; `COMMAND.own` describes them."""

    rounds: int = 3
    threshold: float = 0.9
    most_per_class: int | None = None
    student: Literal["pretrained", "previous"] = "pretrained"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UserError(f"--rounds is {self.rounds}: must be at least 1")
        if not 0 <= self.threshold <= 1:
            raise UserError(f"--threshold is {self.threshold}: must be a probability, from 0 to 1")
        if self.most_per_class is not None and self.most_per_class < 1:
            raise UserError(f"--most_per_class is {self.most_per_class}: must be at least 1")


def main(argv: list[str]) -> None:
    """Train all rounds, and print the scores of each."""
    cli.show_help(argv, COMMAND)
    parser, default = cli.Parser(prog=COMMAND.name, add_help=False), Options()
    parser.add_argument("--unlabelled", required=True)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--threshold", type=float, default=default.threshold)
    parser.add_argument("--most_per_class", type=int)
    parser.add_argument("--student", choices=("pretrained", "previous"), default=default.student)
    args, rest = parser.parse_beside_config(argv)
    options = Options(args.rounds, args.threshold, args.most_per_class, args.student)
    config = cli.load(rest, COMMAND)
    backend.start(distributed="off", precision=config.runtime.precision, compile_cache=config.runtime.compile_cache)
    from jaxft.training.display import shown_number

    told = []
    for number, results in enumerate(self_train(config, args.unlabelled, options)):
        scores = [f"{name} {shown_number(value)}" for name, value in results["scores"].items()] or ["no scores"]
        rows = f" ({results['pseudo_labels']:,} pseudo-labels)" if number else ""
        told.append(f"round {number}{rows}: {', '.join(scores)}")
    print("; ".join(told))


def self_train(config: Config, unlabelled: str, options: Options | None = None) -> list[Mapping[str, Any]]:
    """Train all rounds in `config.output_dir`; if it holds some of them already, resume there.

    A round without any pseudo-label is not trained, and is the last one.

    Returns:
      {scores: {name: value}, pseudo_labels: number of rows} of each round, from round 0.

    Raises:
      UserError: if the task does not have one label per text, data are missing or malformed, or the directory holds other
        runs.
    """
    from jaxft.data.reading import files
    from jaxft.evaluation import inference
    from jaxft.run import labelled_rows
    from jaxft.run.series import Series
    from jaxft.tasks.labels import label_columns

    options = options or Options()
    refuse_url("output_dir", config.output_dir)
    labelled_rows.check_single_label(config, COMMAND.name, "which self-training does not support")
    if options.student == "previous" and {"lora", "adapters"} & set(config.plan.presets()):
        raise UserError("--student is previous, but a run cannot start from adapters: must be pretrained")
    if config.data.clean != CleanConfig():
        raise UserError("data.clean would clean pseudo-labelled texts twice: write clean files first (jaxft clean)")
    config = replace(config, runtime=replace(config.runtime, distributed="off"))
    columns = {config.data.text, config.data.text_pair, *label_columns(config.data)}
    if taken := [name for name in ("probability", "row") if name in columns]:
        raise UserError(f'column "{taken[0]}": pseudo-labels have a column of that name; rename that of the data')
    texts = replace(config, data=replace(config.data, dataset=None, test=unlabelled, max_eval_examples=None))
    with naming("--unlabelled", instead_of="data.test"):
        paths = files.files_of(texts.data, "test")
        rows = inference.read_split(texts, "test", labelled=False)
    labelled = labelled_rows.read_labelled(config)
    with Series(Path(config.output_dir), config, COMMAND.name, vars(options), {"--unlabelled": paths}) as series:
        rows = _without_labelled(rows, labelled, unlabelled)
        return _Rounds(labelled, texts, rows, options, series).all()


@dataclass(frozen=True)
class _Rounds:
    """The rounds of self-training.

    Attributes:
      labelled: the labelled rows, with the config of the run.
      texts, unlabelled: the config whose test split is the texts without labels, and their rows.
      options: of the command.
      series: the directory of the rounds.
      said: the lines that the rounds have printed so far.
    """

    labelled: Any
    texts: Config
    unlabelled: Any
    options: Options
    series: Any
    said: set[str] = field(default_factory=set)

    def all(self) -> list[Mapping[str, Any]]:
        """The results of all rounds, after training those that have not finished."""
        done: list[Mapping[str, Any]] = []
        for number in range(self.options.rounds + 1):
            name = f"round-{number}"
            if (results := self.series.results(name)) is None:
                print(f"round {number} of {self.options.rounds}", file=sys.stderr, flush=True)
                if (results := self._round(number)) is None:
                    reached = f"no text reaches the probability {self.options.threshold}"
                    print(f"round {number}: {reached}; this ends the rounds", file=sys.stderr)
                    break
                self.series.finish(name, results)
            done.append(results)
        return done

    def _round(self, number: int) -> Mapping[str, Any] | None:
        """Train a round; None if there are no pseudo-labels to train it on."""
        from jaxft.train import train

        config, counts = self._config(number), {}
        if number:
            path = self._pseudo_labels(number)
            counts = self._counts(path)
            if not any(counts.values()):
                return None
            told = some([f"{label} {count:,}" for label, count in counts.items()], SHOWN)
            print(f"round {number}: {sum(counts.values()):,} pseudo-labels in {path}: {told}", file=sys.stderr, flush=True)
            if missing := [label for label, count in counts.items() if not count]:
                names = f"{len(missing)} of {len(counts)} classes get no pseudo-label ({some(missing)})"
                print(f"round {number}: {names}; a lower --threshold may give them some", file=sys.stderr)
        shown = {f"{split}/{metric}" for split in ("eval", "test") for metric in (self._metric, "accuracy")}
        scores = {name: value for name, value in train(config, said=self.said).items() if name in shown}
        of_classes = {"pseudo_labels_by_class": counts} if number else {}
        return {"scores": scores, "pseudo_labels": sum(counts.values()), **of_classes}

    def _counts(self, path: Path) -> dict[str, int]:
        """The number of pseudo-labels of each class in a file of them."""
        from jaxft.tasks.labels import label_column

        column = label_column(self.texts.data)
        with open(path, encoding="utf-8") as file:
            found = Counter(json.loads(line)[column] for line in file)
        return {label: found[label] for label in self.labelled.rows.task.labels}

    @property
    def _metric(self) -> str:
        return self.texts.eval.metric or self.labelled.rows.task.metric

    def _directory(self, number: int) -> Path:
        return self.series.directory / f"round-{number}"

    def _file(self, number: int) -> Path:
        return self.series.directory / f"pseudo_labels-{number}.jsonl"

    def _config(self, number: int) -> Config:
        """The config of a round."""
        from jaxft.run.labelled_rows import write_rows

        data, folder = self.labelled.config.data, self.series.directory
        train = [
            write_rows(folder / LABELLED, self.labelled.json_rows("train")),
            *([str(self._file(number))] if number else []),
        ]
        others = {}
        if "validation" in self.labelled.rows.rows and (data.validation_share or data.dataset):
            others["validation"] = write_rows(folder / VALIDATION, self.labelled.json_rows("validation"))
        if "test" in self.labelled.rows.rows and data.dataset:
            others["test"] = write_rows(folder / TEST, self.labelled.json_rows("test"))
        config = self.labelled.run_config(self._directory(number), train, others)
        if number and self.options.student == "previous":
            model = str(self._directory(number - 1) / "model")
            whole = {"revision": None, "layers": None, "from_scratch": False, "config": {}, "embeddings": None}
            config = replace(config, model=replace(config.model, path=model, **whole))
        return config

    def _pseudo_labels(self, number: int) -> Path:
        """The file of pseudo-labels of a round, which the round before predicts unless the file is there."""
        import numpy as np

        from jaxft.data.reading.row_numbers import row_numbers, select_rows
        from jaxft.evaluation import inference, pseudo_labels
        from jaxft.run.labelled_rows import write_rows
        from jaxft.tasks import texts
        from jaxft.tasks.labels import label_column

        path = self._file(number)
        if path.exists():
            return path
        previous = str(self._directory(number - 1))
        config = inference.config_with_task(previous, self.texts)
        rows, opened = self.unlabelled, inference.load_for_inference(previous, config)
        probabilities = inference.probabilities(opened, rows, "test")
        chosen = pseudo_labels.choose(probabilities, self.options.threshold, self.options.most_per_class)
        best, names = probabilities[chosen].argmax(1), opened.task.labels or ()
        taken, columns = select_rows(rows, chosen), texts.columns(config.data)
        values = texts.of_rows(taken, config.data)
        label, numbers = label_column(config.data), row_numbers(rows)[chosen]
        shown = np.char.mod("%.9g", probabilities[chosen, best]).astype(float)
        write_rows(
            path,
            (
                {**dict(zip(columns, row, strict=True)), label: names[i], "probability": float(p), "row": int(n)}
                for row, i, p, n in zip(values, best, shown, numbers, strict=True)
            ),
        )
        return path


def _without_labelled(rows: Any, labelled: Any, where: str) -> Any:
    """The rows whose texts are in no labelled split: their labels are known, or must not be learned.

    Raises:
      UserError: if none is left.
    """
    import numpy as np

    from jaxft.data.reading.row_numbers import select_rows
    from jaxft.tasks import texts

    data = labelled.config.data
    known = {row for split in labelled.rows.rows.values() for row in texts.of_rows(split, data)}
    keep = np.flatnonzero([row not in known for row in texts.of_rows(rows, data)])
    if not len(keep):
        raise UserError(f"--unlabelled {where}: every text has a label in the data of the config")
    if left_out := len(rows) - len(keep):
        print(f"{where}: {left_out:,} texts that have a label are left out", file=sys.stderr)
    return select_rows(rows, keep)


if __name__ == "__main__":
    cli.run_main(main)
