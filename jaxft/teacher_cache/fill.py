"""The outputs of a run's teacher for its training examples: found, or computed once."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np

from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.core.phases import TEACHING, phase
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder import fused_attention
from jaxft.parallel import sharding
from jaxft.run.setup import Run
from jaxft.step.cached_teacher import StoredOutput
from jaxft.teacher_cache import identity
from jaxft.teacher_cache.choice import arrays_of, with_outputs
from jaxft.teacher_cache.forward import outputs, texts_of
from jaxft.teacher_cache.layout import fixed_batches, from_step
from jaxft.teacher_cache.place import Opened, Place, opened_by_all, place_of, shown_size

Values = Mapping[str, np.ndarray]


@phase(TEACHING)
def taught(
    run: Run, stored: tuple[StoredOutput, ...], examples: Examples, say: Callable[[str], None]
) -> tuple[Examples, str]:
    """(the training examples with the columns of the teacher's outputs, a line that tells where these are).

    They are computed unless they are on disk.

    The teacher's parameters are on the devices only while it computes.

    Args:
      run: with a teacher whose parameters have not been released.
      stored: what is kept of its outputs (`choose`).
      examples: those of the run, which may have more columns than the teacher reads.
      say: prints a line.

    Raises:
      UserError: if the outputs cannot be written, or `distill.cache_dir` holds something else.
    """
    texts = texts_of(examples)
    values, line = _values(run, stored, texts, _place(run, stored, texts, say), say)
    return with_outputs(examples, stored, values), line


def check_directory(run: Run, stored: tuple[StoredOutput, ...]) -> None:
    """Refuse a `distill.cache_dir` that holds something else, before anything is written.

    Raises:
      UserError: that names what differs.
    """
    if stored and run.config.distill.cache_dir:
        _place(run, stored, texts_of(run.data["train"].examples), lambda _: None).refuse_others()


def _place(run: Run, stored: tuple[StoredOutput, ...], texts: Examples, say: Callable[[str], None]) -> Place:
    about, arrays = identity.describe(run, texts, stored), arrays_of(stored, texts)
    return place_of(run.config.distill.cache_dir, about, arrays, len(texts), say)


def _values(
    run: Run, stored: tuple[StoredOutput, ...], texts: Examples, place: Place, say: Callable[[str], None]
) -> tuple[Values, str]:
    what = f"outputs for {len(texts):,} examples ({shown_size(place.size)})"
    begin = time.perf_counter()
    opened = opened_by_all(place)
    with ExitStack() as stack:
        if opened.lock:
            stack.callback(opened.lock.close)
        if opened.writer:
            stack.callback(opened.writer.close)
        done = _compute(run, stored, texts, place, opened, say)
        if done is None:
            assert opened.values is not None
            return opened.values, f"the teacher's {what} are in {place.folder}"
        with place.writing():
            values = opened.values if opened.writer is None else opened.writer.finish()
    distributed.all_agree(True)  # the main process has written everything
    if values is None and (values := place.complete()) is None:
        raise UserError(f"{place.folder}: process 0 has written the teacher's outputs, but they are not seen here")
    where = place.folder if opened.lock else "a temporary file" if opened.writer else place.folder
    gone_on = f", {done:,} of which were there" if done else ""
    return values, f"the teacher's {what}{gone_on} took {time.perf_counter() - begin:.1f} s, and are in {where}"


def _compute(
    run: Run, stored: tuple[StoredOutput, ...], texts: Examples, place: Place, opened: Opened, say: Callable[[str], None]
) -> int | None:
    """Write what is missing, all processes together.

    Returns:
      How many examples were complete before; None if all were.
    """
    assert run.teacher
    count, writer = len(texts), opened.writer
    done = min(distributed.gather(writer.done if writer else count))
    if done == count and writer is None:
        return None
    model, params = run.teacher
    platform = run.mesh.devices.flat[0].platform
    batches = fixed_batches(texts.lengths, run.mesh.size, lambda length: fused_attention.padded_length(length, platform))
    left = from_step(batches, int(np.searchsorted(batches.begins, done)))
    if left.steps:
        say(f"the teacher computes its outputs for {count - done:,} examples, once")
        placed = sharding.place_params(run.mesh, params)
        for values, stop in outputs(model, placed, run.mesh, texts, left, stored, say):
            if opened.lock:
                opened.lock.check()
            if writer and stop > writer.done:
                with place.writing():
                    writer.append(values, stop)
    return done
