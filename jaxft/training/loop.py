"""The training loop: steps, evaluations, early stopping. It owns the order of events; hooks do the rest."""

import sys
from collections.abc import Mapping
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
from jaxft.data.batching.prefetch import Epochs
from jaxft.evaluation.evaluator import Evaluator, make_evaluator, score
from jaxft.parallel import sharding
from jaxft.run import input_files
from jaxft.run.claim import Claim
from jaxft.run.loss import run_loss
from jaxft.run.setup import Run, eval_sampler
from jaxft.run.state import fresh_state, frozen_content, model_params, run_optimizer
from jaxft.step.compilation import Compiled, compile_train
from jaxft.step.distillation import NAME
from jaxft.step.multi_step import MultiStep
from jaxft.step.parameters import Parameters
from jaxft.step.stages import later_stages, open_stage
from jaxft.tasks.task import Split
from jaxft.training import integrity
from jaxft.training.batch_feed import BatchFeed
from jaxft.training.checkpoint import Checkpoints, Progress
from jaxft.training.checkpoint_hook import SaveCheckpoints
from jaxft.training.display import Display
from jaxft.training.early_stopping import next_progress
from jaxft.training.frozen_features import FrozenFeatures, cache_frozen_features
from jaxft.training.hooks import Checkpoint, End, Evaluation, Hook, Step, load_hooks
from jaxft.training.journal import Journal
from jaxft.training.profiler import ProfilerWindow
from jaxft.training.restore import stored_state
from jaxft.training.step_metrics import StepMetrics
from jaxft.training.tensorboard import TensorBoard

MOST_STEPS = 2**31 - 1  # a state counts its steps in an int32


