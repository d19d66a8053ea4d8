"""The input pipeline alone: arranging an epoch, building batches, and the share of padding.

    python -m benchmarks.input [--most 7] [--recipes configs/mrpc.yaml ...]

Lengths are like GLUE's (benchmarks/synthetic.py); --recipes measures real data.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import record
from benchmarks.command import make_parser
from benchmarks.synthetic import examples_of, glue_lengths
from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.data.batching.batch_sampler import BatchSampler, make_sampler
from jaxft.run.setup import eval_sampler, make_run, train_sampler

LAYOUTS = ("pack", "bucket", "pad")
BATCHES = (32, 128, 512)


def sampler_of(lengths: np.ndarray, batch_size: int, layout: str, max_length: int = 128) -> BatchSampler:
    return make_sampler(lengths, batch_size=batch_size, max_length=max_length, layout=layout, epochs=1, seed=0)  # type: ignore[arg-type]


def planning(most: int) -> list[record.Row]:
    """Seconds to declare the shapes of a run and to compute the batches of an epoch, by number of examples."""
    rows = []
    for power in range(3, most + 1):
        lengths = glue_lengths(10**power)
        for layout in LAYOUTS:
            start = time.perf_counter()
            sampler = sampler_of(lengths, 32, layout)
            declared = time.perf_counter()
            batches = sampler.epoch_batches(0)
            planned = time.perf_counter()
            rows.append(
                {
                    "what": "planning",
                    "examples": 10**power,
                    "layout": layout,
                    "declare_seconds": round(declared - start, 4),
                    "plan_seconds": round(planned - declared, 4),
                    "nanoseconds_an_example": round((planned - declared) / 10**power * 1e9),
                    "padding": round(1 - batches.fill(), 4),
                }
            )
            print(rows[-1], flush=True)
    return rows


def building(rounds: int) -> list[record.Row]:
    """Real tokens per second that one thread puts into batches."""
    rows, lengths = [], glue_lengths(100_000)
    examples = examples_of(lengths, 30522)
    for batch_size in BATCHES:
        for layout in LAYOUTS:
            batches = sampler_of(lengths, batch_size, layout).epoch_batches(0)
            steps = min(50, batches.sampler.steps_per_epoch)
            tokens = sum(int(lengths[batches.examples(i)].sum()) for i in range(steps))
            rates = []
            for _ in range(rounds):
                start = time.perf_counter()
                for i in range(steps):
                    batches.batch(examples, i)
                rates.append(tokens / (time.perf_counter() - start))
            row = {"what": "building", "layout": layout, "batch_size": batch_size, "tokens_per_second": record.spread(rates)}
            rows.append(row)
            print(rows[-1], flush=True)
    return rows


def waste(recipes: list[str]) -> list[record.Row]:
    """The padding of the first epoch of real data, by batch size; with packing also without the last, smaller step
    and in evaluation."""
    rows = []
    for path in recipes:
        config = cli.load([path, "--data.validation=null", "--data.test=null", "--data.max_train_examples=null"])
        try:
            run = make_run(config)
        except (UserError, OSError) as error:
            print(f"{path}: {error}")
            continue
        examples = run.data["train"].examples
        for batch_size in BATCHES[:2]:
            sizes = {name: replace(getattr(config, name), batch_size=batch_size) for name in ("train", "eval")}
            packed = replace(config, **sizes)
            layouts = {x: replace(packed, data=replace(config.data, layout=x)) for x in LAYOUTS}
            end = len(examples) // batch_size * batch_size * examples.group
            whole = replace(examples, offsets=examples.offsets[: end + 1])
            samplers = {layout: train_sampler(examples, own, run.mesh) for layout, own in layouts.items()}
            samplers["whole steps"] = train_sampler(whole, packed, run.mesh)
            samplers["evaluation"] = eval_sampler(examples, packed, run.mesh)
            found = {name: round(1 - sampler.epoch_batches(0).fill(), 4) for name, sampler in samplers.items()}
            rows.append({"what": "waste", "data": Path(path).stem, "batch_size": batch_size, "padding": found})
            print(rows[-1], flush=True)
    return rows


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "input.json", rounds=5)
    parser.add_argument("--most", type=int, default=7, help="power of ten of the largest number of examples")
    parser.add_argument("--recipes", nargs="*", default=[], help="whose training data to measure the padding of")
    args = parser.parse_args(argv)
    rows = [*planning(args.most), *building(args.rounds), *waste(args.recipes)]
    record.write(args.output, record.machine() | {"rows": rows})


if __name__ == "__main__":
    cli.run_main(main)
