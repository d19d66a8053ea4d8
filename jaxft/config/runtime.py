"""The sections `mesh`, `log` and `runtime`: devices, logs and settings of the process, none of which changes the task."""

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxft.config.limits import Limit, PositiveInt, Section

WINDOW = Limit("the first and the last step, such as [10, 15]", lambda x: len(x) == 2 and 1 <= x[0] <= x[1])


@dataclass(frozen=True)
class MeshConfig(Section):
    """How work is spread over devices."""

    data: Annotated[int, Limit("-1 or above 0", lambda x: x == -1 or x > 0)] = -1
    """Number of devices over which batches are split; -1 takes all devices that are left."""
    fsdp: PositiveInt = 1
    """Number of devices over which batches, parameters and moments are split."""


@dataclass(frozen=True)
class LogConfig(Section):
    """What is written while a run goes on."""

    every: PositiveInt = 50
    """Steps between rows of metrics.jsonl, and between lines of output that is not a terminal."""
    tensorboard: bool = False
    """Also write TensorBoard event files to OUTPUT_DIR/tensorboard."""
    profile_steps: Annotated[list[int] | None, WINDOW] = None
    """First and last step to trace with JAX's profiler, such as [10, 15], into OUTPUT_DIR/profile; null traces none."""
    progress: bool = True
    """Show a progress bar if the output is a terminal, and otherwise a line at each `every`."""


@dataclass(frozen=True)
class RuntimeConfig(Section):
    """Settings of the process and its programs."""

    distributed: Literal["auto", "on", "off"] = "auto"
    """Join a cluster through jax.distributed; auto joins if the environment announces one."""
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Precision of float32 matrix products on accelerators."""
    compile_cache: bool = True
    """Keep compiled programs in the user's cache folder."""
    unroll: PositiveInt | None = None
    """Number of layers in one iteration of the loop over layers; null takes the best for the device: 1 on TPUs, 12
    elsewhere."""
    attention: Literal["auto", "plain", "cudnn", "splash"] = "auto"
    """Implementation of attention: plain writes the scores to memory and supports everything; cudnn (GPU) and splash (TPU)
    do not write them, and are refused where they do not support what is asked; auto uses them where they are supported and
    faster."""
    keep_frozen: bool = True
    """Compute the lowest layers once if they are frozen and drop nothing, and keep their outputs on disk."""
    steps_per_execution: PositiveInt | None = None
    """Number of steps per call of a program, if that many steps of one shape come before the next evaluation, checkpoint,
    stage or end of an epoch; null takes 8 if only the head is computed in a step (keep_frozen), and otherwise 1."""
    skip_unused_words: bool = True
    """Train only those rows of the word embeddings that the training data uses, if the optimizer would change the others by
    weight decay alone (which they still get)."""
