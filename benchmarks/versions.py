"""Which packages a process has. Only the standard library: it may run in an environment of its own."""

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("jax", "jaxlib", "flax", "optax", "transformers", "torch", "libtpu", "accelerate")


def installed() -> dict[str, str]:
    """Versions of those that there are."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
