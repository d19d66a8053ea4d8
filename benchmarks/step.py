"""Train steps on the attached device: time, share of the device's peak, host time, compile time.

    python -m benchmarks.step [--cases minilm-full ...] [--rounds 5] [--steps 3]

Weights and words are random (benchmarks/synthetic.py). Model FLOPs are 72 L D^2 + 12 L D S per real token, with S the mean
length that a token attends to. They are the same for plans that train less, so that their share shows the gain. The peak is
that of the data sheet for accelerators in PEAKS, otherwise that of a matrix product of the same type, measured in the same
process.
"""

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import record
from benchmarks.command import check_names, make_parser
from benchmarks.synthetic import SIZES, glue_lengths, run_of
from jaxft.config import Config, DataConfig, LoraConfig, ModelConfig, PlanConfig, TrainConfig, cli
from jaxft.core import backend
from jaxft.core.errors import UserError
from jaxft.data.batching.prefetch import device_batch
from jaxft.parallel import sharding
from jaxft.run.loss import run_loss
from jaxft.run.setup import Run
from jaxft.run.state import fresh_state, model_params, run_optimizer
from jaxft.step.compilation import abstract_batch, lower_train
from jaxft.training.frozen_features import cache_frozen_features

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # bfloat16, dense
RATES = ("dropout", "attention_dropout", "classifier_dropout")


@dataclass(frozen=True)
class Case:
    """A kind of step.

    Attributes:
      size: one of SIZES.
      batch: examples per step.
      length: tokens per row; all examples have this length unless `glue`.
      glue: whether examples have lengths like GLUE's, up to `length`.
      dropout: whether to use the model's dropout of 0.1.
      keys: whether attention drops keys instead of probabilities.
    """

    size: str
    batch: int
    length: int = 128
    glue: bool = False
    layout: Any = "pack"
    dtype: str = "float32"
    preset: Any = "full"
    dropout: bool = True
    keys: bool = False
    epochs: int = 1
    micro_batches: int = 1

    def run(self) -> Run:
        """A run of this case with random weights."""
        lengths = glue_lengths(20 * self.batch, self.length) if self.glue else np.full(20 * self.batch, self.length)
        rates: dict[str, Any] = {} if self.dropout else dict.fromkeys(RATES, 0.0)
        rates["attention_dropout_kind"] = "keys" if self.keys else "probabilities"
        numbers: Any = {"batch_size": self.batch, "micro_batches": self.micro_batches, "max_steps": 20 * self.epochs}
        config = Config(
            model=ModelConfig(**rates),
            data=DataConfig(max_length=self.length, layout=self.layout),
            train=TrainConfig(dtype=self.dtype, **numbers),  # type: ignore[arg-type]
            plan=PlanConfig(preset=self.preset, lora=LoraConfig(targets="all")),
        )
        return run_of(self.size, lengths, config)


CPU = {
    "tiny": Case("tiny", 4, 32),
    "minilm-full": Case("minilm", 8),
    "minilm-full-bf16": Case("minilm", 8, dtype="bfloat16"),
    "minilm-full-keys": Case("minilm", 8, keys=True),
    "minilm-full-no-dropout": Case("minilm", 8, dropout=False),
    "minilm-large-batch": Case("minilm", 32),
    "minilm-glue-pack": Case("minilm", 32, glue=True),
    "minilm-glue-bucket": Case("minilm", 32, glue=True, layout="bucket"),
    "minilm-glue-pad": Case("minilm", 32, glue=True, layout="pad"),
    "minilm-512": Case("minilm", 2, 512),
    "minilm-head": Case("minilm", 8, preset="head"),
    "minilm-head-kept": Case("minilm", 8, preset="head", dropout=False, epochs=2),
    "minilm-last-2": Case("minilm", 8, preset="last_n"),
    "minilm-lora": Case("minilm", 8, preset="lora"),
    "base-full": Case("base", 4),
    "large-full": Case("large", 2),
}
GPU = {
    "base-full": Case("base", 256, dtype="bfloat16"),
    "base-full-keys": Case("base", 256, dtype="bfloat16", keys=True),
    "base-full-no-dropout": Case("base", 256, dtype="bfloat16", dropout=False),
    "base-32": Case("base", 32, dtype="bfloat16"),
    "base-float32": Case("base", 64),
    "base-glue-pack": Case("base", 512, glue=True, dtype="bfloat16"),
    "base-glue-bucket": Case("base", 512, glue=True, layout="bucket", dtype="bfloat16"),
    "large-packed-512": Case("large", 128, 512, glue=True, dtype="bfloat16"),
    "large-packed-512-keys": Case("large", 128, 512, glue=True, dtype="bfloat16", keys=True),
    "large-512-keys": Case("large", 48, 512, dtype="bfloat16", keys=True),
    "minilm-32": Case("minilm", 32, dtype="bfloat16"),
    "base-head": Case("base", 256, dtype="bfloat16", preset="head"),
    "base-last-2": Case("base", 256, dtype="bfloat16", preset="last_n"),
}


