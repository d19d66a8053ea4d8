"""Fine-tuned models as functions of Python objects: `jaxft.pipeline`."""
