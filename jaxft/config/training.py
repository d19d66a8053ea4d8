"""The sections `train`, `eval`, `checkpoint`, `distill`, `mesh`, `log` and `runtime`: the loop, outputs and devices."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from jaxft.config.durations import Duration, DurationOrTime
from jaxft.config.limits import (
    FinitePositiveFloat,
    Fraction,
    Limit,
    LocalPathText,
    NonNegativeFloat,
    PathTexts,
    PositiveFloat,
    PositiveInt,
    Rate,
    Section,
    require,
)
from jaxft.config.matches import MatchConfig
from jaxft.config.used_by import PLAN_AND_EVALUATE, TRAIN_ONLY, UsedBy
from jaxft.core.errors import UserError

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
ONCE_EACH = Limit("names that are given once", lambda x: len(set(x)) == len(x))
Text = Annotated[str, Limit("a text with letters", lambda x: bool(x.strip()))]
WEIGHTS = Limit("numbers of 0 or more, not all 0", lambda x: all(0 <= w < float("inf") for w in x) and any(x))
WINDOW = Limit("the first and the last step, such as [10, 15]", lambda x: len(x) == 2 and 1 <= x[0] <= x[1])


@dataclass(frozen=True)
class TrainConfig(Section):
    """The training loop."""

    epochs: PositiveFloat = 3.0
    """Number of passes over the training examples."""
    max_steps: PositiveInt | None = None
    """Number of optimizer steps after which training stops, whatever `epochs` says; null follows epochs."""
    batch_size: PositiveInt = 32
    """Examples per optimizer step, over all devices and micro-batches."""
    micro_batches: PositiveInt = 1
    """Number of parts into which each batch is split, to save memory; they are computed one after the other."""
    dtype: Annotated[Literal["float32", "bfloat16"], PLAN_AND_EVALUATE] = "float32"
    """Type of activations and matrix products; parameters and moments stay float32."""
    label_smoothing: Rate = 0.0
    """Probability that is spread over all labels, from 0 to below 1."""
    patience: Annotated[PositiveInt | None, TRAIN_ONLY] = None
    """Number of evaluations without a better eval.metric after which training stops; null never stops early."""
    min_delta: Annotated[NonNegativeFloat, TRAIN_ONLY] = 0.0
    """Smallest change of eval.metric that counts as better."""
    callbacks: Annotated[list[str], TRAIN_ONLY] = field(default_factory=list)
    """Callbacks of your own, called at steps, evaluations, checkpoints and the end: module:Class, a subclass of
    jaxft.Callback in a module of the working directory or the Python path."""

    def check(self, prefix: str) -> None:
        """Every micro-batch has an example."""
        if self.micro_batches > self.batch_size:
            raise UserError(
                f"{prefix}micro_batches is {self.micro_batches} but {prefix}batch_size is {self.batch_size}: a micro-batch "
                "needs at least one example"
            )


@dataclass(frozen=True)
class EvalConfig(Section):
    """Evaluation during and after training."""

    used_by = TRAIN_ONLY

    every: Duration = "1 epoch"
    """Steps (500) or text (0.5 epochs) between evaluations; end evaluates only after the last step."""
    metric: str | None = None
    """Metric that chooses the best model; null takes the default of the task (docs/tasks.md lists them)."""
    metrics: Annotated[list[str], UsedBy.EVALUATE] = field(default_factory=list)
    """Metrics of your own in addition to the task's: module:function, (predictions, references) -> number or dict, or
    (task, summary, split) -> number or dict."""
    batch_size: Annotated[PositiveInt, PLAN_AND_EVALUATE] = 128
    """Examples per evaluation step."""


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """Checkpoints and the model that a run leaves."""

    used_by = TRAIN_ONLY

    every: DurationOrTime = "1 epoch"
    """Steps (500) or text (0.5 epochs, 10 minutes, 2 hours) between checkpoints; end writes only the last."""
    keep: PositiveInt = 2
    """Number of latest checkpoints that are kept."""
    select: Literal["best", "last"] = "best"
    """Parameters that become model/: those with the best eval.metric (if there is validation data), or the last."""
    flax: bool = False
    """Also write flax_model.msgpack beside model.safetensors."""


@dataclass(frozen=True)
class DistillConfig(Section):
    """Knowledge distillation; see Hinton et al. 2015, arXiv:1503.02531."""

    teacher: PathTexts = None
    """Fine-tuned model of the same task whose soft labels are learnt: a directory, a run (its model/), a hub id. A list of
    them, or a pattern such as runs/seed-*, is several teachers, of which the mean is learnt; null does not distil."""
    teacher_weights: Annotated[list[float] | None, WEIGHTS] = None
    """Weight of each of several teachers in their mean, in the order of `teacher`; null weighs all alike. data.teacher
    names a column that chooses one teacher for each example instead."""
    teacher_dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the teachers' activations and matrix products; null takes train.dtype."""
    loss: Literal["cross_entropy", "kl", "mse", "dist", "rkd"] = "cross_entropy"
    """What compares outputs: cross_entropy with the teacher's probabilities or kl, which differ by a constant; mse of the
    logits; dist (DIST, Huang et al. 2022), correlations within and across texts; rkd (Park et al. 2019), distances and
    angles between texts."""
    temperature: PositiveFloat = 2.0
    """What the logits of both are divided by; numbers (regression) have none."""
    squared_temperature: bool = True
    """Multiply the soft loss by the square of the temperature, so that its gradient has the same size at any temperature
    (Hinton et al. 2015)."""
    temperature_schedule: Literal["constant", "flsw", "cwsm"] = "constant"
    """One temperature for all, or one for each example: flsw raises it where student and teacher agree (Li et al. 2019,
    arXiv:1911.07471), cwsm where the student is sure (TextBrewer). It does not fall below a tenth of `temperature`."""
    temperature_beta: NonNegativeFloat = 1.0
    """How much flsw and cwsm change the temperature."""
    temperature_gamma: PositiveFloat = 1.0
    """The exponent of the disagreement in flsw."""
    probability_shift: bool = False
    """Exchange the teacher's logit of the right label with its highest one, where the teacher is wrong (TextBrewer)."""
    alpha: Fraction = 0.5
    """Weight of the soft loss, from 0 to 1; the hard loss gets the rest."""
    alpha_end: Fraction | None = None
    """Weight of the soft loss at the last step, to which it moves linearly; null keeps `alpha`."""
    unlabelled: bool = False
    """Read the training data without its labels, which it need not have: the student learns from the teacher alone, as with
    alpha 1, and has the teacher's labels. Validation and test data have labels as always."""
    matches: list[MatchConfig] = field(default_factory=list)
    """Matches between the layers of student and teacher, such as [{match: hidden_mse, layers: every 2, projection: linear}];
    each is added to the loss with its weight."""
    output_weight: NonNegativeFloat = 1.0
    """What the losses of outputs, hard and soft, are multiplied by; 0 trains on matches alone, as TinyBERT's first stage
    does."""

    compare: Annotated[bool, TRAIN_ONLY] = True
    """At the end, evaluate the teachers on the test data, or else on the validation data, and show the scores, parameters
    and speed of both, and which share of the teacher's score the student keeps."""
    cache: Literal["auto", "on", "off"] = "auto"
    """Run the teacher once, before training, and keep its outputs for all training texts on disk, instead of running it in
    every step. auto does so if the texts do not change and the run has more than one epoch."""
    cache_dir: LocalPathText | None = None
    """Directory that holds the outputs of this teacher for these texts and nothing else; null keeps those of all runs apart
    in the user's cache folder."""
    keep_logits: PositiveInt | None = None
    """Keep only this many of the teacher's largest logits of each text (or token); the rest of the probability is spread
    evenly over the other labels. null keeps all."""

    def check(self, prefix: str) -> None:
        """A teacher for every weight and match, something to train on, and options of the cache only with one."""
        if self.teacher == []:
            raise UserError(f"{prefix}teacher is an empty list: name a teacher, or leave it at null")
        if self.teacher_weights is not None and self.teacher is None:
            raise UserError(f"{prefix}teacher_weights without {prefix}teacher: name the teachers that they are of")
        using = {"temperature_beta": ("flsw", "cwsm"), "temperature_gamma": ("flsw",)}
        for name, schedules in using.items():
            changed = getattr(self, name) != getattr(type(self), name)
            right = f"left out unless {prefix}temperature_schedule is {' or '.join(schedules)}"
            require(not changed or self.temperature_schedule in schedules, f"{prefix}{name}", getattr(self, name), right)
        for number, match in enumerate(self.matches, 1):
            match.validate(f"{prefix}matches {number} ")
        if self.matches and not self.teacher:
            raise UserError(f"{prefix}matches compares layers with a teacher's, but {prefix}teacher is null: name one")
        weights = [match.weight for match in self.matches]
        if weights and not any(weights):
            raise UserError(f"{prefix}matches: every weight is 0: raise one, or leave the matches out")
        if not self.output_weight and not weights:
            raise UserError(f"{prefix}output_weight is 0 and {prefix}matches is empty: nothing is left to train on")
        for name in ("cache_dir", "keep_logits"):
            value = getattr(self, name)
            require(self.cache != "off" or value is None, f"{prefix}{name}", value, f"null if {prefix}cache is off")


