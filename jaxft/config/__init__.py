"""The options of a run: dataclasses with their units, defaults and limits, and the command line that fills them."""

from jaxft.config.adversarial import AdversarialConfig
from jaxft.config.augment import AugmentConfig, AugmentStepConfig
from jaxft.config.clean import CleanConfig, CleanRuleConfig
from jaxft.config.data import DataConfig
from jaxft.config.domains import DomainsConfig
from jaxft.config.matches import MatchConfig
from jaxft.config.model import ModelConfig, VocabularyConfig
from jaxft.config.optim import OptimConfig, RegularizationConfig, Schedule
from jaxft.config.plan import AdaptersConfig, LoraConfig, PlanConfig, RuleConfig
from jaxft.config.schema import Config
from jaxft.config.several import NamedTaskConfig, SamplingConfig
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

__all__ = ["AdaptersConfig", "AdversarialConfig", "AugmentConfig", "AugmentStepConfig", "CheckpointConfig"]
__all__ += ["CleanConfig", "CleanRuleConfig", "Config", "DataConfig"]
__all__ += ["DistillConfig", "DomainsConfig", "EvalConfig", "LogConfig"]
__all__ += ["LoraConfig", "MatchConfig", "MeshConfig", "ModelConfig", "NamedTaskConfig", "OptimConfig", "PlanConfig"]
__all__ += ["RegularizationConfig", "RuleConfig"]
__all__ += [
    "RuntimeConfig",
    "SamplingConfig",
    "Schedule",
    "TaskConfig",
    "TrainConfig",
    "UnlabelledConfig",
    "VocabularyConfig",
]