class Step:
    """A run's compiled step, or several steps `together`, with its state and batches of the most frequent shape."""

    def __init__(self, run: Run, compilations: int = 1, lower: Callable[..., Any] = lower_train, together: int = 1) -> None:
        self.together = together
        self.state, self.frozen = fresh_state(run)
        cache = cache_frozen_features(run, model_params(self.state, self.frozen), print)
        self.frozen = cache.without_cached(self.frozen)
        plan, examples = run.sampler.epoch_batches(0), cache.data.get("train", run.data["train"]).examples
        place = sharding.batch_sharding(run.mesh)
        self.shape = run.sampler.shapes[int(np.bincount(plan.shape_index).argmax())]
        numbers = [i for i in range(run.steps_per_epoch) if plan.shape(i) == self.shape][:together]
        if len(numbers) < together:
            raise UserError(f"an epoch has {len(numbers)} steps of {self.shape}, and {together} are to be one call")
        self.batch = device_batch(plan, examples, numbers, place)
        self.lengths = plan.sampler.lengths[plan.examples(numbers[0])].astype(float)
        self.tokens = int(self.lengths.sum())
        parts = (run_loss(run), run_optimizer(run), self.state, self.frozen)
        self.seconds_to_compile = []
        for _ in range(compilations):
            jax.clear_caches()
            start = time.perf_counter()
            batch = abstract_batch(run.sampler, self.shape, examples, place, together)
            self.step = lower(*parts, batch, steps=together).compile()
            self.seconds_to_compile.append(round(time.perf_counter() - start, 2))
        memory: Any = self.step.memory_analysis()
        self.memory = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        self.host: list[float] = []

    def measure(self, steps: int) -> float:
        """Seconds per step, over several calls."""
        start = time.perf_counter()
        for _ in range(steps):
            begin = time.perf_counter()
            self.state, metrics = self.step(self.state, self.frozen, self.batch)
            self.host.append((time.perf_counter() - begin) / self.together)
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - start) / (steps * self.together)


def measure_case(case: Case, rounds: int, steps: int) -> record.Row:
    """Measure a case; the result is its row of the result file."""
    step = Step(case.run(), compilations=2)  # the second finds the first in the cache on disk
    step.measure(2)
    step.host.clear()
    size = SIZES[case.size]
    flops = 72 * size.layers * size.hidden**2 * step.tokens + 12 * size.layers * size.hidden * (step.lengths**2).sum()
    alternatives = {"step": lambda: step.measure(steps)}
    if known := next((flops for name, flops in PEAKS.items() if name in jax.devices()[0].device_kind), None):
        peaks = np.full(rounds, known)
        found = record.in_turn(alternatives, rounds)
    else:
        side = 2048
        x = jnp.ones((side, side), case.dtype)
        product = jax.jit(lambda a: jax.lax.dot(a, a, preferred_element_type=jnp.float32))
        found = record.in_turn(alternatives | {"product": record.timer(product, x, calls=3)}, rounds)
        peaks = 2 * side**3 / np.array(found["product"])
    seconds = np.array(found["step"])
    return {
        "case": vars(case),
        "shape": [step.shape.rows, step.shape.length],
        "seconds": record.spread(seconds),
        "examples_per_second": record.spread(len(step.lengths) / seconds),
        "tokens_per_second": record.spread(step.tokens / seconds),
        "flops_per_second": record.spread(flops / seconds),
        "peak": record.spread(peaks),
        "share_of_peak": record.spread(flops / seconds / peaks, 3),
        "host_seconds": record.spread(step.host),
        "compile_seconds": dict(zip(("cold", "warm"), step.seconds_to_compile, strict=True)),
        "memory_bytes": step.memory,
    }


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "step.json", rounds=5)
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args(argv)
    chosen = backend.start(compile_cache=False, distributed="off")
    cases = CPU if chosen.platform == "cpu" else GPU
    check_names("--cases", args.cases, cases, f"on {chosen.platform} there are")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    for name in args.cases or cases:
        with tempfile.TemporaryDirectory() as cache:  # a cache for each case, because others may have the same program
            compilation_cache.reset_cache()
            jax.config.update("jax_compilation_cache_dir", cache)
            row = {"name": name, "device": chosen.device} | measure_case(cases[name], args.rounds, args.steps)
        print(name, row["seconds"], row["share_of_peak"], flush=True)
        record.add(args.output, row, "name", "device", "processor")
        gc.collect()


if __name__ == "__main__":
    cli.run_main(main)