@dataclass(frozen=True)
class MeshConfig(Section):
    """How work is spread over devices."""

    data: Annotated[int, Limit("-1 or above 0", lambda x: x == -1 or x > 0)] = -1
    """Number of devices over which batches are split; -1 takes all remaining devices."""
    fsdp: PositiveInt = 1
    """Number of devices over which batches, parameters and moments are split."""


@dataclass(frozen=True)
class LogConfig(Section):
    """What is logged during a run."""

    used_by = TRAIN_ONLY

    every: PositiveInt = 50
    """Steps between rows of metrics.jsonl, and between lines of output that is not a terminal."""
    trackers: Annotated[list[TrackerName], ONCE_EACH] = field(default_factory=list)
    """Experiment trackers that get the rows of metrics.jsonl, too: tensorboard (files in OUTPUT_DIR/tensorboard), wandb,
    mlflow and trackio."""
    project: Text = "jaxft"
    """Project of wandb and trackio, experiment of mlflow."""
    run_name: Text | None = None
    """Name that trackers show; null takes the name of output_dir."""
    report: bool = True
    """Write OUTPUT_DIR/report.html, a page that shows the run, and trainer_state.json at every evaluation; and at the end
    all_results.json, too."""
    predictions: bool = True
    """Write the predictions of the selected model for validation and test data, with their columns and right answers, to
    OUTPUT_DIR/predictions at the end."""
    profile_steps: Annotated[list[int] | None, WINDOW] = None
    """First and last step to trace with JAX's profiler, such as [10, 15], into OUTPUT_DIR/profile; null traces none."""
    progress: Annotated[bool, UsedBy.EVALUATE] = True
    """Show a progress bar if the output is a terminal, and otherwise a line at each `every`; `predict` shows a bar of its
    rows, or a line every 30 seconds."""


