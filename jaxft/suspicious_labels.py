"""jaxft suspicious_labels CONFIG.yaml --output FILE [--folds 5]: list training rows whose label is probably wrong.

The training rows are divided into folds. For each fold, a run of the config is trained on the other folds and predicts the
labels of this one, and confident learning (Northcutt et al. 2021) compares them with the given labels. Nothing is changed.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxft.config import Config, cli, help
from jaxft.core import backend, checksums
from jaxft.core.errors import UserError, some
from jaxft.core.output import STANDARD, check_output, writing
from jaxft.core.paths import is_url, refuse_url
from jaxft.core.random_streams import OfSeed

RULES = ("noise_rate", "class", "both", "confident", "all")
COMMAND = help.Command(
    "jaxft suspicious_labels",
    "CONFIG.yaml --output FILE.jsonl",
    own={
        "--output FILE": "jsonl file of the rows, least probable labels first; - writes to standard output.",
        "--folds N (5)": "Number of folds, which is the number of runs.",
        "--work DIR": "Directory of the runs, where the same command resumes (FILE.work).",
        "--rule RULE (noise_rate)": "Which rows are listed: noise_rate, class or both (as many as are estimated to be "
        "wrong), confident (those with a confident other label), or all.",
    },
    note="The options of jaxft train apply to the run of each fold, except output_dir and data.test.",
)
NEEDLESS = ("checkpoints", "frozen", "model", "tokenizer")  # of the run of a fold, once its predictions are written


def main(argv: list[str]) -> None:
    """Write the suspicious rows as JSON lines."""
    cli.show_help(argv, COMMAND)
    parser = cli.Parser(prog=COMMAND.name, add_help=False)
    parser.add_argument("--output", required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--work")
    parser.add_argument("--rule", choices=RULES, default="noise_rate")
    args, rest = parser.parse_beside_config(argv)
    from jaxft.data.formats.write_tables import refuse_inputs

    check_output(args.output)
    if (args.output == STANDARD or is_url(args.output)) and not args.work:
        raise UserError(f"--output is {args.output}: name the directory of the runs with --work")
    refuse_url("--work", args.work)
    if args.output != STANDARD and not args.output.endswith(".jsonl"):
        raise UserError(f"--output {args.output}: rows are written as json lines: give a name that ends in .jsonl")
    if args.folds < 2:
        raise UserError(f"--folds is {args.folds}: must be at least 2")
    config = cli.load(rest, COMMAND)
    refuse_inputs(config.data, [args.output])
    backend.start(distributed="off", precision=config.runtime.precision, compile_cache=config.runtime.compile_cache)
    from jaxft.run.labelled_rows import lines

    listed = suspicious_labels(config, args.folds, Path(args.work or f"{args.output}.work"), args.rule)
    with writing(args.output) as file:
        file.writelines(lines(listed))
    where = "standard output" if args.output == STANDARD else args.output
    print(f"wrote {len(listed):,} rows to {where}", file=sys.stderr)


def suspicious_labels(config: Config, folds: int, work: Path, rule: str = "noise_rate") -> list[dict[str, Any]]:
    """Cross-validate a run, and return the training rows whose label is probably wrong, least probable labels first.

    If the work directory holds some of the runs already, it resumes there. Of each finished run, its config, its
    metrics and its predictions stay, but no parameters.

    Args:
      config: the run; `data.validation_share` sets aside rows of the other folds.
      folds: the number of runs.
      work: the directory of the runs.
      rule: which rows are listed (see `confident_learning.suspicious`).

    Returns:
      {row: its number in the file from 1, file: if there are several, text, text_pair: of pairs, label, suggested_label,
      self_confidence: the probability of the label, margin: minus that of the most probable other label}.

    Raises:
      UserError: if the task does not have one label per text, or data are missing, malformed or too few.
    """
    from jaxft.run import labelled_rows
    from jaxft.run.series import Series

    labelled_rows.check_single_label(config, COMMAND.name, "whose rows do not have one label each")
    config = replace(config, runtime=replace(config.runtime, distributed="off"), data=replace(config.data, test=None))
    config = replace(config, log=replace(config.log, report=False, predictions=False))  # its runs leave their scores only
    whole = replace(config, data=replace(config.data, validation_share=0.0, stratify=False))
    validation = _CrossValidation(config, labelled_rows.read_labelled(whole), folds, work)
    validation.check()
    # The number of folds is in the names of their folders.
    with Series(work, config, COMMAND.name, {}):
        return list(validation.listed(rule))


@dataclass(frozen=True)
class _CrossValidation:
    """The runs of all folds.

    Attributes:
      config: the config of the run.
      labelled: the rows, all of them in the training split.
      folds, work: the number of runs and their directory.
      said: the lines that the runs have printed so far.
    """

    config: Config
    labelled: Any
    folds: int
    work: Path
    said: set[str] = field(default_factory=set)

    @cached_property
    def fold_of_row(self) -> Any:
        """The fold of each row, from 0, int [N]; rows with the same texts are in one fold."""
        from jaxft.core.random_streams import host_generator
        from jaxft.data.cleaning.confident_learning import fold_numbers
        from jaxft.tasks import texts

        columns = texts.columns(self.config.data)
        number_of: dict[tuple[str, ...], int] = {}
        groups = [number_of.setdefault(tuple(row[c] for c in columns), len(number_of)) for row in self.json_rows]
        if len(number_of) < self.folds:
            raise UserError(f"--folds is {self.folds}, but there are only {len(number_of)} different texts")
        import numpy as np

        generator = host_generator(self.config.data.split_seed, OfSeed.FOLDS)
        return fold_numbers(np.asarray(groups), self.labelled.label_ids("train"), self.folds, generator)

    def check(self) -> None:
        """Check that there is a text for each fold, and say which labels no fold can learn and judge.

        Raises:
          UserError: if there are too few texts.
        """
        import numpy as np

        names = self.labelled.rows.task.labels
        pairs = np.unique(np.stack([self.labelled.label_ids("train"), self.fold_of_row]), axis=1)
        alone = [names[i] for i in np.flatnonzero(np.bincount(pairs[0], minlength=len(names)) == 1)]
        if alone:
            print(
                f"labels that only one fold has, so that the run that predicts it cannot learn them: {some(alone)}",
                file=sys.stderr,
            )

    @cached_property
    def json_rows(self) -> list[Any]:
        return self.labelled.json_rows("train")

    def listed(self, rule: str) -> Iterator[dict[str, Any]]:
        """The rows that a rule lists, least probable labels first."""
        import numpy as np

        from jaxft.data.cleaning import confident_learning
        from jaxft.data.reading.row_numbers import locate, row_numbers, rows_per_file
        from jaxft.tasks import texts

        labels, rows = self.labelled.label_ids("train"), self.labelled.rows.rows["train"]
        names = self.labelled.rows.task.labels
        probabilities = self._probabilities(len(names)).astype(np.float64)
        self._tell_accuracy(probabilities.argmax(1) == labels, float(np.bincount(labels).max() / len(labels)))
        confidence = confident_learning.self_confidence(probabilities, labels)
        margins = confident_learning.margins(probabilities, labels)
        chosen = np.flatnonzero(confident_learning.suspicious(probabilities, labels, rule))
        numbers, files = row_numbers(rows), rows_per_file(rows)
        columns = dict(zip(("text", "text_pair"), texts.columns(self.config.data), strict=False))
        for i in chosen[np.argsort(confidence[chosen], kind="stable")]:
            file, number = locate(files, int(numbers[i]), "")
            yield {
                **({"file": file} if files else {}),
                "row": number,
                **{key: self.json_rows[i][column] for key, column in columns.items()},
                "label": names[labels[i]],
                "suggested_label": names[int(probabilities[i].argmax())],
                "self_confidence": float(f"{confidence[i]:.9g}"),
                "margin": float(f"{margins[i]:.9g}"),
            }

    def _tell_accuracy(self, right: Any, most_frequent: float) -> None:
        """Print and record how well the runs predict the given labels, which says whether they can judge these.

        Args:
          right: bool [N], whether the most probable label of each row is the given one.
          most_frequent: the share of the most frequent label.
        """
        of_folds = [float(right[self.fold_of_row == fold].mean()) for fold in range(self.folds)]
        found = {"folds": of_folds, "all": float(right.mean()), "most_frequent_label": most_frequent}
        with checksums.replacing(self.work / f"accuracy-of-{self.folds}.json") as file:
            file.write(json.dumps(found, indent=1).encode())
        folds = ", ".join(f"{accuracy:.4f}" for accuracy in of_folds)
        told = (
            f"accuracy of the folds {folds}; of all rows {found['all']:.4f} (the most frequent label: {most_frequent:.4f})"
        )
        poor = "; runs that predict no better than the most frequent label cannot judge labels"
        print(f"{told}{poor if found['all'] <= most_frequent else ''}", file=sys.stderr)

    def _probabilities(self, labels: int) -> Any:
        """The probability of each label, float32 [N, labels], each row predicted by the run that did not see it."""
        import numpy as np

        found = np.zeros((len(self.json_rows), labels), np.float32)
        for fold in range(self.folds):
            held = np.flatnonzero(self.fold_of_row == fold)
            found[held] = self._fold(fold, held, labels)
        return found

    def _fold(self, fold: int, held: Any, labels: int) -> Any:
        """The predictions for the rows `held`, float32 [held, labels], by the run of this fold, unless it has finished."""
        import numpy as np

        from jaxft.run.labelled_rows import write_rows
        from jaxft.train import train

        name = f"fold-{fold + 1}-of-{self.folds}"
        directory, predictions = self.work / name, self.work / f"{name}.npy"
        if not predictions.exists():
            print(f"fold {fold + 1} of {self.folds}", file=sys.stderr, flush=True)
            rest = [row for row, other in zip(self.json_rows, self.fold_of_row, strict=True) if other != fold]
            file = write_rows(self.work / f"{name}.jsonl", rest)
            config = self._fold_config(directory, file)
            train(config, said=self.said)
            found = self._predict(config, held)
            with checksums.replacing(predictions) as output:
                np.save(output, found)
        for leftover in NEEDLESS:
            shutil.rmtree(directory / leftover, ignore_errors=True)
        (self.work / f"{name}.jsonl").unlink(missing_ok=True)
        try:
            found = np.load(predictions)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{predictions}: is damaged; delete it and {directory}, and the same command resumes") from error
        if found.shape != (len(held), labels):
            raise UserError(
                f"{predictions}: has predictions for other rows; delete it and {directory}, and the same command resumes"
            )
        return found

    def _fold_config(self, directory: Path, file: str) -> Config:
        data, others = self.config.data, {}
        if data.dataset and data.validation:
            from jaxft.run.labelled_rows import write_rows

            rows = self.labelled.json_rows("validation")
            others["validation"] = write_rows(self.work / "validation.jsonl", rows)
        config = self.labelled.run_config(directory, [file], others)
        own = {"validation_share": data.validation_share, "stratify": data.stratify}
        return replace(config, data=replace(config.data, **own))

    def _predict(self, config: Config, held: Any) -> Any:
        from jaxft.data.reading.row_numbers import select_rows
        from jaxft.evaluation import inference

        opened = inference.load_for_inference(config.output_dir, inference.config_with_task(config.output_dir, config))
        return inference.probabilities(opened, select_rows(self.labelled.rows.rows["train"], held), "train")


if __name__ == "__main__":
    cli.run_main(main)
