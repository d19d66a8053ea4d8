"""The whole config of a run. `cli.load` parses it; the text under a field is its `--help`."""

from dataclasses import dataclass, field
from typing import Annotated

from jaxft.config.adversarial import AdversarialConfig
from jaxft.config.augment import AugmentConfig
from jaxft.config.data import DataConfig
from jaxft.config.domains import DomainsConfig
from jaxft.config.limits import PathText, Section, Seed, require
from jaxft.config.model import ModelConfig, VocabularyConfig
from jaxft.config.optim import OptimConfig, RegularizationConfig
from jaxft.config.plan import PlanConfig
from jaxft.config.several import NamedTaskConfig, SamplingConfig, check_tasks
from jaxft.config.task import TaskConfig
from jaxft.config.training import (
    CheckpointConfig,
    DistillConfig,
    EvalConfig,
    LogConfig,
    MeshConfig,
    RuntimeConfig,
    TrainConfig,
)
from jaxft.config.unlabelled import UnlabelledConfig
from jaxft.config.used_by import PLAN_AND_EVALUATE
from jaxft.core.errors import UserError


@dataclass(frozen=True)
class Config(Section):
    """Fine-tune a BERT-family encoder."""

    output_dir: PathText = "runs/default"
    """Run directory: config.yaml, metrics.jsonl, checkpoints/, model/. The same command again resumes in it. It may be a URL
    (gs://bucket/run): the run works in a local copy, which is uploaded (docs/remote.md)."""
    seed: Annotated[Seed, PLAN_AND_EVALUATE] = 0
    """Seed of new parameters, the order of examples and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tasks: Annotated[list[NamedTaskConfig], PLAN_AND_EVALUATE] = field(default_factory=list)
    """Several tasks that are learnt together, such as [{name: topics, data: {train: a.csv}}, {name: names, task: {name:
    token-classification}, data: {train: b.conll}}]; the sections task and data are what they share (docs/multitask.md)."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    unlabelled: UnlabelledConfig = field(default_factory=UnlabelledConfig)
    domains: DomainsConfig = field(default_factory=DomainsConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    regularization: RegularizationConfig = field(default_factory=RegularizationConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    log: LogConfig = field(default_factory=LogConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def check(self, prefix: str) -> None:
        """Sections that go together."""
        check_tasks(self.tasks, self.sampling)
        if self.tasks:
            self._check_alone()
        self._check_domains()
        if {"lora", "adapters"} & set(self.plan.presets()):
            right = "null: an adapter is saved for its base with all layers (model.num_layers may cut it short)"
            require(self.model.layers is None, "model.layers", self.model.layers, right)
            require(not self.model.from_scratch, "model.from_scratch", "true", "false: adapters need a base to be saved for")
            right = "false: an adapter has no msgpack (jaxft.export --merge)"
            require(not self.checkpoint.flax, "checkpoint.flax", "true", right)
        if self.data.teacher and not isinstance(self.distill.teacher, list | str):
            raise UserError("data.teacher names a column of teachers: name them in distill.teacher, too")
        if self.data.teacher and self.distill.teacher_weights:
            raise UserError("data.teacher and distill.teacher_weights exclude each other: choose one teacher or their mean")
        followers = {"optim.schedule plateau": self.optim.schedule == "plateau", "train.patience": self.train.patience}
        for name, used in followers.items():
            if used and not self.tasks and not (self.data.validation or self.data.validation_share):
                raise UserError(f"{name} follows evaluations: give data.validation or data.validation_share")

    def _check_domains(self) -> None:
        """No option that pairs the examples of a run with domains."""
        pairs = {"unlabelled.data": self.unlabelled.data, "augment.mixup": self.augment.mixup}
        of_examples = {"domains": self.domains.used, "data.weight": self.data.weight}
        for name, used in pairs.items():
            if used and (found := [x for x, own in of_examples.items() if own]):
                raise UserError(f"{found[0]} and {name} exclude each other: leave one of them out")

    def _check_alone(self) -> None:
        """No option that a run of several tasks does not have."""
        words = self.vocabulary != VocabularyConfig()
        others = {
            "vocabulary": words or "new_tokens" in self.plan.presets(),
            "distill.teacher": self.distill.teacher,
            "augment.steps": self.augment.steps,
            "augment.mixup": self.augment.mixup,
            "unlabelled.data": self.unlabelled.data,
            "domains": self.domains.used,
            "task.loss": self.task.loss,
        }
        for name, used in others.items():
            if used:
                raise UserError(f"{name} is for a run of one task: leave it out, or the list tasks")
