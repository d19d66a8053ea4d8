"""Compile the real train step for chips that are not attached: memory, collectives, FLOPs and the data sheet's bound.

    python -m benchmarks.aot [--cases v5e-8-base ...]

TPUs need the package libtpu, GPUs JAX's CUDA packages; without --cases, all cases whose compiler is installed are compiled.
Sizes are per chip. All times are predicted: the longest of computation, memory access and communication
(jaxft.preflight.topology). Programs are often slower, never faster. FLOPs inside cuDNN's and Pallas' kernels are not
counted.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import numpy as np

from benchmarks import record
from benchmarks.command import check_names, make_parser
from benchmarks.synthetic import SIZES, run_of
from jaxft.config import Config, DataConfig, MeshConfig, ModelConfig, RuntimeConfig, TrainConfig, cli
from jaxft.core import backend
from jaxft.preflight import costs, hlo, topology


@dataclass(frozen=True)
class Case:
    """A step to compile.

    Attributes:
      topology: as `jaxft.plan --topology` takes it.
      size: one of SIZES.
      batch: rows over all chips.
      length: tokens per row; rows are full.
      fsdp: the number of chips that share parameters and optimizer state.
      micro_batches: of a step.
      keys: whether attention drops keys instead of probabilities.
    """

    topology: str
    size: str
    batch: int
    length: int = 128
    fsdp: int = 1
    keys: bool = False
    micro_batches: int = 1

    def config(self) -> Config:
        """Adam, bfloat16, dropout 0.1."""
        kind: Any = "keys" if self.keys else "probabilities"
        return Config(
            model=ModelConfig(attention_dropout_kind=kind),
            data=DataConfig(max_length=self.length, layout="pad"),
            train=TrainConfig(batch_size=self.batch, dtype="bfloat16", micro_batches=self.micro_batches),
            mesh=MeshConfig(fsdp=self.fsdp),
            runtime=RuntimeConfig(skip_unused_words=False),  # whatever the data
        )


CASES = {
    "v5e-1-base": Case("v5e:1x1", "base", 64),
    "v5e-8-base": Case("v5e:2x4", "base", 8 * 64),
    "v5e-8-base-2-micro-batches": Case("v5e:2x4", "base", 8 * 64, micro_batches=2),
    "v5e-8-base-512": Case("v5e:2x4", "base", 8 * 16, 512),
    "v5e-8-base-512-keys": Case("v5e:2x4", "base", 8 * 16, 512, keys=True),
    "v5e-8-large": Case("v5e:2x4", "large", 8 * 32),
    "v5e-8-large-fsdp": Case("v5e:2x4", "large", 8 * 32, fsdp=8),
    "v5e-8-large-512-keys": Case("v5e:2x4", "large", 8 * 8, 512, keys=True),
    "v5e-256-large": Case("v5e:16x16", "large", 256 * 32),
    "v5e-256-large-fsdp": Case("v5e:16x16", "large", 256 * 32, fsdp=16),
    "v5p-8-large": Case("v5p:2x2x2", "large", 8 * 64),
    "v6e-8-large": Case("v6e:2x4", "large", 8 * 64),
    "h200-1-base": Case("h200:1", "base", 256),
    "h200-1-base-keys": Case("h200:1", "base", 256, keys=True),
    "h200-1-large-512": Case("h200:1", "large", 48, 512),
    "h200-1-large-512-keys": Case("h200:1", "large", 48, 512, keys=True),
    "h200-8-large-fsdp": Case("h200:8", "large", 8 * 256, fsdp=8, keys=True),
    "h200-8-large": Case("h200:8", "large", 8 * 256, keys=True),
    "h200-64-large": Case("h200:64", "large", 64 * 256, keys=True),
    "h200-64-large-fsdp": Case("h200:64", "large", 64 * 256, fsdp=8, keys=True),
}


def compile_case(case: Case) -> record.Row:
    """Compile a case; the result is its row of the result file."""
    lengths = np.full(2 * case.batch, case.length)
    run = run_of(case.size, lengths, case.config(), topology.devices(case.topology), abstract=True)
    [(shape, [cost])] = costs.step_costs(run, forward_pass=False).items()
    chip, chips = topology.parse(case.topology)
    prediction = topology.predict_step(cost, chip, chips, shape.rows)
    layer = SIZES[case.size].heads * case.length**2 * case.batch // chips  # the scores of a layer on a chip, in any shape
    scores = hlo.materialized_arrays(
        cost.text, lambda kind, s: kind == "f32" and s.count(case.length) >= 2 and prod(s) % layer == 0
    )
    return {
        "case": vars(case),
        "chips": chips,
        "memory_bytes": cost.arguments + cost.temporary,
        "of_memory_bytes": chip.memory,
        "arguments_bytes": cost.arguments,
        "temporary_bytes": cost.temporary,
        "donated_bytes": cost.donated,
        "state_bytes": cost.expected["parameters"] + cost.expected["optimizer"],
        "collectives": {kind: {"count": x.count, "bytes": x.size} for kind, x in hlo.by_kind(cost.collectives).items()},
        "exchanges": [
            {"kind": x.kind, "devices": len(x.group) or chips, "hosts": topology.hosts(x.group or range(chips), chip)}
            | {"count": x.count, "bytes": x.size}
            for x in cost.collectives
        ],
        "gradient_bytes": 4 * sum(x.size for x in jax.tree.leaves(run.params)),
        "flops": cost.flops,
        "accessed_bytes": cost.accessed,
        "float32_scores": scores,
        "predicted_seconds": prediction.seconds,
        "predicted_times": dict(prediction.times),
        "predicted_bound": prediction.bound,
        "predicted_share_of_peak": prediction.share,
        "rows_that_fit": prediction.rows,
    }


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "aot.json")
    parser.add_argument("--cases", nargs="+")
    args = parser.parse_args(argv)
    check_names("--cases", args.cases, CASES)
    backend.start(distributed="off", platforms="cpu", compile_cache=False)  # programs for other chips cannot be loaded here
    for name in args.cases or [name for name, case in CASES.items() if topology.missing_compiler(case.topology) is None]:
        row = {"name": name} | compile_case(CASES[name])
        print({k: v for k, v in row.items() if k != "case"}, flush=True)
        record.add(args.output, row, "name")


if __name__ == "__main__":
    cli.run_main(main)
