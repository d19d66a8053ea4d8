"""The update of an optimizer: named optimizers, clipping, stacked leaves and one leaf per layer.

python -m benchmarks.optimizer [--rounds 7]
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import optax

from benchmarks import record
from benchmarks.parts import Part, run
from benchmarks.synthetic import model_of
from jaxft import optim
from jaxft.config import OptimConfig, PlanConfig
from jaxft.core import tree
from jaxft.param_plan import make_plan


def parts() -> Iterator[Part]:
    """An update of all of MiniLM's parameters: named optimizers, stacked and single leaves, clipping."""
    model = model_of("minilm" if jax.devices()[0].platform == "cpu" else "base")
    params = jax.tree.map(lambda x: jnp.full(x.shape, 0.01, x.dtype), model.abstract())
    depth = model.encoder.config.num_layers

    def updater(name: str, clip: float | None = 1.0, blocked: bool = True, single: bool = False) -> Callable[[], float]:
        own = tree.recut(params, range(depth)) if single else params
        plan = make_plan(PlanConfig(), own, model.encoder.config.parameter_layers, steps_per_epoch=10, total_steps=10)
        config = OptimConfig(name=name, clip=clip)
        blocked = blocked and jax.devices()[0].platform == "cpu"
        optimizer = optim.make_optimizer(config, plan, 10, blocked_norm=blocked).build(optim.hyperparameters(config))
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
    ours, blocked = jax.jit(optim.global_norm, static_argnames="blocked"), jax.devices()[0].platform == "cpu"
    timers = {"jaxft": record.timer(partial(ours, blocked=blocked), params, calls=5)}
    for name, leaves in {"": params, ", single layers": tree.unstack(params)}.items():
        timers[f"optax.global_norm{name}"] = record.timer(jax.jit(optax.global_norm), leaves, calls=5)
    yield "global norm", timers, "jaxft"


def main(argv: list[str]) -> None:
    """Run the command."""
    run(argv, __doc__, parts, "optimizer.json")


if __name__ == "__main__":
    from jaxft.config import cli

    cli.run_main(main)
