"""jaxft hf run_glue|run_ner|run_qa|run_mlm|run_swag FLAGS: run with the flags of Hugging Face's example scripts.

It prints the jaxft option for each flag, then trains, evaluates and predicts as --do_train, --do_eval and --do_predict say.
"""

import json
import os
import sys
from typing import Any

from jaxft.config import cli, help
from jaxft.core import backend, distributed
from jaxft.core.errors import UserError, nearest
from jaxft.core.output import writing

PROG = "jaxft hf"


def main(argv: list[str]) -> dict[str, float]:
    """Run a script and return its results under Hugging Face's names (such as `eval_accuracy`)."""
    from jaxft.hf.convert import convert, limits_of
    from jaxft.hf.flags import COMMON
    from jaxft.hf.scripts import ABSENT, ALIASES, SCRIPTS

    names = ", ".join(SCRIPTS)
    if not argv or argv[0] in ("-h", "--help"):
        older = ", ".join(ALIASES)
        print(f"usage: {PROG} SCRIPT --flag value ...\n\n{__doc__}\nscripts: {names}, and their older names ({older})")
        return {}
    name = argv[0].removesuffix(".py")
    script = ALIASES.get(name, name)
    if script in ABSENT:
        raise UserError(f"{script}: trains {ABSENT[script]}, but jaxft fine-tunes encoders; its scripts are {names}")
    if script not in SCRIPTS:
        raise UserError(f'"{argv[0]}" is not a script that jaxft knows; the scripts are {names}{nearest(name, SCRIPTS)}')
    if help.topic(argv[1:]) is not None:
        print(f"usage: {PROG} {script} --flag value ...\n")
        for flag, settings in {**COMMON, **SCRIPTS[script].flags}.items():
            if not settings.ignored and not settings.refused:
                print(f"  --{flag:<30} {settings.option or settings.effect}")
        return {}
    if folder := _value(argv[1:], "cache_dir"):  # before huggingface_hub is imported
        os.environ["HF_HUB_CACHE"] = folder
    backend.start()
    job = convert(script, SCRIPTS[script], argv[1:], limits_of)
    if distributed.is_main_process():
        print(*job.lines, sep="\n", file=sys.stderr)
    return run(job)


def _value(argv: list[str], name: str) -> str | None:
    """The last value of a flag, without checking any other."""
    found = None
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        flag, given, _ = word.replace("-", "_").partition("=")
        if flag == f"__{name}":
            found = word.partition("=")[2] if given else following
    return found


def run(job: Any) -> dict[str, float]:
    """Train, evaluate and predict as the flags say, and write all_results.json; returns the results."""
    from jaxft import evaluate, predict, train

    config, directory = job.config, job.config.output_dir.rstrip("/")
    results: dict[str, Any] = train.train(config) if job.train else {}
    where = directory if job.train else str(config.model.path)
    if job.evaluate and not job.train:
        scores = evaluate.main([where, *job.evaluate_options])
        results = {f"eval/{name}": value for name, value in scores.items()}
    if job.predict:
        files = ["--input", str(job.test), "--output", f"{directory}/predictions.jsonl"]
        predict.main([where, *files, *job.predict_options])
    named = {name.replace("/", "_"): value for name, value in results.items() if isinstance(value, float)}
    if distributed.is_main_process():
        with writing(f"{directory}/all_results.json") as file:
            file.write(f"{json.dumps(named, indent=4, sort_keys=True)}\n".encode())
    return named


if __name__ == "__main__":
    cli.run_main(main)