@dataclass(frozen=True)
class RuntimeConfig(Section):
    """Settings of the process and its programs."""

    distributed: Annotated[Literal["auto", "on", "off"], UsedBy.EVALUATE] = "auto"
    """Join a cluster through jax.distributed; auto joins if the environment announces one."""
    start_timeout: Annotated[PositiveInt, UsedBy.EVALUATE] = 300
    """Seconds to wait for the other processes when the run starts."""
    heartbeat_timeout: Annotated[Annotated[int, Limit("10 or more", lambda x: x >= 10)], UsedBy.EVALUATE] = 100
    """Seconds without a sign of life after which another process counts as dead: this one then ends, too."""
    stall: Annotated[FinitePositiveFloat | None, UsedBy.EVALUATE] = 1800.0
    """Seconds in which nothing happens after which the process shows where its threads stand and ends with a code on which
    schedulers start it again. More than the longest compilation and the longest wait for data; null waits for ever."""
    precision: Annotated[Literal["float32", "tensorfloat32", "bfloat16"], UsedBy.EVALUATE] = "float32"
    """Precision of float32 matrix products on accelerators."""
    compile_cache: Annotated[bool, PLAN_AND_EVALUATE] = True
    """Keep compiled programs in the user's cache folder."""
    unroll: Annotated[PositiveInt | None, PLAN_AND_EVALUATE] = None
    """Number of layers in one iteration of the loop over layers; null takes the best for the device: 1 on TPUs, 12
    elsewhere."""
    gradient_checkpointing: Annotated[bool, UsedBy.PLAN] = False
    """Keep only the input of each layer for the backward pass, which computes the layer again: less memory, more time. More
    micro-batches (train.micro_batches) save memory without costing time, as long as their rows fit."""
    attention: Literal["auto", "plain", "cudnn", "splash"] = "auto"
    """Implementation of attention: plain writes the scores to memory and supports everything; cudnn (GPU) and splash (TPU)
    do not write them, and are refused where they do not support what is asked; auto uses them where they are supported and
    faster."""
    keep_frozen: bool = True
    """Compute the lowest layers once if they are frozen and have no dropout, and keep their outputs on disk."""
    steps_per_execution: Annotated[PositiveInt | None, TRAIN_ONLY] = None
    """Number of steps per call of a program, if that many steps of one shape come before the next evaluation, checkpoint,
    stage or end of an epoch; null takes 8 if only the head is computed in a step (keep_frozen), and otherwise 1."""
    skip_unused_words: bool = True
    """Train only those rows of the word embeddings that the training data uses, if the optimizer would change the others by
    weight decay alone (which they still get)."""
