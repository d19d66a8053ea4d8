"""The outputs of a run's teachers for its training examples: found, or computed once."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import jax
import numpy as np

from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.core.phases import TEACHING, phase
from jaxft.core.signals import nothing
from jaxft.core.tree import Params
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder import fused_attention
from jaxft.models.model import Model
from jaxft.parallel import sharding
from jaxft.run.setup import Run
from jaxft.run.teachers import Teacher
from jaxft.step.cached_teacher import Stored
from jaxft.teacher_cache import identity
from jaxft.teacher_cache.choice import arrays_of, with_outputs
from jaxft.teacher_cache.forward import outputs, texts_of
from jaxft.teacher_cache.layout import fixed_batches, from_step
from jaxft.teacher_cache.place import Opened, Place, opened_by_all, place_of, shown_size

Say = Callable[[str], None]


@phase(TEACHING)
def taught(
    run: Run,
    stored: Mapping[str, Stored],
    examples: Examples,
    say: Say,
    *,
    lasting: bool = False,
    check: Callable[[], None] = nothing,
) -> tuple[Examples, list[str]]:
    """(the training examples with the columns of the teachers' outputs, lines that tell where these are).

    They are computed unless they are on disk. A teacher's parameters are on the devices only while it computes.

    Args:
      run: whose teachers have not been released.
      stored: what is kept of their outputs (`choose`).
      examples: those of the run, which may have more columns than the teacher reads.
      say: prints a line.
      lasting: whether the outputs are for other runs, so that a directory that cannot be written is an error.
      check: called after every batch of the teacher.

    Raises:
      UserError: if the outputs cannot be written, or `distill.cache_dir` holds something else.
    """
    lines = []
    for teacher, own in _with_stored(run, stored):
        texts = _texts(run, teacher)
        who = "the teacher" if len(run.teachers) == 1 else f"the teacher {teacher.name}"
        place = _place(run, teacher, own, texts, say, lasting=lasting)
        values, line = _Work(who, teacher.model, teacher.params, own, texts, place, run.mesh, say, check).done()
        examples = with_outputs(examples, own, values, teacher.key)
        lines.append(line)
    return examples, lines


def check_directory(run: Run, stored: Mapping[str, Stored]) -> None:
    """Refuse a `distill.cache_dir` that holds something else, before anything is written.

    Raises:
      UserError: that names what differs.
    """
    if run.config.distill.cache_dir:
        for teacher, own in _with_stored(run, stored):
            _place(run, teacher, own, _texts(run, teacher), lambda _: None).refuse_others()


def _with_stored(run: Run, stored: Mapping[str, Stored]) -> list[tuple[Teacher, Stored]]:
    return [(teacher, stored[teacher.key]) for teacher in run.teachers if teacher.key in stored]


def _texts(run: Run, teacher: Teacher) -> Examples:
    """What of the training examples a teacher reads."""
    return texts_of(teacher.examples or run.data["train"].examples)


def _place(run: Run, teacher: Teacher, stored: Stored, texts: Examples, say: Say, *, lasting: bool = False) -> Place:
    about = identity.describe(run, (teacher.model, teacher.params), texts, stored)
    directory = run.config.distill.cache_dir
    if directory and len(run.teachers) > 1:
        directory = f"{directory}/{teacher.key}"
    return place_of(directory, about, arrays_of(stored, texts), len(texts), say, lasting=lasting)


@dataclass(frozen=True)
class _Work:
    """What a teacher has to do.

    Attributes:
      who: what lines call it.
      model, params: the teacher, on the host.
      stored: what is kept of its outputs.
      texts: what it reads.
      place: where its outputs are kept.
      mesh: the devices.
      say: prints a line.
      check: called after every batch.
    """

    who: str
    model: Model
    params: Params
    stored: Stored
    texts: Examples
    place: Place
    mesh: jax.sharding.Mesh
    say: Say
    check: Callable[[], None]

    def done(self) -> tuple[Mapping[str, np.ndarray], str]:
        """(the columns, a line that tells where they are)."""
        place, begin = self.place, time.perf_counter()
        what = f"{self.who}'s outputs for {len(self.texts):,} examples ({shown_size(place.size)})"
        opened = opened_by_all(place)
        with ExitStack() as stack:
            if opened.lock:
                stack.callback(opened.lock.close)
            if opened.writer:
                stack.callback(opened.writer.close)
            before = min(distributed.gather(opened.writer.done if opened.writer else len(self.texts)))
            if before == len(self.texts) and opened.values is not None:
                return opened.values, f"{what} are in {place.folder}"
            self._compute(before, opened)
            with place.writing():
                values = opened.writer.finish() if opened.writer else opened.values
        distributed.all_agree(True)  # the main process has written everything
        if values is None and (values := place.complete()) is None:
            raise UserError(f"{place.folder}: process 0 has written {self.who}'s outputs, but they are not seen here")
        where = "temporary files" if opened.writer and not opened.lock else place.folder
        there = f", {before:,} of which were there," if before else ""
        return values, f"{what}{there} took {time.perf_counter() - begin:.1f} s, and are in {where}"

    def _compute(self, done: int, opened: Opened) -> None:
        """Compute and write the outputs for all examples after the first `done`, all processes together."""
        platform, writer = self.mesh.devices.flat[0].platform, opened.writer
        lengthen = lambda length: fused_attention.padded_length(length, platform)  # noqa: E731
        batches = fixed_batches(self.texts.lengths, self.mesh.size, lengthen)
        left = from_step(batches, int(np.searchsorted(batches.begins, done)))
        if not left.steps:
            return
        self.say(f"{self.who} computes its outputs for {len(self.texts) - done:,} examples, once")
        placed = sharding.place_params(self.mesh, self.params)
        for values, stop in outputs(self.model, placed, self.mesh, self.texts, left, self.stored, self.say):
            if opened.lock:
                opened.lock.check()
            if writer and stop > writer.done:
                with self.place.writing():
                    writer.append(values, stop)
            self.check()
