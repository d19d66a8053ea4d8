"""The update of all of MiniLM's parameters: named optimizers, clipping, stacked leaves and one leaf per layer.

python -m benchmarks.optimizer [--rounds 7]
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import optax

from benchmarks import record
from benchmarks.command import Part, compare_parts
from benchmarks.synthetic import model_of
from jaxft import optim
from jaxft.config import OptimConfig, PlanConfig, cli
from jaxft.core import tree
from jaxft.param_plan import make_plan


def parts() -> Iterator[Part]:
    """An update by each optimizer, and the global norm alone."""
    model = model_of("minilm" if jax.devices()[0].platform == "cpu" else "base")
    params = jax.tree.map(lambda x: jnp.full(x.shape, 0.01, x.dtype), model.abstract())
    depth = model.encoder.config.num_layers
    on_cpu = jax.devices()[0].platform == "cpu"

    def updater(name: str, clip: float | None = 1.0, blocked: bool = True, single: bool = False) -> Callable[[], float]:
        own = tree.recut(params, range(depth)) if single else params
        plan = make_plan(PlanConfig(), own, model.encoder.config.parameter_layers, steps_per_epoch=10, total_steps=10)
        config = OptimConfig(name=name, clip=clip)
        optimizer = optim.make_optimizer(config, plan, 10, blocked_norm=blocked and on_cpu)
        optimizer = optimizer.build(optim.hyperparameters(config))
        state = jax.jit(optimizer.init)(own)
        return record.timer(jax.jit(lambda p, s: optimizer.update(p, s, p)), own, state)

    names = ("adamw", "sgd", "adafactor", "lion", "lamb", "muon")
    yield (
        f"optimizers, {tree.count(params):,} parameters, {depth} layers in a stack",
        {
            **{name: updater(name) for name in names},
            "adamw, not clipped": updater("adamw", clip=None),
            "adamw, clipped by XLA's own sum": updater("adamw", blocked=False),
            "adamw, a leaf for each layer": updater("adamw", single=True),
        },
        "adamw",
    )
    ours = jax.jit(optim.global_norm, static_argnames="blocked")
    timers = {"jaxft": record.timer(partial(ours, blocked=on_cpu), params, calls=5)}
    for name, leaves in {"": params, ", single layers": tree.unstack(params)}.items():
        timers[f"optax.global_norm{name}"] = record.timer(jax.jit(optax.global_norm), leaves, calls=5)
    yield "global norm", timers, "jaxft"


def main(argv: list[str]) -> None:
    compare_parts(argv, __doc__, parts, "optimizer.json")


if __name__ == "__main__":
    cli.run_main(main)
