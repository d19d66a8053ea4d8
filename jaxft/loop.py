"""The training loop: dispatch, log one step late, evaluate, checkpoint, stop early. It owns the order of events."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft import optim, runtime, sharding
from jaxft.checkpoint import Checkpoints, Progress
from jaxft.checks import duration_steps
from jaxft.compiled import abstract_batches, compile_train
from jaxft.config import OptimConfig
from jaxft.data.batches import EpochPlan
from jaxft.data.feed import device_batch, prefetch
from jaxft.distill import NAME, TEACHERS
from jaxft.errors import UserError
from jaxft.evaluation import Evaluator, make_evaluator, score
from jaxft.journal import Journal, Meter
from jaxft.regularization import REFERENCE
from jaxft.setup import Run, eval_planner, run_loss
from jaxft.step import TrainState, init_state
from jaxft.tree import Params


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
        self.state, self.frozen = fresh_state(run)
        self.progress = Progress()
        self.resumed = self.checkpoints.latest()
        if self.resumed is None:
            self.checkpoints.save_frozen(self.frozen)
        else:
            self.frozen = self.checkpoints.restore_frozen(self.frozen)
            self.state, self.progress = self.checkpoints.restore(self.resumed, self.state)
            self._set_plateau()
        if run.teacher:
            teacher = run.teacher[1]
            placed = sharding.place(teacher, sharding.param_shardings(run.mesh, teacher))
            self.frozen = self.frozen | {TEACHERS: {NAME: placed}}
        self.journal = Journal(directory, run.config.log, total_steps=run.total_steps, start_step=self.resumed or 0)
        self.loss = run_loss(run)
        self.evaluators: dict[str, Evaluator] = {}

    def train(self) -> None:
        """Train to the end (or to early stopping); the last step is always evaluated and checkpointed."""
        run, start = self.run, self.resumed or 0
        if start >= self.run.total_steps or self.progress.stopped:
            return
        place = sharding.batch_sharding(self.run.mesh)
        batches = abstract_batches(self.run.planner, self.run.data["train"].examples, place)
        prepare = self.run.task.prepare
        steps = compile_train(
            self.loss,
            self.optimizer,
            self.state,
            self.frozen,
            batches,
            self.journal.say,
            prepare,
            run.regularization,
        )
        self.checkpoints.prepare(self.state)
        if "validation" in self.run.data:
            self._evaluator("validation")
        per_epoch = self.run.steps_per_epoch
        evaluate_every = duration_steps(self.config.eval.every, per_epoch, "eval.every")
        save_every = duration_steps(self.config.checkpoint.every, per_epoch, "checkpoint.every")
        meter = Meter()
        late: tuple[int, Any] | None = None
        for step, plan, batch in self._batches(start):
            in_epoch = step % per_epoch
            self.state, metrics = steps[plan.shape(in_epoch)](self.state, self.frozen, batch)
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
        self.checkpoints.wait()

    def select(self) -> int:
        """Put the parameters that the run leaves into `state`: best or last. Returns their step."""
        best = self.progress.best_step
        if self.config.checkpoint.select == "best" and best is not None and best != int(self.state.step):
            self.state, _ = self.checkpoints.restore(best, self.state)
        return int(self.state.step)

    @property
    def last_step(self) -> int:
        """The step at which training ended: that of the newest checkpoint."""
        return self.checkpoints.latest() or 0

    def scores(self, split: str) -> dict[str, Any]:
        """Metrics of the present parameters on a split; thresholds that are to be tuned are tuned on validation data."""
        collected = self._evaluator(split).collect(self.state.evaluated, self.frozen)
        if split == "validation":
            self.task = self.run.task.fit(collected, self.run.data[split])
        return score(self.task, collected, self.run.data[split])

    def close(self) -> None:
        """Finish what is written in the background."""
        try:
            self.checkpoints.close()
        finally:
            self.journal.close()

    def _batches(self, start: int) -> Iterator[tuple[int, EpochPlan, dict[str, jax.Array]]]:
        run, place = self.run, sharding.batch_sharding(self.run.mesh)
        plans: dict[int, EpochPlan] = {}

        def make(step: int) -> tuple[int, EpochPlan, dict[str, jax.Array]]:
            epoch, in_epoch = divmod(step, run.steps_per_epoch)
            if epoch not in plans:
                plans.clear()
                plans[epoch] = run.planner.plan_epoch(epoch)
            return step, plans[epoch], device_batch(plans[epoch], run.data["train"].examples, in_epoch, place)

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
            data = self.run.data[split]
            self.evaluators[split] = make_evaluator(
                self.run.task,
                self.loss,
                data,
                eval_planner(data.examples, self.config, self.run.mesh),
                self.state.evaluated,
                self.frozen,
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
    trainable, frozen = run.plan.split(run.params)
    if run.regularization.needs_reference:
        frozen = frozen | {REFERENCE: trainable}
    shardings = sharding.param_shardings(run.mesh, trainable)
    trainable = sharding.place(trainable, shardings)
    frozen = sharding.place(frozen, sharding.param_shardings(run.mesh, frozen))
    hyper = optim.hyperparameters(run.config.optim)
    key = runtime.root_key(run.config.seed)
    optimizer = run_optimizer(run)

    def make(params: Params) -> TrainState:
        return init_state(params, optimizer, key, hyper, average=bool(run.config.regularization.ema))

    abstract = jax.eval_shape(make, trainable)
    everywhere = sharding.replicated(run.mesh)
    placed = replace(
        jax.tree.map(lambda _: everywhere, abstract),
        params=shardings,
        average=shardings if abstract.average else {},
        opt_state=sharding.optimizer_shardings(run.mesh, abstract.opt_state, trainable),
    )
    return jax.jit(make, out_shardings=placed)(trainable), frozen


def run_optimizer(run: Run) -> optim.Optimizer:
    """The optimizer of a run."""
    blocked = run.mesh.size == 1 and run.mesh.devices.flat[0].platform == "cpu"
    return optim.make_optimizer(run.config.optim, run.plan, run.total_steps, blocked_norm=blocked)
