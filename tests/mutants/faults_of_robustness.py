"""Faults of adversarial training."""

from tests.mutants.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "perturbation-of-a-row",
        "jaxft/step/perturbation.py",
        "return (largest * jnp.sqrt(self.of_tokens(sums)))[..., None]",
        "return (largest * jnp.sqrt(sums.sum(-1, keepdims=True)))[..., None]",
        "In a packed row, the perturbation of a text depends on its neighbours.",
    ),
    Fault(
        "random-start-of-a-place",
        "jaxft/step/perturbation.py",
        "seeds = jnp.take_along_axis(self.batch[SEEDS], slot, axis=1)  # [R, T, 2]",
        "seeds = jnp.zeros_like(jnp.take_along_axis(self.batch[SEEDS], slot, axis=1))",
        "All texts begin with the same random perturbation, in every step.",
    ),
    Fault(
        "adversaries-on-frozen-features",
        "jaxft/run/loss.py",
        "return bool(embedding_transformations(run) or run.config.adversarial.method)",
        "return bool(embedding_transformations(run))",
        "Where the lowest layers are frozen and kept, adversarial training has no effect.",
    ),
    Fault(
        "gradients-of-the-last-perturbation",
        "jaxft/step/adversarial.py",
        "gradients = [a + (loss_weight * g).astype(a.dtype) for a, g in zip(gradients, own, strict=True)]",
        "gradients = [(loss_weight * g).astype(a.dtype) for a, g in zip(gradients, own, strict=True)]",
        "FreeLB's step has the gradients of its last perturbation alone.",
    ),
)
