"""Every declared shape compiles once, before the first step; nothing compiles while training goes on."""

import jax
import pytest

from jaxft import loop
from jaxft.train import train
from tests import tiny

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
    found = Compilations()
    jax.monitoring.register_event_duration_secs_listener(found.listen)
    compile_train = loop.compile_train

    def counting(*args, **options):
        def counted(step):
            def call(*inputs):
                found.at_step.append(len(found.names))
                return step(*inputs)

            return call

        return {shape: counted(step) for shape, step in compile_train(*args, **options).items()}

    monkeypatch.setattr(loop, "compile_train", counting)
    yield found
    jax.monitoring.unregister_event_duration_listener(found.listen)


@pytest.mark.parametrize(
    ("layout", "mesh", "preset"),
    [
        ("pack", {"data": 1}, "full"),
        ("bucket", {"data": 2, "fsdp": 2}, "full"),
        ("pad", {"data": 1}, "full"),
        ("pad", {"data": 1}, "gradual"),
    ],
)
def test_compilations_are_the_declared_shapes(
    classifier, tiny_data, tmp_path, monkeypatch, compilations, layout, mesh, preset
):
    declared, stages = [], []
    make = loop.Trainer.__init__

    def init(self, run, directory):
        make(self, run, directory)
        declared.extend(run.planner.shapes)
        stages.extend(run.plan.stages)

    monkeypatch.setattr(loop.Trainer, "__init__", init)
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
    )
    train(config)
    assert 1 <= len(declared) <= 2
    assert layout == "pad" or len(declared) > 1
    assert compilations.names.count("jit(train_step)") == len(declared) * len(stages)
    assert len(stages) == (3 if preset == "gradual" else 1)
    assert 1 <= compilations.names.count("jit(eval_step)") <= 2
    assert len(compilations.at_step) == 26
    during = compilations.names[compilations.at_step[0] : compilations.at_step[-1]]
    if "fsdp" in mesh:  # orbax cuts what is replicated, so that the replicas share the writing of the first checkpoint
        assert set(during) <= {"jit(slice)"}
        during = compilations.names[compilations.at_step[6] : compilations.at_step[-1]]
    assert during == []
