"""The compiled train steps of a run: those of the current stage of the parameter plan, and of later ones."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from jaxft.core.phases import COMPILING, phase
from jaxft.optim import Optimizer
from jaxft.run.loss import needs_all_rows, run_prepare
from jaxft.run.setup import Run
from jaxft.step.compilation import Compiled, compile_train, lower_train
from jaxft.step.multi_step import MultiStep
from jaxft.step.parameters import Parameters
from jaxft.step.stages import Stage, later_stages
from jaxft.step.train_step import LossFn, TrainState
from jaxft.training.batch_feed import BatchFeed
from jaxft.training.frozen_features import FrozenFeatures


class Programs:
    """Programs by stage, all of which are requested before the first step.

    Args of the constructor:
      run, loss, optimizer: of the run.
      cache: of frozen features, whose parameters no program gets.
      feed: the batches.
      say: prints a line.
    """

    def __init__(
        self,
        run: Run,
        loss: LossFn,
        optimizer: Optimizer,
        cache: FrozenFeatures,
        feed: BatchFeed,
        say: Callable[[str], None],
    ) -> None:
        self._run, self._loss, self._optimizer, self._cache = run, loss, optimizer, cache
        self._feed, self._say = feed, say
        self._stages: list[Compiled[MultiStep]] = []  # of the current stage and later ones

    def request(
        self, start: int, state: TrainState, frozen: Parameters, prepare: Callable[[TrainState], object]
    ) -> list[Stage]:
        """Request the programs of all stages from step `start` on, call `prepare` for each, and return the later stages.

        `state` and `frozen` are those of step `start`.
        """
        run, starts = self._run, [s for s in self._run.plan.stages[1:] if s >= start]
        with phase(COMPILING):
            later = later_stages(run.plan, self._optimizer, run.mesh, state, frozen, starts)
            for own_state, own_frozen in [(state, frozen), *((stage.state, stage.frozen) for stage in later)]:
                self._stages.append(self._compile(self._feed.calls(start), own_state, own_frozen))
                prepare(own_state)
        return later

    def next_stage(self) -> None:
        """From now on programs are those of the next stage."""
        del self._stages[0]

    def get(self, call: MultiStep, state: TrainState, frozen: Parameters, check: Callable[[], None]) -> Any:
        """Wait for the program of a call; `state` and `frozen` are the current ones, and `check` is called meanwhile."""
        if call not in self._stages[0]:  # of an epoch that was not among those for which shapes were chosen
            self._stages[0] = self._stages[0].merged(self._compile([call], state, frozen))
        return self._stages[0].ready(call, check)

    @property
    def done(self) -> bool:
        """Whether all programs are compiled."""
        return all(programs.done for programs in self._stages)

    def cancel(self) -> None:
        """Drop all programs, and cancel those whose compilation has not begun."""
        for programs in self._stages:
            programs.cancel()
        self._stages.clear()

    def _compile(self, calls: Iterable[MultiStep], state: TrainState, frozen: Parameters) -> Compiled[MultiStep]:
        lower = partial(
            lower_train,
            self._loss,
            self._optimizer,
            state,
            self._cache.without_cached(frozen),
            prepare=run_prepare(self._run),
            regularization=self._run.regularization,
            needs_all_rows=needs_all_rows(self._run),
        )
        return compile_train(lower, {call: self._feed.abstract(call) for call in calls}, self._say)
