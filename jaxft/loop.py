"""The training loop: dispatch, log one step late, evaluate, checkpoint, stop early. It owns the order of events."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft import optim, runtime, sharding, tree
from jaxft.checkpoint import Checkpoints, Progress
from jaxft.checks import duration_steps
from jaxft.compiled import Compiled, abstract_batches, compile_train
from jaxft.config import OptimConfig
from jaxft.data.batches import EpochPlan
from jaxft.data.feed import device_batch, prefetch
from jaxft.distill import NAME, TEACHERS
from jaxft.errors import UserError
from jaxft.evaluation import Evaluator, make_evaluator, score
from jaxft.journal import Journal, Meter
from jaxft.prefix import Kept, keep
from jaxft.regularization import REFERENCE
from jaxft.setup import Run, eval_planner, run_loss
from jaxft.stages import later_stages, open_stage, state_shardings
from jaxft.step import TrainState, init_state
from jaxft.tasks.task import Split
from jaxft.tree import Params
from jaxft.used_words import split_unused


class Trainer:
    """One run in its directory: made from a `Run`, resumed from the latest checkpoint if there is one."""

    def __init__(self, run: Run, directory: Path) -> None:
        self.run = run
        self.config = run.config
        self.task = run.task
        self.directory = directory
        self.checkpoints = Checkpoints(directory, keep=run.config.checkpoint.keep)
        self.optimizer = run_optimizer(run)
        self.factor = optim.schedule_factor(run.config.optim, run.total_steps, np)
        self.resumed = self.checkpoints.latest()
        if self.resumed is None:
            self.progress = Progress()
            self.state, self.frozen = fresh_state(run)
            self.checkpoints.save_frozen(self.frozen)
        else:
            self.state, self.frozen, self.progress = stored_state(run, self.checkpoints, self.resumed)
            self._set_plateau()
        if run.teacher:
            teacher = run.teacher[1]
            placed = sharding.place(teacher, sharding.param_shardings(run.mesh, teacher))
            self.frozen = self.frozen | {TEACHERS: {NAME: placed}}
        self.journal = Journal(directory, run.config.log, total_steps=run.total_steps, start_step=self.resumed or 0)
        self.loss = run_loss(run)
        self.evaluators: dict[str, Evaluator] = {}
        self.plans: dict[int, EpochPlan] = {}
        self.programs: list[Compiled] = []  # of this stage and those to come
        self.kept = Kept()

    def train(self) -> None:
        """Train to the end (or to early stopping); the last step is always evaluated and checkpointed."""
        start = self.resumed or 0
        if start >= self.run.total_steps or self.progress.stopped:
            return
        self.kept = keep(self.run, self.params, self.journal.say)
        place = sharding.batch_sharding(self.run.mesh)
        batches = abstract_batches(self.run.planner, self._data("train").examples, place)
        epoch, in_epoch = divmod(start, self.run.steps_per_epoch)
        first = self._plan(epoch).shape(in_epoch)
        batches = {first: batches[first], **batches}
        prepare = self.run.task.prepare
        to_come = [s for s in self.run.plan.stages[1:] if s >= start]
        later = later_stages(self.run.plan, self.optimizer, self.run.mesh, self.state, self.frozen, to_come)
        for x in (self, *later):
            parts = (x.state, self.kept.rest(x.frozen), batches, self.journal.say, prepare, self.run.regularization)
            self.programs.append(compile_train(self.loss, self.optimizer, *parts))
            self.checkpoints.prepare(x.state)
        if "validation" in self.run.data:
            self._evaluator("validation")
        per_epoch = self.run.steps_per_epoch
        evaluate_every = duration_steps(self.config.eval.every, per_epoch, "eval.every")
        save_every = duration_steps(self.config.checkpoint.every, per_epoch, "checkpoint.every")
        meter = Meter()
        late: tuple[int, Any] | None = None
        frozen = self.kept.rest(self.frozen)
        for step, plan, batch in self._batches(start):
            in_epoch = step % per_epoch
            if later and later[0].start == step:
                self.state, self.frozen = open_stage(self.run.plan, later.pop(0), self.state, self.frozen)
                frozen = self.kept.rest(self.frozen)
                del self.programs[0]
                self.journal.say(f"step {step}: {tree.count(self.state.params):,} parameters are trained from here on")
            self.state, metrics = self.programs[0][plan.shape(in_epoch)](self.state, frozen, batch)
            if late:
                self._log(*late, meter)
            late = (step + 1, metrics)
            examples = plan.examples(in_epoch)
            meter.add(len(examples), int(plan.planner.lengths[examples].sum()))
            done, last = step + 1, step + 1 == self.run.total_steps
            evaluate = "validation" in self.run.data and (done % evaluate_every == 0 or last)
            if evaluate or done % save_every == 0 or last:
                self._log(*late, meter)
                late = None
                better = evaluate and self._evaluate(done)
                if done % save_every == 0 or last or better or self.progress.stopped:
                    self.checkpoints.save(self.state, self.progress)
                meter.reset()
                if self.progress.stopped:
                    self.journal.say(
                        f"stopped early at step {done}: no better {self.run.metric} for "
                        f"{self.config.train.patience} evaluations"
                    )
                    break
        self._release()
        self.checkpoints.wait()

    def select(self) -> int:
        """Put the parameters that the run leaves into `state`: best or last. Returns their step."""
        best = self.progress.best_step
        if self.config.checkpoint.select == "best" and best is not None and best != int(self.state.step):
            others = {name: x for name, x in self.frozen.items() if name not in self.run.params}
            self.state, frozen, _ = stored_state(self.run, self.checkpoints, best)
            self.frozen = frozen | others
        return int(self.state.step)

    @property
    def params(self) -> Params:
        """The model's parameters, trainable or not, whatever the stage; the moving average where one is kept."""
        own = {name: x for name, x in self.frozen.items() if name not in (TEACHERS, REFERENCE)}
        return tree.combine(self.state.evaluated, own)

    @property
    def last_step(self) -> int:
        """The step at which training ended: that of the newest checkpoint."""
        return self.checkpoints.latest() or 0

    def scores(self, split: str) -> dict[str, Any]:
        """Metrics of the present parameters on a split; thresholds that are to be tuned are tuned on validation data."""
        collected = self._evaluator(split).collect(self._params(split), {})
        if split == "validation":
            self.task = self.run.task.fit(collected, self.run.data[split])
        return score(self.task, collected, self.run.data[split])

    def close(self) -> None:
        """Finish what is written in the background, and compile no more."""
        self._release()
        for evaluator in self.evaluators.values():
            evaluator.steps.cancel()
        try:
            self.checkpoints.close()
        finally:
            self.journal.close()

    def _data(self, split: str) -> Split:
        return self.kept.data.get(split, self.run.data[split])

    def _params(self, split: str) -> Params:
        """The parameters that a split needs."""
        return self.kept.rest(self.params) if split in self.kept.data else self.params

    def _release(self) -> None:
        for programs in self.programs:
            programs.cancel()
        self.programs.clear()

    def _plan(self, epoch: int) -> EpochPlan:
        if epoch not in self.plans:
            self.plans = {epoch: self.run.planner.plan_epoch(epoch)}
        return self.plans[epoch]

    def _batches(self, start: int) -> Iterator[tuple[int, EpochPlan, dict[str, jax.Array]]]:
        run, place = self.run, sharding.batch_sharding(self.run.mesh)

        def make(step: int) -> tuple[int, EpochPlan, dict[str, jax.Array]]:
            epoch, in_epoch = divmod(step, run.steps_per_epoch)
            plan = self._plan(epoch)
            return step, plan, device_batch(plan, self._data("train").examples, in_epoch, place)

        return prefetch(iter(range(start, run.total_steps)), make, run.config.data.prefetch)

    def _log(self, step: int, metrics: dict[str, jax.Array], meter: Meter) -> None:
        """Read a step's metrics (this waits for that step only), stop on a loss that is no number, write a row."""
        loss, norm = float(np.asarray(metrics["loss"])), float(np.asarray(metrics["grad_norm"]))
        rate = self.config.optim.learning_rate * float(self.factor(step - 1)) * self.progress.plateau
        if not np.isfinite(loss) or not np.isfinite(norm):
            self.checkpoints.wait()
            good = self.checkpoints.latest()
            where = f"the checkpoint of step {good} is good" if good else "there is no checkpoint yet"
            raise UserError(
                f"the loss became {loss} at step {step} (gradient norm {norm:g}, learning rate "
                f"{rate:.3g}); {where} in {self.directory}; lower optim.learning_rate"
            )
        self.journal.progress(step, loss=f"{loss:.4f}", lr=f"{rate:.2e}")
        if step % self.config.log.every == 0 or step == self.run.total_steps:
            rates = meter.read()
            row = {
                "step": step,
                "epoch": step / self.run.steps_per_epoch,
                "loss": loss,
                "learning_rate": rate,
                "grad_norm": norm,
                **rates,
            }
            self.journal.write(row)
            self.journal.progress(step, loss=f"{loss:.4f}", lr=f"{rate:.2e}", tokens=f"{rates['tokens_per_second']:.0f}/s")

    def _evaluate(self, step: int) -> bool:
        """Evaluate, journal, and say whether this is the best so far."""
        name = self.run.metric
        scores = self.scores("validation")
        numbers = {f"eval/{k}": v for k, v in scores.items() if isinstance(v, float)}  # tables come at the end
        self.journal.write({"step": step, "epoch": step / self.run.steps_per_epoch, **numbers})
        score, best = scores[name], self.progress.best_score
        gain = None if best is None else (score - best) * (1 if self.run.task.metrics[name] else -1)
        better = gain is None or gain > self.config.train.min_delta
        bad = 0 if better else self.progress.bad_evaluations + 1
        patience = self.config.train.patience
        plateau, plateau_bad = next_plateau(self.config.optim, self.progress, better)
        self.progress = Progress(
            best_step=step if better else self.progress.best_step,
            best_score=score if better else best,
            bad_evaluations=bad,
            stopped=patience is not None and bad >= patience,
            plateau=plateau,
            plateau_bad=plateau_bad,
        )
        self._set_plateau()
        mark = " (best)" if better else ""
        self.journal.say(f"step {step}: validation {name} {score:.4f}{mark}, loss {scores['loss']:.4f}")
        return better

    def _set_plateau(self) -> None:
        """Give the steps what evaluations have left of the learning rate."""
        if optim.PLATEAU in self.state.hyper:
            left = sharding.place(np.float32(self.progress.plateau), sharding.replicated(self.run.mesh))
            self.state = replace(self.state, hyper=self.state.hyper | {optim.PLATEAU: left})

    def _evaluator(self, split: str) -> Evaluator:
        if split not in self.evaluators:
            data = self._data(split)
            self.evaluators[split] = make_evaluator(
                self.run.task,
                self.loss,
                data,
                eval_planner(data.examples, self.config, self.run.mesh),
                self._params(split),
                {},
                self.run.mesh,
                self.journal.say,
            )
        return self.evaluators[split]


