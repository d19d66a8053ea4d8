"""The training loop: steps, evaluations and early stopping. It decides the order of events; callbacks do the rest."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft import optim
from jaxft.core import distributed, host_memory, tree
from jaxft.core.errors import UserError
from jaxft.core.signals import Stopped, Watch
from jaxft.data.batching.collect import Summary
from jaxft.data.batching.prefetch import Epochs
from jaxft.evaluation.evaluator import Evaluator, make_evaluator, score
from jaxft.evaluation.labelled_predictions import are_possible
from jaxft.parallel import sharding
from jaxft.run.claim import Claim
from jaxft.run.loss import run_loss, run_prepare
from jaxft.run.setup import Run, eval_sampler
from jaxft.run.state import fresh_state, model_params, run_optimizer
from jaxft.step.compilation import Compiled, compile_train, lower_train
from jaxft.step.distillation import TEACHER
from jaxft.step.multi_step import MultiStep
from jaxft.step.parameters import Parameters
from jaxft.step.stages import Stage, later_stages, open_stage
from jaxft.step.train_step import TrainState
from jaxft.tasks.task import Split
from jaxft.training import integrity
from jaxft.training.batch_feed import BatchFeed, make_epoch
from jaxft.training.callbacks import Callback, Checkpoint, End, Evaluation, Step
from jaxft.training.checkpoint import Checkpoints, SaveCheckpoints
from jaxft.training.display import Display
from jaxft.training.early_stopping import EvaluationState, next_evaluation_state
from jaxft.training.frozen_features import FrozenFeatures, cache_frozen_features
from jaxft.training.journal import Journal
from jaxft.training.notify import Notify
from jaxft.training.profiler import ProfilerWindow
from jaxft.training.result_files import ResultFiles
from jaxft.training.running import RunningRun
from jaxft.training.step_metrics import StepMetrics
from jaxft.training.trackers import make_trackers

MOST_STEPS = 2**31 - 1  # a state counts its steps in an int32


class Loop:
    """A run in its directory, resumed from the latest checkpoint if there is one."""

    def __init__(self, run: Run, directory: Path, claim: Claim | None = None, callbacks: Sequence[Callback] = ()) -> None:
        self.run = run
        self.config, self.task = run.config, run.task
        self.directory = directory
        self.claim = claim
        self.resumed = self._newest_checkpoint()
        self.checkpoints = Checkpoints(directory, keep=run.config.checkpoint.keep)
        self.optimizer = run_optimizer(run)
        self.factor = optim.schedule_factor(run.config.optim, run.total_steps, np)
        if self.resumed is None:
            self.progress = EvaluationState()
            self.state, self.frozen = fresh_state(run)
            self.checkpoints.go_back(None)
            self.checkpoints.save_frozen(run, self.frozen)
        else:
            self.state, self.frozen, self.progress = self.checkpoints.restore_run(run, self.resumed)
            self.checkpoints.go_back(self.resumed)
            self._set_factors()
        if run.teacher:
            self.frozen = replace(self.frozen, teachers={TEACHER: sharding.place_params(run.mesh, run.teacher[1])})
        self.callbacks = self._make_callbacks(callbacks)
        self.profiler = ProfilerWindow(run.config.log.profile_steps, directory, self._wait_for_steps, self.say)
        self.loss = run_loss(run)
        self.evaluators: dict[str, Evaluator] = {}
        self.summaries: dict[str, Summary] = {}  # of the latest `scores` by split
        self.epochs = Epochs(
            lambda n: make_epoch(run, n, self._data("train").examples, lambda: self.epochs.closed),
            -(-run.total_steps // run.steps_per_epoch),
        )
        self.programs: list[Compiled[MultiStep]] = []  # of the current stage and later ones
        self.cache = FrozenFeatures()

    def train(self, watch: Watch | None = None) -> None:
        """Train to the end (or to early stopping); the last step is always evaluated and checkpointed.

        Raises:
          Stopped: after a signal that `watch` has heard, with a checkpoint.
          CallbackError: if a callback of the user's fails, with a checkpoint.
        """
        watch = watch or Watch()
        start = self.resumed or 0
        self.callbacks.start(dict(self.progress.callbacks))
        self.callbacks.raise_failure(f"step {start} is saved in {self.directory}" if start else "nothing is trained yet")
        if start >= self.run.total_steps or self.progress.stopped:
            return
        self.cache = cache_frozen_features(self.run, self.params, self.say)
        examples = self.run.prototype if self.run.epochs else self._data("train").examples
        feed = BatchFeed(self.run, self.epochs, examples, head_only=self.cache.all_layers)
        later = self._compile_stages(feed, start)
        if "validation" in self.run.data:
            self._evaluator("validation")
        per_epoch, calendar = self.run.steps_per_epoch, self.run.calendar
        metrics = StepMetrics(self.config.log.every, self.run.total_steps, per_epoch, self._learning_rate)
        frozen = self.cache.without_cached(self.frozen)
        heap = host_memory.ReusedBlock(self._is_busy)
        for steps, epoch, arrays in feed.batches(start):
            if epoch.line and (steps.start == start or not steps.start % per_epoch):
                self.say(epoch.line)
            if later and later[0].start == steps.start:
                self.state, self.frozen = open_stage(self.run.plan, later.pop(0), self.state, self.frozen)
                frozen = self.cache.without_cached(self.frozen)
                del self.programs[0]
                trained = tree.count(self.state.params)
                self.say(f"step {steps.start}: {trained:,} parameters are trained from here on")
            if steps.stop > MOST_STEPS:
                self._on_steps(metrics)
                self._on_checkpoint(steps.start)
                raise UserError(f"{steps.start:,} steps are done, and more cannot be counted: the run ends here")
            self._set_progress(self.progress.at(steps.start))
            call = MultiStep(epoch.batches.shape(steps.start % per_epoch), len(steps))
            if call not in self.programs[0]:  # of an epoch that was not among those for which shapes were chosen
                self.programs[0] = self.programs[0].merged(self._compile(feed, [call], self.state, self.frozen))
            program = self.programs[0][call]
            heap.before_call(program, self._wait_for_steps)
            with self.profiler.around(steps):
                self.state, sent = program(self.state, frozen, arrays)
                watch.arm()
                self._on_steps(metrics)
                metrics.send(steps, sent, epoch.batches)  # inside the profiler's window, whose wait is part of their time
            done = steps.stop
            signal = watch.after(done)
            ends = self.progress.stops(done) or signal or self.callbacks.failure
            if calendar.evaluates(done) or calendar.saves(done) or ends:
                self._on_steps(metrics)
                evaluates = calendar.evaluates(done) or ("validation" in self.run.data and self.progress.stops(done))
                better = evaluates and self._evaluate(done)
                why = self._why_stopped(done)
                if calendar.saves(done) or better or why or signal or self.callbacks.failure:
                    self._on_checkpoint(done)
                if signal or self.callbacks.failure:
                    self.checkpoints.wait()
                    saved = f"step {done} is saved in {self.directory}"
                    self.callbacks.raise_failure(f"{saved}, where the same run resumes")
                    raise Stopped(signal or 0, f"stopped: {saved}; the same command resumes there")
                metrics.meter.reset()
                if why:
                    self.say(f"stopped early at step {done}: {why}")
                    break
                heap.mark_fragmented()
        self.profiler.close()
        self._release()
        self.checkpoints.wait()
        watch.disarm()

    def select(self) -> int:
        """Make `state` that of the best or the last step, as `checkpoint.select` says, and return the step."""
        best = self.progress.best_step
        if self.config.checkpoint.select == "best" and best is not None and best != int(self.state.step):
            self.checkpoints.check(best)
            teachers = self.frozen.teachers
            del self.state, self.frozen  # or there would be two of each in memory
            self.state, frozen, _ = self.checkpoints.restore_run(self.run, best)
            self.frozen = replace(frozen, teachers=teachers)
        return int(self.state.step)

    @property
    def params(self) -> Parameters:
        """All parameters of the model in the current state."""
        return model_params(self.state, self.frozen)

    def scores(self, split: str) -> dict[str, Any]:
        """Scores of the current parameters on a split; thresholds are tuned on the validation data if the config says so."""
        summary = self.summaries[split] = self._evaluator(split).collect(self._params(split))
        if split == "validation":
            self.task = self.run.task.tune(summary, self.run.data[split])
        return score(self.task, summary, self.run.data[split])

    def keeps_predictions(self, split: str) -> bool:
        """Whether `summaries` hold what `labelled_predictions` needs."""
        return self.config.log.predictions and are_possible(self.run.task, self.run.data[split])

    def end(self, selected_step: int, results: Mapping[str, Any]) -> None:
        """Call the callbacks at the end of the run, with the step of the selected parameters and their scores."""
        self.callbacks.end(End(self.checkpoints.latest() or 0, selected_step, results))

    def close(self) -> None:
        """Finish writing in the background, cancel compilations and the computing of batches, and release free memory."""
        self._release()
        self.epochs.close()
        for evaluator in self.evaluators.values():
            evaluator.steps.cancel()
        with ExitStack() as stack:
            stack.callback(self.callbacks.close)
            stack.callback(self.profiler.close, wait=False)
        host_memory.release_freed_memory()

    def _make_callbacks(self, users: Sequence[Callback]) -> Notify:
        """The callbacks in the order of their calls; the user's are last."""
        run, log, start = self.run, self.config.log, self.resumed or 0
        display = Display(log, total_steps=run.total_steps, start_step=start)
        self.say = display.say
        own: list[Callback] = [SaveCheckpoints(self.checkpoints, self.claim), Journal(self.directory, start)]
        own += make_trackers(log, self.directory, start)
        own += [ResultFiles(run, self.directory, self.say)] if log.report else []
        running = RunningRun(run, self.directory, start, distributed.is_main_process(), self.say)
        return Notify([*own, display], users, running)

    def _compile_stages(self, feed: BatchFeed, start: int) -> list[Stage]:
        """Request the programs of all stages from step `start` on, and return the later stages."""
        starts = [s for s in self.run.plan.stages[1:] if s >= start]
        later = later_stages(self.run.plan, self.optimizer, self.run.mesh, self.state, self.frozen, starts)
        for stage in (self, *later):
            self.programs.append(self._compile(feed, feed.calls(start), stage.state, stage.frozen))
            self.checkpoints.prepare(stage.state)
        return later

    def _compile(
        self, feed: BatchFeed, calls: Iterable[MultiStep], state: TrainState, frozen: Parameters
    ) -> Compiled[MultiStep]:
        lower = partial(
            lower_train,
            self.loss,
            self.optimizer,
            state,
            self.cache.without_cached(frozen),
            prepare=run_prepare(self.run),
            regularization=self.run.regularization,
        )
        return compile_train(lower, {call: feed.abstract(call) for call in calls}, self.say)

    def _wait_for_steps(self) -> None:
        jax.block_until_ready(self.state)

    def _is_busy(self) -> bool:
        """Whether anything is being compiled or written in the background."""
        steps = [evaluator.steps for evaluator in self.evaluators.values()]
        return self.checkpoints.saving or not all(x.done for x in (*self.programs, *steps))

    def _newest_checkpoint(self) -> int | None:
        """The step from which the run is resumed, as the main process finds it."""
        newest = None
        if distributed.is_main_process():
            say, best = partial(print, file=sys.stderr, flush=True), self.config.checkpoint.select == "best"
            newest = integrity.newest_usable(self.directory, best=best, say=say)
            if self.claim:
                self.claim.check_weights(newest, adapted=self.run.model.adapted is not None)
        return distributed.from_main(newest or 0) or None

    def _data(self, split: str) -> Split:
        return self.cache.data.get(split, self.run.data[split])

    def _params(self, split: str) -> Parameters:
        """The parameters that the examples of a split need."""
        return self.cache.without_cached(self.params) if split in self.cache.data else self.params

    def _release(self) -> None:
        for programs in self.programs:
            programs.cancel()
        self.programs.clear()

    def _learning_rate(self, step: int) -> float:
        """The learning rate of a step (numbered from 0) after the last evaluation."""
        factor = self.progress.plateau * self.progress.scale
        return self.config.optim.learning_rate * float(self.factor(step)) * factor

    def _on_steps(self, metrics: StepMetrics) -> None:
        """Call the callbacks for the steps that were sent and are not read yet."""
        last = None
        for step in metrics.read():
            self._check_finite(step)
            self.callbacks.step(step)
            last = step.number
        if last is not None:
            self._take_asked(last)

    def _on_checkpoint(self, step: int) -> None:
        self.progress = replace(self.progress, callbacks=self.callbacks.states())
        self.callbacks.checkpoint(Checkpoint(step, self.state, self.progress))

    def _take_asked(self, step: int) -> None:
        """Take what callbacks have asked for at a step: it holds from the first call of the program that begins after it."""
        self.progress = self.progress.asked(step, *self.callbacks.taken())

    def _why_stopped(self, done: int) -> str:
        """Why training stops after an evaluation; empty if it goes on."""
        if self.progress.stopped:
            return f"no better {self.run.metric} for {self.config.train.patience} evaluations"
        if self.progress.stops(done):
            self.progress = replace(self.progress, stopped=True)
            return "a callback asked for it"
        return ""

    def _check_finite(self, step: Step) -> None:
        """Stop if the loss or the gradient is not a finite number."""
        if not np.isfinite(step.loss or 0.0) or not np.isfinite(step.grad_norm):
            self.checkpoints.wait()
            good = self.checkpoints.latest()
            where = f"the checkpoint of step {good} is good" if good else "there is no checkpoint yet"
            raise UserError(
                f"the loss became {step.loss} at step {step.number} (gradient norm {step.grad_norm:g}, learning rate "
                f"{step.learning_rate:.3g}); {where} in {self.directory}; lower optim.learning_rate"
            )

    def _evaluate(self, step: int) -> bool:
        """Evaluate, call the callbacks, and return whether this is the best so far."""
        name, scores = self.run.metric, self.scores("validation")
        if name not in scores:
            raise UserError(f"eval.metric is {name}, which gave several scores: it must be one number to choose by")
        higher = self.run.task.metrics[name]
        self.summaries.clear()  # only the last ones are needed, and may be large
        self.progress = next_evaluation_state(self.config, self.progress, step, scores[name], higher=higher)
        self._set_factors()
        best = self.progress.best_step == step
        self.callbacks.evaluation(Evaluation(step, step / self.run.steps_per_epoch, scores, name, best))
        self._take_asked(step - 1)  # for the next call, which begins with this step
        return best

    def _set_progress(self, progress: EvaluationState) -> None:
        """Set the progress and, if the factor of the learning rate has changed, the state's."""
        changed = progress.scale != self.progress.scale
        self.progress = progress
        if changed:
            self._set_factors()

    def _set_factors(self) -> None:
        """Set the state's learning rate, which callbacks scale, and its factor, which evaluations reduce on a plateau."""
        rate = self.config.optim.learning_rate * self.progress.scale
        values = {"learning_rate": rate, optim.PLATEAU: self.progress.plateau}
        place = sharding.replicated(self.run.mesh)
        hyper = {name: sharding.device_put(np.float32(x), place) for name, x in values.items() if name in self.state.hyper}
        self.state = replace(self.state, hyper=self.state.hyper | hyper)

    def _evaluator(self, split: str) -> Evaluator:
        if split not in self.evaluators:
            run, data = self.run, self._data(split)
            sampler = eval_sampler(data.examples, self.config, run.mesh)
            parts = (run.task, self.loss, data, sampler, self._params(split), run.mesh, self.say)
            self.evaluators[split] = make_evaluator(*parts, predictions=self.keeps_predictions(split))
        return self.evaluators[split]
