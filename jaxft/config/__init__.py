"""The options of a run: dataclasses with their units, defaults and limits, and the command line that fills them."""

from jaxft.config.optim import OptimConfig, RegularizationConfig, Schedule
from jaxft.config.plan import AdaptersConfig, LoraConfig, PlanConfig, RuleConfig
from jaxft.config.schema import (
    CheckpointConfig,
    Config,
    DataConfig,
    DistillConfig,
    EvalConfig,
    LogConfig,
    MeshConfig,
    ModelConfig,
    RuntimeConfig,
    TaskConfig,
    TrainConfig,
    VocabularyConfig,
)

__all__ = [
    "AdaptersConfig",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "DistillConfig",
    "EvalConfig",
    "LogConfig",
    "LoraConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimConfig",
    "PlanConfig",
    "RegularizationConfig",
    "RuleConfig",
    "RuntimeConfig",
    "Schedule",
    "TaskConfig",
    "TrainConfig",
    "VocabularyConfig",
]