def next_plateau(config: OptimConfig, progress: Progress, better: bool) -> tuple[float, int]:
    """(share of the learning rate, bad evaluations) after an evaluation, as torch's ReduceLROnPlateau counts them."""
    bad = 0 if better else progress.plateau_bad + 1
    if config.schedule != optim.PLATEAU:
        return 1.0, 0
    if bad > config.plateau_patience:
        return progress.plateau * config.plateau_factor, 0
    return progress.plateau, bad


def fresh_state(run: Run) -> tuple[TrainState, Params]:
    """(trainable state before the first step, frozen parameters), placed on the mesh."""
    start = _start(run)
    shapes, _ = _shapes(run, *start)
    trainable, frozen = (sharding.place(x, sharding.param_shardings(run.mesh, x)) for x in start)
    placed = jax.tree.map(lambda x: x.sharding, shapes)
    return jax.jit(_starter(run), out_shardings=placed)(trainable), frozen


def start_shapes(run: Run) -> tuple[TrainState, Params]:
    """`fresh_state` as shapes and shardings, for a mesh whose devices need not be there."""
    return _shapes(run, *_start(run))


def _shapes(run: Run, *start: Params) -> tuple[TrainState, Params]:
    trainable, frozen = (sharding.shapes(run.mesh, part) for part in start)
    state = jax.eval_shape(_starter(run), trainable)
    return jax.tree.map(sharding.with_sharding, state, state_shardings(run.mesh, state)), frozen


