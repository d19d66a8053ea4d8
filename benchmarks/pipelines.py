"""`jaxft.pipeline`, transformers' pipeline and onnxruntime in turn: the first answer, one text, many texts, a whole command.

python -m benchmarks.pipelines RUN_DIR [--texts 3000] [--rounds 5]

Short texts are banking77's test questions, long ones reviews of IMDB with 256 tokens. transformers and onnxruntime get texts
sorted by length, in their best batch size of several; onnxruntime runs the model that `jaxft.export` writes, in float32 and
in int8. The first answer and the command are those of new processes, with imports and a warm compile cache.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.command import make_parser
from benchmarks.domains import imdb
from benchmarks.tables import read_table, write_rows
from jaxft.config import cli

BATCHES = (1, 8, 32, 128)
SOME = 128  # texts by which the best batch size is chosen
REVIEWS, REVIEW_TOKENS = 200, 256
OF_A_COMMAND = 1000  # texts
ONE = "I lost my card and need a new one, how long does it take?"
FIRST = {
    "jaxft": "import jaxft; print(jaxft.pipeline({!r})({!r}))",
    "transformers": "import transformers; print(transformers.pipeline('text-classification', model={!r})({!r}))",
}
Classify = Callable[[Sequence[str], int], list[str]]  # (texts, batch size) -> labels


def seconds(call: Callable[[], Any]) -> float:
    """The duration of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def first_answer(side: str, model: str) -> float:
    """Seconds from the start of a process to its first answer and its end."""
    return seconds(
        lambda: subprocess.run([sys.executable, "-c", FIRST[side].format(model, ONE)], check=True, capture_output=True)
    )


def command(model: str, texts: Path, output: Path) -> float:
    """Seconds of `jaxft predict`."""
    output.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "jaxft.predict", model, "--input", str(texts), "--output", str(output)]
    return seconds(lambda: subprocess.run(argv, check=True, capture_output=True))


def of_transformers(model: str, max_length: int) -> Classify:
    """The labels by transformers' pipeline, in PyTorch."""
    import transformers

    pipe: Any = transformers.pipeline("text-classification", model=model)
    return lambda texts, size: [x["label"] for x in pipe(texts, batch_size=size, truncation=True, max_length=max_length)]


def of_onnxruntime(folder: Path, max_length: int) -> Classify:
    """The labels by onnxruntime and the tokenizer, from the directory that `jaxft.export` has written."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    names = [x.name for x in session.get_inputs()]

    def classify(texts: Sequence[str], size: int) -> list[str]:
        found = []
        for begin in range(0, len(texts), size):
            rows = tokenizer.encode_batch(list(texts[begin : begin + size]))
            inputs = {name: np.array([getattr(row, columns[name]) for row in rows]) for name in names}
            found += [labels[str(i)] for i in session.run(["logits"], inputs)[0].argmax(-1)]
        return found

    return classify


def exported(model: str, folder: Path) -> dict[str, Path]:
    """The directories of the model in ONNX, by what they are called here."""
    from jaxft import export

    for dtype in ("float32", "int8"):
        options = [] if dtype == "float32" else ["--dtype", dtype, "--max_drop", "1"]
        export.main([model, "--format", "onnx", *options, "--output", str(folder / dtype)])
    return {"onnxruntime": folder / "float32", "onnxruntime, int8": folder / "int8"}


def many(model: str, onnx: dict[str, Path], texts: list[str], max_length: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(a timer of all texts for each side, the other sides' best batch sizes and shares of labels that are jaxft's)."""
    import jaxft

    ours = jaxft.pipeline(model, max_length=max_length).warm_up()
    sides = {"transformers": of_transformers(f"{model}/model", max_length)}
    sides |= {name: of_onnxruntime(folder, max_length) for name, folder in onnx.items()}
    texts, sizes, same = sorted(texts, key=len), {}, {}
    some = texts[:: max(1, len(texts) // SOME)]
    right = [x["label"] for x in ours(some)]
    timers: dict[str, Callable[[], float]] = {"jaxft": lambda: seconds(lambda: ours(texts))}
    for name, classify in sides.items():
        same[name] = float(np.mean([x == y for x, y in zip(classify(some, SOME), right, strict=True)]))
        assert same[name] > 0.99 or "int8" in name, f"{name} gives other labels: {same[name]:.1%} are the same"
        times = {size: seconds(partial(classify, some, size)) for size in BATCHES}
        sizes[name] = min(times, key=lambda size: times[size])
        timers[name] = partial(lambda classify, size: seconds(lambda: classify(texts, size)), classify, sizes[name])
    return timers, {"batch_sizes": sizes, "same_labels": same}


def main(argv: list[str]) -> None:
    """Measure, and write the rows; ratios are to jaxft in the same round."""
    import jaxft

    parser = make_parser(__doc__, "pipelines.json", rounds=5)
    parser.add_argument("run")
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--work", default="runs/pipelines")
    args = parser.parse_args(argv)
    questions = [row["text"] for row in read_table("configs/data/banking77/test.csv")][: args.texts]
    work = Path(args.work)
    reviews = [row["text"] for row in islice(imdb("test", work), 0, None, max(1, 25000 // REVIEWS))]
    rows = []

    def measure(what: str, timers: dict[str, Callable[[], float]], **more: Any) -> None:
        rows.append({"what": what, **record.compare(record.in_turn(timers, args.rounds), "jaxft"), **more})
        print(json.dumps(rows[-1]), flush=True)

    with TemporaryDirectory() as name:
        onnx = exported(args.run, Path(name))
        for what, texts, length in (("questions", questions, 64), ("reviews", reviews, REVIEW_TOKENS)):
            timers, more = many(args.run, onnx, texts, length)
            measure(f"{len(texts)} {what}", timers, **more)
        ours, theirs = jaxft.pipeline(args.run).warm_up(), of_transformers(f"{args.run}/model", 64)
        one = {
            "jaxft": lambda: min(seconds(lambda: ours(ONE)) for _ in range(20)),
            "transformers": lambda: min(seconds(lambda: theirs([ONE], 1)) for _ in range(20)),
        }
        measure("one text", one)
        measure("first answer", {side: partial(first_answer, side, f"{args.run}/model") for side in FIRST})
        some = write_rows(Path(name) / "texts.jsonl", ({"text": text} for text in questions[:OF_A_COMMAND]))
        measure(
            f"jaxft predict, {OF_A_COMMAND} texts", {"jaxft": partial(command, args.run, some, Path(name) / "found.jsonl")}
        )
    record.write(args.output, record.machine() | {"rows": rows})


if __name__ == "__main__":
    cli.run_main(main)
