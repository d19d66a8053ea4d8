"""Every declared shape is compiled once, requested before the first step; nothing else is compiled during training."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import pytest

from jaxft.core import signals
from jaxft.data.batching import batch_sampler, packing
from jaxft.data.batching.batch_sampler import Shape
from jaxft.evaluation import evaluator
from jaxft.step import compilation
from jaxft.train import train
from jaxft.training import loop, programs
from jaxft.training.journal import Journal
from tests.support import several, tiny

EVENT = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Names of the programs compiled so far, and how many there were when each step was dispatched."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at_step: list[int] = []

    def listen(self, event: str, duration: float, fun_name: str = "", **_: object) -> None:
        if event == EVENT:
            self.names.append(fun_name)


@pytest.fixture
def compilations(monkeypatch):
    workers = compilation._POOL._max_workers
    free = threading.Barrier(workers)  # wait for compilations that earlier tests began
    for each in [compilation._POOL.submit(free.wait) for _ in range(workers)]:
        each.result()
    found = Compilations()
    jax.monitoring.register_event_duration_secs_listener(found.listen)
    compile_train = programs.compile_train

    class Counted(compilation.Compiled):
        def ready(self, key, check=signals.nothing):
            found.at_step.append(len(found.names))
            return super().ready(key, check)

    monkeypatch.setattr(programs, "compile_train", lambda *args: Counted(compile_train(*args)._programs))
    yield found
    jax.monitoring.unregister_event_duration_listener(found.listen)


@pytest.mark.parametrize(
    ("layout", "mesh", "preset", "together"),
    [
        ("bucket", {"data": 1}, "full", 1),
        ("pack", {"data": 1}, "full", 2),
        pytest.param("pack", {"data": 1}, "full", 1, marks=pytest.mark.slow),
        pytest.param("bucket", {"data": 2, "fsdp": 2}, "full", 1, marks=pytest.mark.slow),
        pytest.param("pad", {"data": 1}, "full", 1, marks=pytest.mark.slow),
        pytest.param("pad", {"data": 1}, "gradual", 1, marks=pytest.mark.slow),
    ],
)
def test_compilations_are_the_declared_shapes(
    classifier, tiny_data, tmp_path, monkeypatch, compilations, layout, mesh, preset, together
):
    declared, stages = [], []
    make = loop.Loop.__init__

    def init(self, run, *more):
        make(self, run, *more)
        declared.extend(run.sampler.shapes)
        stages.extend(run.plan.stages)

    monkeypatch.setattr(loop.Loop, "__init__", init)
    for module in (batch_sampler, packing):
        monkeypatch.setattr(module, "COMPILE", 0)  # a short run, or one with long rows, would have one shape
    monkeypatch.setattr(packing, "LONGEST_ROW", 0)
    config = tiny.run_config(
        classifier,
        tiny_data,
        tmp_path / "run",
        model=tiny.NO_DROPOUT,
        data={"layout": layout, "shapes": 2},
        train={"epochs": 2, "batch_size": 8},
        eval={"every": 10, "batch_size": 8},
        checkpoint={"every": 5},
        mesh=mesh,
        plan={"preset": preset, "unfreeze_every": 9},
        runtime={"distributed": "off", "unroll": 1, "steps_per_execution": together},
    )
    train(config)
    assert 1 <= len(declared) <= 2
    assert layout == "pad" or len(declared) > 1
    assert compilations.names.count("jit(train_step)") == len(declared) * len(stages)
    assert compilations.names.count("jit(train_steps)") == (len(declared) if together > 1 else 0)
    assert len(stages) == (3 if preset == "gradual" else 1)
    assert 1 <= compilations.names.count("jit(eval_step)") <= 2
    assert len(compilations.at_step) == 26 if together == 1 else 13 <= len(compilations.at_step) < 26

    def others(first: int) -> set[str]:  # besides the steps, which were counted
        during = compilations.names[compilations.at_step[first] : compilations.at_step[-1]]
        return set(during) - {"jit(train_step)", "jit(train_steps)", "jit(eval_step)"}

    if "fsdp" in mesh:  # orbax cuts what is replicated, so that the replicas share the writing of the first checkpoint
        assert others(0) <= {"jit(slice)"}
        assert others(6) == set()
    else:
        assert others(0) == set()


@pytest.mark.parametrize("per_step", ["mixed", pytest.param("one", marks=pytest.mark.slow)])
def test_steps_of_several_tasks_have_one_program_for_each_shape(tiny_model, tmp_path, monkeypatch, compilations, per_step):
    """Whichever task a step is of, or how many examples of each it has in this epoch."""
    declared: list[Shape] = []
    make = loop.Loop.__init__

    def init(self, run, *more):
        make(self, run, *more)
        declared.extend(run.sampler.shapes)

    monkeypatch.setattr(loop.Loop, "__init__", init)
    for module in (batch_sampler, packing):
        monkeypatch.setattr(module, "COMPILE", 0)
    names = ["moods", "tags", "words"]
    folder = several.write_files(tmp_path, moods=80)
    train(
        several.configure(
            tiny_model,
            folder,
            tmp_path / "run",
            names,
            model={"num_layers": 1},
            data={"shapes": 2},
            train={"epochs": 3, "batch_size": 16},
            sampling={"sampler": "annealed", "per_step": per_step},
            changes={name: {"data": {"validation": None}} for name in names},
        )
    )
    assert compilations.names.count("jit(train_step)") == len(declared) > 1
    during = compilations.names[compilations.at_step[0] : compilations.at_step[-1]]
    assert set(during) <= {"jit(train_step)"}


def shape(rows: int) -> Shape:
    return Shape(rows=rows, length=8, slots=1)


def test_a_program_is_awaited_and_a_failure_is_raised_at_once():
    ready, failing = Future(), Future()
    programs = compilation.Compiled({shape(1): ready, shape(2): failing})
    ready.set_result("program")
    assert programs[shape(1)] == "program"
    assert list(programs) == [shape(1), shape(2)]
    failing.set_exception(RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        programs[shape(1)]


def test_training_begins_before_the_last_program_is_compiled(tiny_model, tiny_data, tmp_path, monkeypatch):
    """The last one, evaluation, is delayed until the first step is done."""
    stepped, began = threading.Event(), []
    pool, compile_eval = ThreadPoolExecutor(1), compilation.compile_eval

    def delayed(*rest):
        pool.submit(lambda: began.append(stepped.wait(300)))
        return compile_eval(*rest)

    monkeypatch.setattr(compilation, "_POOL", pool)
    monkeypatch.setattr(evaluator, "compile_eval", delayed)
    monkeypatch.setattr(Journal, "on_step", lambda self, step: stepped.set())
    train(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", model=tiny.NO_DROPOUT, train={"max_steps": 3}))
    assert began == [True]
