"""Small faults of domains and of the weights of examples."""

from tests.mutants.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "gradient-of-domains-not-reversed",
        "jaxft/step/domains.py",
        "return -factor.astype(g.dtype) * g",
        "return factor.astype(g.dtype) * g",
        "The encoder learns to tell the domains apart.",
    ),
    Fault(
        "domain-loss-divided-per-micro-batch",
        "jaxft/step/domains.py",
        "total += second * jnp.where(of_task > 0, of_task, 1.0) / examples",
        "total += second * jnp.where(weight > 0, weight, 1.0) / examples",
        "With micro-batches the loss of the domains is smaller.",
    ),
    Fault(
        "texts-of-domains-have-labels",
        "jaxft/run/domains.py",
        "return np.zeros((count, *x.shape[1:]), x.dtype) if found is None",
        "return np.ones((count, *x.shape[1:]), x.dtype) if found is None",
        "Texts without labels count in the loss of the task, with the label 1.",
    ),
    Fault(
        "weights-of-tagged-sentences-ignored",
        "jaxft/tasks/token_classification.py",
        'return (batch["labels"] > 0) * batch.get("token_weights", jnp.ones((), jnp.float32))',
        'return (batch["labels"] > 0) * jnp.ones((), jnp.float32)',
        "data.weight has no effect on tags.",
    ),
    Fault(
        "model-saved-with-classifier-of-domains",
        "jaxft/step/training_only.py",
        'if HEAD in found.get("heads", {}):',
        'if HEAD in found.get("head", {}):',
        "The model of a run is written with the classifier, or cannot be written.",
    ),
)
