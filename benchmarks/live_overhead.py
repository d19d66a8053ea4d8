"""What seeing a run costs a step: callbacks, a line and a row of metrics.jsonl at every step, against none of them.

    python -m benchmarks.live_overhead [--steps 100] [--rounds 20]

One run trains a small model, a step of which takes about 10 ms on two idle cores. It alternates between blocks of steps
without any callback, blocks with those of a run (journal, times, display) and three of a user's, which log every step, and
blocks in which TensorBoard logs every step, too. The seconds of a step are those of the clock. "host" is the processor time
of the thread that runs the loop and the callbacks, which depends less on what else the machine does, and "cost" its
difference from the side without callbacks.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.command import make_parser
from benchmarks.memory import WORDS, write_texts

BATCH, LENGTH = 16, 32
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 5 + len(WORDS),
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": LENGTH,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SIDES = ("none", "live", "live, TensorBoard")
WARM = 50  # steps before the first block


def write_model(directory: Path) -> None:
    """Write a small BERT with random weights and a vocabulary of the words of the texts."""
    import jaxft
    from jaxft.core import tree
    from jaxft.models.model import make_model

    model, rng = make_model(CONFIG, "feature-extraction", "small"), np.random.default_rng(0)
    params = tree.map_with_path(lambda _, x: rng.normal(0, 0.02, x.shape).astype(np.float32), model.abstract())
    jaxft.save(model, params, directory)
    (directory / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')


def measure(folder: Path, steps: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds, seconds of the loop's thread) per step of every block of each side, in pairs in random order."""
    import jaxft
    from jaxft.train import train
    from jaxft.training import notify, step_metrics
    from jaxft.training.callbacks import Step
    from jaxft.training.tensorboard import TensorBoard

    found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    rng = np.random.default_rng(0)
    order = [str(side) for _ in range(rounds) for side in rng.permutation(SIDES)]
    parts: dict[str, Any] = {}

    class Counts(jaxft.Callback):
        """A callback of a user's that has something to do in every event of a step."""

        def on_step(self, step: Step) -> None:
            self.last = step.loss

        def on_log(self, row: Any) -> None:
            self.row = dict(row)

    class Switch(jaxft.Callback):
        """Changes sides after each block; it is called on both."""

        def on_step(self, step: Step) -> None:
            block, place = divmod(step.number - WARM, steps)
            if place or block < 0:
                return
            now = (time.perf_counter(), time.thread_time())
            if block:
                clock, thread = (b - a for a, b in zip(parts["begin"], now, strict=True))
                found[order[block - 1]].append((clock / steps, thread / steps))
            turn(order[block] if block < len(order) else "live")
            parts["begin"] = (time.perf_counter(), time.thread_time())

    switch, users = Switch(), [Counts() for _ in range(3)]

    def turn(side: str) -> None:
        notified, metrics = parts["notify"], parts["metrics"]
        own = parts["own"] if side == SIDES[2] else [x for x in parts["own"] if not isinstance(x, TensorBoard)]
        notified._own, notified._users = ([], [switch]) if side == "none" else (own, [*users, switch])
        metrics._every = 10**9 if side == "none" else 1

    def remembered(kind: type, name: str) -> None:
        made = kind.__init__

        def init(self: Any, *args: Any, **options: Any) -> None:
            made(self, *args, **options)
            parts[name] = self

        kind.__init__ = init

    remembered(notify.Notify, "notify")
    remembered(step_metrics.StepMetrics, "metrics")
    begun = notify.Notify.start

    def start(self: notify.Notify, states: dict[str, Any]) -> None:
        begun(self, states)
        parts["own"] = self._own

    notify.Notify.start = start  # type: ignore[method-assign]
    total = WARM + len(order) * steps + 1
    trainer = jaxft.Trainer(
        model={"path": str(folder / "model")},
        data={"train": str(folder / "train.csv"), "max_length": LENGTH, "validation": None},
        train={"batch_size": BATCH, "max_steps": total},
        eval={"every": "end"},
        checkpoint={"every": "end"},
        log={"every": 1, "trackers": ["tensorboard"]},
        optim={"learning_rate": 1e-4},
        output_dir=str(folder / "run"),
    )
    with open(folder / "lines.txt", "w") as lines, redirect_stderr(lines):
        train(trainer.config, callbacks=[*users, switch])
    return found


def main(argv: Sequence[str]) -> None:
    """Measure, and write the row."""
    parser = make_parser(__doc__, "live_overhead.json", rounds=20)
    parser.add_argument("--steps", type=int, default=100, help="steps of a block")
    args = parser.parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        write_texts(folder, 40 * BATCH, LENGTH)
        found = measure(folder, args.steps, args.rounds)
    rows = record.compare({side: [clock for clock, _ in own] for side, own in found.items()}, "none")
    for side, own in found.items():
        rows[side]["host"] = record.spread(thread for _, thread in own)
        rows[side]["cost"] = record.spread(b - a for (_, a), (_, b) in zip(found["none"], own, strict=True))
        print(side, rows[side], flush=True)
    record.add(args.output, {"what": "step", "steps": args.steps, "rows": rows}, "what", "processor")


if __name__ == "__main__":
    main(sys.argv[1:])
