"""A URL is made like the local copy of a run, in an order that never shows a part for the whole; who has what at a start."""

import json
import shutil

import pytest

from jaxft.config import Config
from jaxft.core import checksums
from jaxft.core.errors import UserError
from jaxft.training import integrity, mirror, remote_run
from jaxft.training.mirror import Mirror, mirrored
from tests.support.stand_in import stand_in, url


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mirror, "PERIOD", 3600.0)  # only what the tests ask for
    return tmp_path / "cache"


@pytest.fixture
def faults():
    return stand_in()


@pytest.fixture
def there(tmp_path):
    return tmp_path / "bucket/run"


def write_checkpoint(directory, step, content="weights", best=None) -> None:
    folder = directory / "checkpoints" / str(step)
    (folder / "progress").mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "state/array").write_text(f"{content} {step}")
    (folder / "progress/metadata").write_text(json.dumps({"best_step": best, integrity.RECORDED: True}))
    checksums.write_manifest(folder)


def begin(there, said=None) -> Mirror:
    """A mirror of a run that has begun, if it has not before."""
    made = Mirror(url(there), (said if said is not None else []).append)
    directory = made.place.directory
    if not (directory / "config.yaml").exists():
        directory.mkdir(parents=True)
        (directory / "config.yaml").write_text("seed: 0\n")
        (directory / "metrics.jsonl").write_text("{}\n")
    made.begin()
    return made


def end(made: Mirror) -> None:
    made.finish()
    made.close()


def test_the_url_becomes_like_the_copy(faults, there):
    made = begin(there)
    directory = made.place.directory
    for name in (".hidden", "run.lock", ".run.lock.x", "metrics.tmp"):
        (directory / name).write_text("x")
    (directory / "model").mkdir()
    (directory / "model/config.json").write_text("{}")
    made._try(final=False)
    assert not (there / "model").exists()
    calls = faults.calls["put_file"]
    made._try(final=False)
    assert faults.calls["put_file"] == calls  # nothing has changed
    (directory / "metrics.jsonl").write_text("{}\n{}\n")
    end(made)
    assert (there / "metrics.jsonl").read_text() == "{}\n{}\n"
    assert {x.name for x in there.iterdir()} == {"config.yaml", "metrics.jsonl", "model", "session.json"}


def test_config_and_manifests_are_uploaded_last(faults, there):
    order = []
    faults.raises["put_file"] = faults.raises["pipe_file"] = order.append
    made = begin(there)
    write_checkpoint(made.place.directory, 3)
    (made.place.directory / "checksums.json").write_text("{}")
    end(made)
    names = [path.removeprefix(f"{there}/") for path in order if not path.endswith("run.lock")]
    assert names[:3] == ["session.json", "metrics.jsonl", "config.yaml"]
    assert names[3] == "checksums.json"
    assert names[-1] == "checkpoints/3/checksums.json"
    assert len(names) == 7


def test_old_checkpoints_are_removed_after_a_newer_one_is_whole(faults, there):
    made = begin(there)
    directory = made.place.directory
    write_checkpoint(directory, 1)
    made._try(final=False)
    shutil.rmtree(directory / "checkpoints/1")
    made._try(final=False)
    assert integrity.steps(there) == [1]
    write_checkpoint(directory, 2)

    def fail(path):
        if path.endswith("checksums.json"):
            raise ConnectionError("no route")

    faults.raises["pipe_file"] = fail
    made._try(final=False)
    assert integrity.steps(there) == [1, 2]
    assert integrity.verify(there, 1).damage is None
    faults.raises.clear()
    made._try(final=False)
    assert integrity.steps(there) == [2]
    assert integrity.verify(there, 2).damage is None
    end(made)


