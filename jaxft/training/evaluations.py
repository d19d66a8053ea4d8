"""Evaluations of the splits of a run, during training and at its end."""

from collections.abc import Callable
from typing import Any

from jaxft.core.phases import EVALUATING, phase
from jaxft.core.signals import nothing
from jaxft.data.batching.collect import Summary
from jaxft.evaluation.evaluator import Evaluator, make_evaluator, score
from jaxft.evaluation.labelled_predictions import are_possible
from jaxft.run.setup import Run, eval_sampler
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import LossFn
from jaxft.training.frozen_features import FrozenFeatures


class Evaluations:
    """Compiled once per split, and evaluated repeatedly.

    Args of the constructor:
      run, loss: of the run.
      say: prints a line.

    Attributes:
      task: of the run, with the thresholds that the latest evaluation of the validation data tuned.
      summaries: of the latest evaluation by split.
      cache: frozen features, which training makes before it evaluates.
      check: called after every batch; it raises to give an evaluation up.
    """

    def __init__(self, run: Run, loss: LossFn, say: Callable[[str], None]) -> None:
        self._run, self._loss, self._say = run, loss, say
        self._evaluators: dict[str, Evaluator] = {}
        self.task, self.cache = run.task, FrozenFeatures()
        self.check: Callable[[], None] = nothing
        self.summaries: dict[str, Summary] = {}

    def request(self, split: str, params: Parameters) -> Evaluator:
        """Request the programs of a split, for parameters like these, unless that has been done."""
        if split not in self._evaluators:
            run, data = self._run, self.cache.data.get(split, self._run.data[split])
            sampler = eval_sampler(data.examples, run.config, run.mesh)
            parts = (run.task, self._loss, data, sampler, self._used(split, params), run.mesh, self._say)
            self._evaluators[split] = make_evaluator(*parts, predictions=self.keeps_predictions(split))
        return self._evaluators[split]

    def scores(self, split: str, params: Parameters) -> dict[str, Any]:
        """Scores of parameters on a split; thresholds are tuned on the validation data if the config says so."""
        with phase(EVALUATING):
            summary = self.summaries[split] = self.request(split, params).collect(self._used(split, params), self.check)
            if split == "validation":
                self.task = self._run.task.tune(summary, self._run.data[split])
            return score(self.task, summary, self._run.data[split])

    def keeps_predictions(self, split: str) -> bool:
        """Whether `summaries` hold what `labelled_predictions` needs."""
        return self._run.config.log.predictions and are_possible(self._run.task, self._run.data[split])

    @property
    def done(self) -> bool:
        """Whether all programs that were requested are compiled."""
        return all(evaluator.steps.done for evaluator in self._evaluators.values())

    def cancel(self) -> None:
        """Cancel the programs whose compilation has not begun."""
        for evaluator in self._evaluators.values():
            evaluator.steps.cancel()

    def _used(self, split: str, params: Parameters) -> Parameters:
        """The parameters that the examples of a split need."""
        return self.cache.without_cached(params) if split in self.cache.data else params
