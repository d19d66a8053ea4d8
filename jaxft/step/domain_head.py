"""The parameters of the domain classifier: a head beside the task's that only training has."""

import zlib
from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core.random_streams import host_generator
from jaxft.core.tree import Params
from jaxft.models.encoder.matmul import dense
from jaxft.param_plan.rules import Rule

Array = jax.Array
HEAD = "domains"  # its name among the heads of a run
_LAYERS = ("hidden", "output")


def add_domain_head(params: Params, widths: Sequence[int], seed: int) -> Params:
    """Add a new domain classifier to the parameters of a run: normal with standard deviation 0.02; biases are 0.

    Args:
      params: numpy arrays, or shapes.
      widths: of the encoder, perhaps of a hidden layer, and the number of domains; empty for no classifier.
    """
    if not widths:
        return params
    generator, layers = host_generator(seed, zlib.crc32(f"heads.{HEAD}".encode())), {}
    names = _LAYERS[-(len(widths) - 1) :]
    for name, (width, outputs) in zip(names, pairwise(widths), strict=True):
        kernel = generator.normal(0.0, 0.02, (width, outputs)).astype(np.float32)
        layers[name] = {"kernel": kernel, "bias": np.zeros(outputs, np.float32)}
    return {**params, "heads": {**params["heads"], HEAD: layers}}


def domain_rules(widths: Sequence[int]) -> list[Rule]:
    """The row of the parameter plan for the classifier: trained from the start, whatever the presets freeze."""
    return [Rule(rf"^heads\.{HEAD}\.", {"trainable": True, "unfreeze": 0}, "domains")] if widths else []


def domain_widths(params: Params) -> list[int]:
    """The `widths` with which the classifier among the parameters of a run was made; empty without one."""
    head = params["heads"].get(HEAD)
    if head is None:
        return []
    kernels = [head[name]["kernel"] for name in _LAYERS if name in head]
    return [kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)]


def domain_logits(head: Params, hidden: Array) -> Array:
    """The logits of the domains, float32 [R, M, domains], of hidden states [R, M, D]; a hidden layer has a ReLU."""
    x = hidden.reshape(-1, hidden.shape[-1])
    if "hidden" in head:
        x = jax.nn.relu(_affine(head["hidden"], x)).astype(hidden.dtype)
    return _affine(head["output"], x).reshape(*hidden.shape[:-1], -1)


def _affine(layer: Params, x: Array) -> Array:
    return dense(x, layer["kernel"]).astype(jnp.float32) + layer["bias"][None]
