"""python -m jaxft.predict RUN_OR_MODEL_DIR --input FILE --output FILE: csv or jsonl in; jsonl out, one row a row."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from jaxft import cli, runtime
from jaxft.errors import UserError


def main(argv: list[str]) -> None:
    """Write the task's answer to every input row, such as label, score and scores, in its order."""
    parser = cli.Parser(prog="python -m jaxft.predict", description=__doc__)
    parser.add_argument("model", metavar="RUN_OR_MODEL_DIR")
    parser.add_argument("--input", required=True, metavar="FILE", help="csv, tsv, json, jsonl, parquet or txt")
    parser.add_argument("--output", required=True, metavar="FILE", help="jsonl: label, score, scores; json: all at once")
    parser.add_argument("--text", help="column of the text (default: the run's, else text)")
    parser.add_argument("--text_pair", help="column of the second text (default: the run's)")
    parser.add_argument("--question", help="column of the question (default: the run's, else question)")
    parser.add_argument("--context", help="column of the question's context (default: the run's, else context)")
    parser.add_argument("--max_length", type=int, help="tokens a text is cut to (default: the run's data.max_length)")
    parser.add_argument("--batch_size", type=int, help="examples a step (default: the run's eval.batch_size)")
    args = parser.parse_args(argv)
    output = Path(args.output)
    _check_output(output)
    runtime.start(distributed="off")
    from jaxft import inference
    from jaxft.models.files import write_directory

    config = inference.base_config(args.model)
    given = {"text": args.text, "text_pair": args.text_pair, "max_length": args.max_length}
    given |= {"question": args.question, "context": args.context}
    for name, least in {"batch_size": 1, "max_length": 3}.items():
        if (value := getattr(args, name)) is not None and value < least:
            raise UserError(f"--{name} is {value}: must be at least {least}")
    config = replace(
        config,
        data=replace(
            config.data, dataset=None, test=args.input, empty_texts="error", **{k: v for k, v in given.items() if v}
        ),
        eval=replace(config.eval, batch_size=args.batch_size or config.eval.batch_size),
    )
    config = inference.with_task(args.model, config)
    rows = inference.read(config, "test", labelled=False)
    opened = inference.open_model(args.model, config)
    predictions = list(inference.predict(opened, rows, "test"))

    def write(path: Path) -> None:
        with open(path, "w", encoding="utf-8") as file:
            if output.suffix == ".json":
                json.dump(opened.task.document(predictions), file, ensure_ascii=False, indent=1)
                return
            for row in predictions:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    if output.exists() and not output.is_file():  # /dev/stdout or a pipe: written to, not replaced
        try:
            write(output)
        except OSError as error:
            raise UserError(f"{output}: cannot be written: {error.strerror}") from error
    else:
        write_directory(output.parent, {output.name: write})
    print(f"wrote {len(predictions)} predictions to {output}", file=sys.stderr)


def _check_output(path: Path) -> None:
    """Refuse before the work what cannot be written after it."""
    if path.is_dir():
        raise UserError(f"--output {path}: is a directory; give a file name")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--output {path}: {folder} is not a writable directory")


if __name__ == "__main__":
    cli.run_main(main)