def _starter(run: Run) -> Callable[[Params], TrainState]:
    """Trainable parameters -> the state before the first step."""
    hyper = optim.hyperparameters(run.config.optim)
    key = runtime.root_key(run.config.seed)
    optimizer = run_optimizer(run)
    average = bool(run.config.regularization.ema)
    return lambda params: init_state(params, optimizer, key, hyper, average=average)


def stored_state(run: Run, checkpoints: Checkpoints, step: int) -> tuple[TrainState, Params, Progress]:
    """(state, frozen parameters, progress) of a checkpoint, in the stage of the last step before it."""
    state, frozen = fresh_state(run)
    frozen = checkpoints.restore_frozen(frozen)
    begun = [s for s in run.plan.stages[1:] if s < step]
    for stage in later_stages(run.plan, run_optimizer(run), run.mesh, state, frozen, begun):
        state, frozen = open_stage(run.plan, stage, state, frozen)
    state, progress = checkpoints.restore(step, state)
    return state, frozen, progress


def _start(run: Run) -> tuple[Params, Params]:
    """(trainable parameters of the first stage, all that is frozen), on the host."""
    params, unused = split_unused(run.params, run.used_words)
    trainable, frozen = run.plan.split(params)
    if run.regularization.needs_reference:  # of all that is trained sooner or later
        frozen = frozen | {REFERENCE: run.plan.split(params, run.total_steps)[0]}
    return trainable, frozen | unused


def run_optimizer(run: Run) -> optim.Optimizer:
    """The optimizer of a run."""
    blocked = run.mesh.size == 1 and run.mesh.devices.flat[0].platform == "cpu"
    return optim.make_optimizer(run.config.optim, run.plan, run.total_steps, blocked_norm=blocked)