class Trainer:
    """One run in its directory: made from a `Run`, resumed from the latest checkpoint if there is one."""

    def __init__(self, run: Run, directory: Path, claim: Claim | None = None) -> None:
        self.run = run
        self.config, self.task = run.config, run.task
        self.directory = directory
        self.claim = claim
        self.resumed = self._newest()
        self.checkpoints = Checkpoints(directory, keep=run.config.checkpoint.keep)
        self.optimizer = run_optimizer(run)
        self.factor = optim.schedule_factor(run.config.optim, run.total_steps, np)
        if self.resumed is None:
            self.progress = Progress()
            self.state, self.frozen = fresh_state(run)
            self.checkpoints.go_back(None)
            self.checkpoints.save_frozen(self.frozen, partial(frozen_content, run))
        else:
            self.state, self.frozen, self.progress = stored_state(run, self.checkpoints, self.resumed)
            self.checkpoints.go_back(self.resumed)
            self._set_plateau()
        if run.teacher:
            self.frozen = replace(self.frozen, teachers={NAME: sharding.place_params(run.mesh, run.teacher[1])})
        self.hooks = self._make_hooks(claim)
        self.profiler = ProfilerWindow(run.config.log.profile_steps, directory, self._wait_for_steps, self.say)
        self.loss = run_loss(run)
        self.evaluators: dict[str, Evaluator] = {}
        self.epochs = Epochs(run.sampler, -(-run.total_steps // run.steps_per_epoch))
        self.programs: list[Compiled[MultiStep]] = []  # of this stage and those to come
        self.kept = FrozenFeatures()

    def train(self, watch: Watch | None = None) -> None:
        """Train to the end (or to early stopping); the last step is always evaluated and checkpointed.

        Raises:
          Stopped: after a signal that `watch` has heard, with a checkpoint.
        """
        watch = watch or Watch()
        start = self.resumed or 0
        if start >= self.run.total_steps or self.progress.stopped:
            return
        self.kept = cache_frozen_features(self.run, self.params, self.say)
        feed = BatchFeed(self.run, self.epochs, self._data("train").examples, whole=self.kept.whole)
        batches = {call: feed.abstract(call) for call in feed.calls(start)}
        prepare = self.run.task.prepare
        to_come = [s for s in self.run.plan.stages[1:] if s >= start]
        later = later_stages(self.run.plan, self.optimizer, self.run.mesh, self.state, self.frozen, to_come)
        for x in (self, *later):
            parts = (x.state, self.kept.rest(x.frozen), batches, self.say, prepare, self.run.regularization)
            self.programs.append(compile_train(self.loss, self.optimizer, *parts))
            self.checkpoints.prepare(x.state)
        if "validation" in self.run.data:
            self._evaluator("validation")
        per_epoch, calendar = self.run.steps_per_epoch, self.run.calendar
        metrics = StepMetrics(self.config.log.every, self.run.total_steps, per_epoch, self._learning_rate)
        frozen = self.kept.rest(self.frozen)
        heap = host_memory.ReusedBlock(self._at_work)
        for steps, plan, batch in feed.batches(start):
            in_epoch = range(steps.start % per_epoch, steps.start % per_epoch + len(steps))
            if later and later[0].start == steps.start:
                self.state, self.frozen = open_stage(self.run.plan, later.pop(0), self.state, self.frozen)
                frozen = self.kept.rest(self.frozen)
                del self.programs[0]
                trained = tree.count(self.state.params)
                self.say(f"step {steps.start}: {trained:,} parameters are trained from here on")
            if steps.stop > MOST_STEPS:
                self._on_steps(metrics)
                self._on_checkpoint(steps.start)
                raise UserError(f"{steps.start:,} steps are done, and more cannot be counted: the run ends here")
            call = MultiStep(plan.shape(in_epoch.start), len(steps))
            if call not in self.programs[0]:  # of an epoch beyond those that shapes were chosen by
                new = {call: feed.abstract(call)}
                parts = (self.state, frozen, new, self.say, prepare, self.run.regularization)
                self.programs[0] = self.programs[0].also(compile_train(self.loss, self.optimizer, *parts))
            program = self.programs[0][call]
            heap.before_call(program, self._wait_for_steps)
            with self.profiler.around(steps):
                self.state, sent = program(self.state, frozen, batch)
                watch.arm()
                self._on_steps(metrics)
                metrics.send(steps, sent, plan)  # at its end the window waits for these steps, which is part of their time
            done = steps.stop
            leaves = watch.after(done)
            if calendar.evaluates(done) or calendar.saves(done) or leaves:
                self._on_steps(metrics)
                better = calendar.evaluates(done) and self._evaluate(done)
                if calendar.saves(done) or better or self.progress.stopped or leaves:
                    self._on_checkpoint(done)
                if leaves:
                    self.checkpoints.wait()
                    raise Stopped(
                        leaves, f"stopped: step {done} is saved in {self.directory}; the same command resumes there"
                    )
                metrics.meter.reset()
                if self.progress.stopped:
                    self.say(
                        f"stopped early at step {done}: no better {self.run.metric} for "
                        f"{self.config.train.patience} evaluations"
                    )
                    break
                heap.mark_fragmented()
        self.profiler.close()
        self._release()
        self.checkpoints.wait()
        watch.disarm()

    def select(self) -> int:
        """Put the parameters that the run leaves into `state`: best or last. Returns their step."""
        best = self.progress.best_step
        if self.config.checkpoint.select == "best" and best is not None and best != int(self.state.step):
            self.checkpoints.check(best)
            teachers = self.frozen.teachers
            del self.state, self.frozen  # or there would be two of each in memory
            self.state, frozen, _ = stored_state(self.run, self.checkpoints, best)
            self.frozen = replace(frozen, teachers=teachers)
        return int(self.state.step)

    @property
    def params(self) -> Parameters:
        """`model_params` of the present state, whatever the stage."""
        return model_params(self.state, self.frozen)

    @property
    def last_step(self) -> int:
        """The step at which training ended: that of the newest checkpoint."""
        return self.checkpoints.latest() or 0

    def scores(self, split: str) -> dict[str, Any]:
        """Metrics of the present parameters on a split; thresholds that are to be tuned are tuned on validation data."""
        summary = self._evaluator(split).collect(self._params(split))
        if split == "validation":
            self.task = self.run.task.tune(summary, self.run.data[split])
        return score(self.task, summary, self.run.data[split])

    def end(self, selected_step: int, results: Mapping[str, Any]) -> None:
        """Tell the hooks that the run has ended, with the step whose parameters it leaves and their scores."""
        for hook in self.hooks:
            hook.on_end(End(self.last_step, selected_step, results))

    def close(self) -> None:
        """Finish what is written in the background, compile and plan no more, and give free memory back."""
        self._release()
        self.epochs.close()
        for evaluator in self.evaluators.values():
            evaluator.steps.cancel()
        with ExitStack() as stack:
            for hook in reversed(self.hooks):
                stack.callback(hook.close)
            stack.callback(self.profiler.close, wait=False)
        host_memory.release_freed_memory()

    def _make_hooks(self, claim: Claim | None) -> list[Hook]:
        """What happens beside training, in this order; those of the user's own come last."""
        run, log, start = self.run, self.config.log, self.resumed or 0
        display = Display(log, total_steps=run.total_steps, start_step=start)
        self.say = display.say
        hooks: list[Hook] = [SaveCheckpoints(self.checkpoints, claim), Journal(self.directory, start)]
        hooks += [TensorBoard(self.directory, start)] if log.tensorboard else []
        return [*hooks, display, *(hook(run, self.directory) for hook in load_hooks(self.config))]

    def _wait_for_steps(self) -> None:
        jax.block_until_ready(self.state)

    def _at_work(self) -> bool:
        """Whether anything is compiled or written in the background."""
        steps = [evaluator.steps for evaluator in self.evaluators.values()]
        return self.checkpoints.saving or not all(x.done for x in (*self.programs, *steps))

    def _newest(self) -> int | None:
        """The step to go on from, as the main process finds it."""
        found = -1
        if distributed.is_main_process():
            say, best = partial(print, file=sys.stderr, flush=True), self.config.checkpoint.select == "best"
            newest = integrity.newest(self.directory, best=best, say=say)
            found = -1 if newest is None else newest
            if self.claim:
                input_files.check_weights(
                    self.directory, self.claim.other_weights, newest, adapted=self.run.model.adapted is not None
                )
        found = distributed.from_main(found)
        return None if found < 0 else found

    def _data(self, split: str) -> Split:
        return self.kept.data.get(split, self.run.data[split])

    def _params(self, split: str) -> Parameters:
        """The parameters that a split needs."""
        return self.kept.rest(self.params) if split in self.kept.data else self.params

    def _release(self) -> None:
        for programs in self.programs:
            programs.cancel()
        self.programs.clear()

    def _learning_rate(self, step: int) -> float:
        """Of a step, numbered from 0, since the last evaluation."""
        return self.config.optim.learning_rate * float(self.factor(step)) * self.progress.plateau

    def _on_steps(self, metrics: StepMetrics) -> None:
        """Tell the hooks of the steps that have been sent and not read."""
        for step in metrics.read():
            self._check_finite(step)
            for hook in self.hooks:
                hook.on_step(step)

    def _on_checkpoint(self, step: int) -> None:
        for hook in self.hooks:
            hook.on_checkpoint(Checkpoint(step, self.state, self.progress))

    def _check_finite(self, step: Step) -> None:
        """Stop on a loss that is no number."""
        if not np.isfinite(step.loss or 0.0) or not np.isfinite(step.grad_norm):
            self.checkpoints.wait()
            good = self.checkpoints.latest()
            where = f"the checkpoint of step {good} is good" if good else "there is no checkpoint yet"
            raise UserError(
                f"the loss became {step.loss} at step {step.number} (gradient norm {step.grad_norm:g}, learning rate "
                f"{step.learning_rate:.3g}); {where} in {self.directory}; lower optim.learning_rate"
            )

    def _evaluate(self, step: int) -> bool:
        """Evaluate, tell the hooks, and say whether this is the best so far."""
        name, scores = self.run.metric, self.scores("validation")
        higher = self.run.task.metrics[name]
        self.progress = next_progress(self.config, self.progress, step, scores[name], higher=higher)
        self._set_plateau()
        best = self.progress.best_step == step
        for hook in self.hooks:
            hook.on_evaluation(Evaluation(step, step / self.run.steps_per_epoch, scores, name, best))
        return best

    def _set_plateau(self) -> None:
        """Give the steps what evaluations have left of the learning rate."""
        if optim.PLATEAU in self.state.hyper:
            left = sharding.device_put(np.float32(self.progress.plateau), sharding.replicated(self.run.mesh))
            self.state = replace(self.state, hyper=self.state.hyper | {optim.PLATEAU: left})

    def _evaluator(self, split: str) -> Evaluator:
        if split not in self.evaluators:
            data = self._data(split)
            self.evaluators[split] = make_evaluator(
                self.run.task,
                self.loss,
                data,
                eval_sampler(data.examples, self.config, self.run.mesh),
                self._params(split),
                self.run.mesh,
                self.say,
            )
        return self.evaluators[split]
