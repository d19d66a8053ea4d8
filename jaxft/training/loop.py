"""The training loop: steps, evaluations and early stopping. It decides the order of events; callbacks do the rest."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from jaxft import optim
from jaxft.config.durations import duration_seconds
from jaxft.core import host_memory, tree
from jaxft.core.errors import UserError
from jaxft.core.phases import EVALUATING, SAVING, TRAINING, clock, phase
from jaxft.core.pulse import PULSE
from jaxft.core.signals import Interrupted, Stopped, Watch
from jaxft.data.batching.prefetch import Epochs
from jaxft.data.tokens.encode import Examples
from jaxft.parallel import sharding
from jaxft.run.claim import Claim
from jaxft.run.loss import run_loss
from jaxft.run.setup import Run
from jaxft.run.state import fresh_state, model_params, run_optimizer, with_factors
from jaxft.step.multi_step import MultiStep
from jaxft.step.parameters import Parameters
from jaxft.step.stages import Stage, open_stage
from jaxft.tasks.several import SeveralTasks
from jaxft.teacher_cache.choice import choose
from jaxft.teacher_cache.fill import taught
from jaxft.training.batch_feed import Batches, BatchFeed, make_epoch
from jaxft.training.callbacks import Callback, Checkpoint, End, Evaluation, Step
from jaxft.training.checkpoint import Checkpoints
from jaxft.training.early_stopping import EvaluationState, next_evaluation_state
from jaxft.training.evaluations import Evaluations
from jaxft.training.frozen_features import cache_frozen_features
from jaxft.training.integrity import resumed_step
from jaxft.training.own_callbacks import make_callbacks
from jaxft.training.profiler import ProfilerWindow
from jaxft.training.programs import Programs
from jaxft.training.save_timer import SaveTimer
from jaxft.training.step_metrics import StepMetrics
from jaxft.training.stragglers import Stragglers

MOST_STEPS = 2**31 - 1  # a state counts its steps in an int32


class Loop:
    """A run in its directory, resumed from the latest checkpoint if there is one."""

    def __init__(self, run: Run, directory: Path, claim: Claim | None = None, callbacks: Sequence[Callback] = ()) -> None:
        self.run = run
        self.config = run.config
        self.directory = directory
        self.claim = claim
        self.resumed = resumed_step(run, directory, claim)
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
        if run.task_scores:
            run.task_scores.begin(self.progress.task_scores, (self.resumed or 0) - self.progress.evaluation_due)
        self.teaching = choose(run)
        live = {x.key: sharding.place_params(run.mesh, x.params) for x in run.teachers if x.key not in self.teaching.stored}
        self.frozen = replace(self.frozen, teachers=live)
        self.clock = clock()
        given, due = (run, directory, self.resumed or 0, self.checkpoints, claim, callbacks), self.progress.evaluation_due
        self.callbacks, self.say, self.times = make_callbacks(*given, self.clock, evaluates=due)
        self.checkpoints.say = self.say
        self.done = self.resumed or 0  # steps
        self._before_best: tuple[int | None, float | None] = (None, None)  # step and score of the best one before
        self.profiler = ProfilerWindow(run.config.log.profile_steps, directory, self._wait_for_steps, self.say)
        self.loss = run_loss(run, self.teaching.stored)
        self.evaluations = Evaluations(run, self.loss, self.say)
        self.epochs = Epochs(
            lambda n: make_epoch(run, n, self._training_examples(), lambda: self.epochs.closed),
            -(-run.total_steps // run.steps_per_epoch),
        )
        self.programs: Programs | None = None
        self._taught: Examples | None = None

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
        if self.progress.is_over(start, self.run.total_steps):
            return
        self.evaluations.check = watch.check
        self.evaluations.cache = cache = cache_frozen_features(self.run, self.params, self.say, watch.check)
        if self.progress.evaluation_due:
            self._evaluate_again(start)
            if self.progress.is_over(start, self.run.total_steps):
                return
        if self.teaching.stored:
            given = (self.run, self.teaching.stored, self._training_examples(), self.say)
            self._taught, lines = taught(*given, check=watch.check)
            for line in lines:
                self.say(line)
        examples = self.run.prototype if self.run.epochs else self._training_examples()
        short = cache.all_layers and not self.frozen.teachers
        feed = BatchFeed(self.run, self.epochs, examples, head_only=short)
        self.programs = programs = Programs(self.run, self.loss, self.optimizer, cache, feed, self.say)
        later = programs.request(start, self.state, self.frozen, self.checkpoints.prepare)
        if "validation" in self.run.data:
            self.evaluations.request("validation", self.params)
        # Held here, because its threads may wait for scores until those are closed.
        batches = feed.batches(start)
        with self.clock.during(TRAINING), self.run.task_scores or nullcontext():
            self._steps(batches, programs, later, start, watch)
        self.profiler.close()
        programs.cancel()
        self._wait_for_checkpoints()
        watch.disarm()

    def _steps(self, batches: Batches, programs: Programs, later: list[Stage], start: int, watch: Watch) -> None:
        """All steps from `start` on, with the evaluations and checkpoints between them."""
        per_epoch, calendar = self.run.steps_per_epoch, self.run.calendar
        cache, now = self.evaluations.cache, partial(self.clock.seconds, TRAINING)
        given = (self.config.log.every, self.run.total_steps, per_epoch, self._learning_rate, now)
        metrics = StepMetrics(*given, compare=Stragglers(self.say).compare)
        waits = metrics.meter.waits
        timer = SaveTimer(duration_seconds(self.config.checkpoint.every), start)
        frozen = cache.without_cached(self.frozen)
        heap = host_memory.ReusedBlock(self._is_busy)
        for steps, epoch, arrays in waits.for_data(batches):
            if epoch.line and (steps.start == start or not steps.start % per_epoch):
                self.say(epoch.line)
            if later and later[0].start == steps.start:
                self.state, self.frozen = open_stage(self.run.plan, later.pop(0), self.state, self.frozen)
                frozen = cache.without_cached(self.frozen)
                programs.next_stage()
                self.say(f"step {steps.start}: {tree.count(self.state.params):,} parameters are trained from here on")
            if steps.stop > MOST_STEPS:
                self._on_steps(metrics)
                self._on_checkpoint(steps.start)
                raise UserError(f"{steps.start:,} steps are done, and more cannot be counted: the run ends here")
            self._set_progress(self.progress.at(steps.start))
            call = MultiStep(epoch.batches.shape(steps.start % per_epoch), len(steps))
            try:
                program = programs.get(call, self.state, self.frozen, watch.check)
            except Interrupted as interrupted:
                self._on_steps(metrics)
                self._on_checkpoint(steps.start)
                self._stop(steps.start, interrupted.number)
            with waits.device:
                heap.before_call(program, self._wait_for_steps)
            with self.profiler.around(steps):
                with waits.dispatch:
                    self.state, sent = program(self.state, frozen, arrays)
                watch.arm()
                self._on_steps(metrics)
                metrics.send(steps, sent, epoch.batches)  # inside the profiler's window, whose wait is part of their time
            self.done = done = steps.stop
            signal = watch.heard()
            ends = self.progress.stops(done) or signal or self.callbacks.failure
            saves = timer.due(done) or calendar.saves(done)
            if calendar.evaluates(done) or saves or ends:
                self._on_steps(metrics)
                self._settle_checkpoint()
                evaluates = calendar.evaluates(done) or ("validation" in self.run.data and self.progress.stops(done))
                better, signal = self._evaluate_unless(signal, done) if evaluates else (False, signal)
                why = self._why_stopped(done)
                if saves or better or why or signal or self.callbacks.failure:
                    self._on_checkpoint(done)
                    timer.saved(done)
                if signal or self.callbacks.failure:
                    self._stop(done, signal)
                metrics.meter.reset()
                if why:
                    self.say(f"stopped early at step {done}: {why}")
                    break
                heap.mark_fragmented()
            if self.run.task_scores:
                self.run.task_scores.reach(done)

    def _stop(self, step: int, signal: int | None) -> NoReturn:
        """End the run, whose checkpoint of a step is being written, because of a signal or the failure of a callback."""
        self._wait_for_checkpoints()
        saved = self.checkpoints.where_saved(step)
        self.callbacks.raise_failure(f"{saved}, where the same run resumes")
        raise Stopped(signal or 0, f"stopped: {saved}; the same command resumes there")

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
        return self.evaluations.scores(split, self.params)

    @phase(SAVING)
    def end(self, selected_step: int, results: Mapping[str, Any]) -> None:
        """Call the callbacks at the end of the run, with the step of the selected parameters and their scores."""
        self.callbacks.end(End(self.done, selected_step, results, self.times.final(self.done)))

    def close(self) -> None:
        """Finish writing in the background, cancel compilations and the computing of batches, and release free memory."""
        if self.programs:
            self.programs.cancel()
        self.epochs.close()
        self.evaluations.cancel()
        with ExitStack() as stack:
            stack.callback(self.callbacks.close)
            stack.callback(self.profiler.close, wait=False)
        host_memory.release_freed_memory()

    def _wait_for_steps(self) -> None:
        jax.block_until_ready(self.state)

    def _is_busy(self) -> bool:
        """Whether anything is being compiled or written in the background."""
        return self.checkpoints.saving or not self.evaluations.done or not (self.programs is None or self.programs.done)

    def _training_examples(self) -> Examples:
        return self._taught or self.evaluations.cache.data.get("train", self.run.data["train"]).examples

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
            PULSE.beat(step=last)
        if last is not None:
            self._take_asked(last)

    def _on_checkpoint(self, step: int) -> None:
        self.progress = replace(self.progress, callbacks=self.callbacks.states())
        with phase(SAVING):
            self.callbacks.checkpoint(Checkpoint(step, self.state, self.progress))

    def _wait_for_checkpoints(self) -> None:
        with phase(SAVING):
            self.checkpoints.wait()

    def _settle_checkpoint(self) -> None:
        """Wait for the checkpoint that is being written; if the best one could not be, the best one before is it again."""
        self._wait_for_checkpoints()
        lost = self.checkpoints.unsaved
        if lost and lost.step == self.progress.best_step:
            step, score = self._before_best
            self.progress = replace(self.progress, best_step=step, best_score=score)
            self.say(f"step {lost.step}, the best so far, is not saved; the best that is saved is {step or 'none'}")

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
            raise UserError(
                f"the loss became {step.loss} at step {step.number} (gradient norm {step.grad_norm:g}, learning rate "
                f"{step.learning_rate:.3g}); {self.checkpoints.newest} in {self.directory}; lower optim.learning_rate"
            )

    @phase(EVALUATING)
    def _evaluate(self, step: int) -> bool:
        """Evaluate, call the callbacks, and return whether this is the best so far."""
        name, scores = self.run.metric, self.scores("validation")
        if name not in scores:
            raise UserError(f"eval.metric is {name}: must be one of the scores, which are {', '.join(scores)}")
        higher, before = self.run.task.metrics[name], (self.progress.best_step, self.progress.best_score)
        self.evaluations.summaries.clear()  # only the last ones are needed, and may be large
        self.progress = next_evaluation_state(self.config, self.progress, step, scores[name], higher=higher)
        if self.run.task_scores and isinstance(self.run.task, SeveralTasks):
            recorded = self.run.task_scores.add(step, self.run.task.qualities(scores))
            self.progress = replace(self.progress, task_scores=recorded)
        self._set_factors()
        best = self.progress.best_step == step
        self._before_best = before if best else self._before_best
        self.callbacks.evaluation(Evaluation(step, step / self.run.steps_per_epoch, scores, name, best))
        self._take_asked(step - 1)  # for the next call, which begins with this step
        return best

    def _evaluate_unless(self, signal: int | None, step: int) -> tuple[bool, int | None]:
        """(whether this is the best so far, the signal that stops the run and leaves the evaluation to the next start)."""
        if signal is None:
            try:
                return self._evaluate(step), None
            except Interrupted as interrupted:
                signal = interrupted.number
        self.progress = replace(self.progress, evaluation_due=True)
        return False, signal

    def _evaluate_again(self, step: int) -> None:
        """Evaluate the step of a checkpoint that a signal has left without it."""
        self.progress = replace(self.progress, evaluation_due=False)
        self._evaluate(step)
        if self.run.task_scores:
            self.run.task_scores.reach(step)
        if why := self._why_stopped(step):
            self.say(f"stopped early at step {step}: {why}")

    def _set_progress(self, progress: EvaluationState) -> None:
        """Set the progress and, if the factor of the learning rate has changed, the state's."""
        changed = progress.scale != self.progress.scale
        self.progress = progress
        if changed:
            self._set_factors()

    def _set_factors(self) -> None:
        """Set the state's learning rate, which callbacks scale, and its factor, which evaluations reduce on a plateau."""
        self.state = with_factors(self.run, self.state, scale=self.progress.scale, plateau=self.progress.plateau)