def test_an_upload_that_fails_is_said_once_and_tried_again(faults, there):
    said = []
    made = begin(there, said)
    write_checkpoint(made.place.directory, 1)

    def fail(path):
        raise ConnectionError("no route")

    faults.raises["put_file"] = fail
    made._try(final=False)
    made.check()
    made._try(final=False)
    made.check()
    failed = f"{url(there)}: cannot be written: ConnectionError: no route; --debug says more"
    assert said == [f"{failed}; the run goes on, and it is tried again"]
    with pytest.raises(
        UserError, match=r"no route; .*everything is in .*cache/runs/\w+, in the folder run: the same command"
    ):
        made.finish()
    made.close()
    faults.raises.clear()
    again = begin(there)  # with the copy, which is newer than the URL
    assert integrity.steps(again.place.directory) == integrity.steps(there) == [1]
    end(again)


def test_a_copy_that_is_not_the_last_one_is_made_again(faults, there, cache, monkeypatch):
    made = begin(there)
    for step in (1, 2, 3):
        write_checkpoint(made.place.directory, step, best=1)
    (made.place.directory / "frozen").mkdir()
    (made.place.directory / "frozen/array").write_text("frozen")
    end(made)
    monkeypatch.setenv("JAXFT_CACHE", f"{cache}2")
    other = begin(there)
    copy = other.place.directory
    assert integrity.steps(copy) == [1, 3]  # the newest and the best
    assert (copy / "frozen/array").read_text() == "frozen"
    before = faults.calls["put_file"]
    write_checkpoint(copy, 4, best=1)
    end(other)
    assert integrity.steps(there) == [1, 3, 4]
    assert faults.calls["put_file"] - before == 2  # of the new checkpoint alone
    monkeypatch.setenv("JAXFT_CACHE", str(cache))
    back = begin(there)
    assert integrity.steps(back.place.directory) == [1, 4]
    end(back)


def test_a_checkpoint_that_was_uploaded_in_part_or_damaged_is_passed_over(faults, there, cache, monkeypatch):
    made = begin(there)
    for step in (1, 2, 3):
        write_checkpoint(made.place.directory, step)
    end(made)
    (there / "checkpoints/3/checksums.json").unlink()
    (there / "checkpoints/2/state/array").write_text("damaged")
    monkeypatch.setenv("JAXFT_CACHE", f"{cache}2")
    said = []
    other = begin(there, said)
    assert said == [f"the checkpoint of step 3 at {url(there)} was not uploaded to its end: it is passed over"]
    assert integrity.newest_usable(other.place.directory, best=False, say=said.append) == 1
    shutil.rmtree(other.place.directory / "checkpoints/2")
    write_checkpoint(other.place.directory, 2)
    write_checkpoint(other.place.directory, 3)
    end(other)
    assert [integrity.verify(there, step).damage for step in (1, 2, 3)] == [None, None, None]


def test_what_is_not_a_run_is_refused_and_left_alone(faults, there):
    there.mkdir(parents=True)
    (there / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match=r"output_dir stand://.*run: holds files \(thesis.txt\) but no config.yaml of a run"):
        Mirror(url(there), print)
    assert [x.name for x in there.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match=r"thesis.txt: is a file"):
        Mirror(url(there / "thesis.txt"), print)


def test_a_run_that_was_removed_at_the_url_begins_anew(faults, there):
    made = begin(there)
    write_checkpoint(made.place.directory, 1)
    end(made)
    shutil.rmtree(there)
    again = Mirror(url(there), print)
    assert not again.place.directory.exists()
    again.close()


def test_several_processes_need_one_cache_folder(faults, there, monkeypatch):
    def refuse(directory):
        raise UserError("processes 1 of 2 do not see it")

    monkeypatch.setattr(mirror.distributed, "process_count", lambda: 2)
    monkeypatch.setattr(mirror.distributed, "check_shared", refuse)
    with (
        pytest.raises(UserError, match=r"output_dir stand://.*run: several processes .*: set JAXFT_CACHE to a folder"),
        mirrored(Config(output_dir=url(there))),
    ):
        pass


def test_all_whole_checkpoints_are_fetched_for_export(faults, there):
    made = begin(there)
    for step in (1, 2):
        write_checkpoint(made.place.directory, step)
    end(made)
    write_checkpoint(there, 3)
    (there / "checkpoints/3/checksums.json").unlink()
    assert integrity.steps(remote_run.Path(remote_run.with_checkpoints(url(there)))) == [1, 2]
