"""What options cost a training step: windows of one epoch each, in turn.

python -m benchmarks.costs augmentation|adversarial|multitask [--recipe configs/banking77.yaml] [--epoch 62] [--rounds 7]

Every side is a process that trains on the same examples. A window begins and ends in the middle of an epoch, so the whole
work of the thread for one epoch is inside it. "all words" trains the whole table of word embeddings, as augmentation does.
"""

import json
import sys
from contextlib import ExitStack

from benchmarks import record
from benchmarks.augmentation import ADVERSARIES, EDA, METHODS
from benchmarks.command import check_names, make_parser
from benchmarks.peers.__main__ import jaxft_side, started
from jaxft.config import cli

OPTIONS = ["--data.validation=null", "--data.test=null", "--checkpoint.every=end", "--log.progress=false"]
DROPOUT = ("--model.dropout=0.1", "--model.attention_dropout=0.1")  # which the recipe has not, and R-Drop needs
SIDES = {
    "augmentation": {
        "none": (),
        "none, all words": ("--runtime.skip_unused_words=false",),
        "swap, every example": (*METHODS["swap"], "--augment.share=1"),
        "eda, one step": METHODS["eda"],
        "eda, all steps, every example": (f"--augment.steps={EDA}", "--augment.share=1"),
    },
    # With a recipe of several tasks.
    "multitask": {"mixed": (), "one": ("--sampling.per_step=one",)},
    "adversarial": ADVERSARIES | {"dropout": DROPOUT, "r_drop": (*DROPOUT, "--regularization.r_drop=1")},
}


def main(argv: list[str]) -> None:
    """Measure all sides, and write their rows."""
    parser = make_parser(__doc__, "WHAT_cost.json", rounds=7)
    parser.add_argument("what", choices=list(SIDES))
    parser.add_argument("--recipe", default="configs/banking77.yaml")
    parser.add_argument("--epoch", type=int, default=62, help="steps per epoch")
    parser.add_argument("--sides", nargs="+", help="of those that are measured together; default: all")
    args = parser.parse_args(argv)
    own = SIDES[args.what]
    check_names("--sides", args.sides, own)
    chosen = args.sides or list(own)
    config = cli.load([args.recipe])
    steps = (args.rounds + 1) * args.epoch + args.epoch // 2
    rows_per_task = args.epoch * config.train.batch_size // max(len(config.tasks), 1)
    shared = [f"--data.max_train_examples={rows_per_task}", f"--train.max_steps={steps}"]
    if config.tasks:
        only_train = [task | {"data": _only_train(task["data"])} for task in cli.read_yaml(args.recipe)["tasks"]]
        shared.append(f"--tasks={json.dumps(only_train)}")
    with ExitStack() as stack:
        sides = {}
        for name in chosen:
            command = jaxft_side(
                "float32", [str(args.epoch), str(args.epoch // 2)], [args.recipe, *OPTIONS, *shared, *own[name]]
            )
            sides[name] = stack.enter_context(started(name, command))
        found = record.in_turn({name: side.measure for name, side in sides.items()}, args.rounds)
    rows = []
    for name, row in record.compare(found, chosen[0]).items():
        positions = {w["positions"] // args.epoch for w in sides[name].windows}
        rows.append({"side": name, "positions_per_step": sorted(positions), **row})
        print(json.dumps(rows[-1]), flush=True)
    output = args.output.replace("WHAT", args.what)
    record.write(output, record.machine() | {"recipe": args.recipe, "steps": args.epoch, "rows": rows})


def _only_train(data: record.Row) -> record.Row:
    return {name: value for name, value in data.items() if name not in ("validation", "test")}


if __name__ == "__main__":
    main(sys.argv[1:])
