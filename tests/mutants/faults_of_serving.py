"""Small faults of the server."""

from tests.mutants.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "outputs-of-another-request",
        "jaxft/serving/joined.py",
        "examples={name: x[examples[i] : examples[i + 1]] for name, x in summary.examples.items()},",
        "examples={name: x[: len(parts[i])] for name, x in summary.examples.items()},",
        "Of requests that run together, each gets the results of the first.",
    ),
    Fault(
        "cut-texts-are-not-said",
        "jaxft/serving/service.py",
        "if most > encoder.max_length:",
        "if most > 2 * encoder.max_length:",
        "A text that is a little too long is cut without a word.",
    ),
    Fault(
        "a-wrong-key-opens",
        "jaxft/serving/access.py",
        'return hmac.compare_digest(given.encode(), f"Bearer {key}".encode())',
        'return given.lower() == f"Bearer {key}".lower()',
        "The key is compared without its case.",
    ),
    Fault(
        "a-failure-ends-the-engine",
        "jaxft/serving/engine.py",
        "                job.future.set_exception(error)\n            return",
        "                job.future.set_exception(error)\n            raise",
        "After a request whose model fails, no other one is answered.",
    ),
)
