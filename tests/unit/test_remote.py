"""Files and directories at URLs are copied once, whole, under their own names; errors are one line that names the URL."""

import gzip
import json
import sys
import threading
from pathlib import Path

import fsspec
import pytest

from jaxft.config import DataConfig, cli
from jaxft.core import model_source, remote
from jaxft.core.errors import UserError, shown
from jaxft.data.reading import files, sources
from jaxft.run import input_files, trained_models
from tests.support import tiny
from tests.support.stand_in import StandIn, stand_in, url


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "remote"


@pytest.fixture
def faults():
    return stand_in()


@pytest.fixture
def folder(tmp_path):
    """The folder that the stand-in serves."""
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture
def memory():
    """The file system memory://, empty."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


def test_a_file_is_downloaded_once_and_again_when_it_has_changed(faults, folder):
    (folder / "rows.csv").write_text("a,b\n")
    first = Path(remote.local(url(folder / "rows.csv")))
    assert (first.name, first.read_text()) == ("rows.csv", "a,b\n")
    assert remote.local(url(folder / "rows.csv")) == str(first)
    assert faults.calls["get_file"] == 1
    (folder / "rows.csv").write_text("c,d\n")
    second = Path(remote.local(url(folder / "rows.csv")))
    assert second.read_text() == "c,d\n"
    assert first.read_text() == "a,b\n"  # a run that reads it goes on


def test_memory_files_and_their_formats(memory):
    memory.pipe_file("/data/rows.csv.gz", gzip.compress(b"text,label\nhello,x\n"))
    rows = sources.read_rows(DataConfig(train="memory://data/rows.csv.gz"), "train", needed=["text", "label"])
    assert rows[0] == {"text": "hello", "label": "x"}


def test_a_server_that_tells_only_sizes_is_asked_for_the_file_every_time(faults, folder, monkeypatch):
    (folder / "a.txt").write_text("one")
    monkeypatch.setattr(StandIn, "info", lambda self, path, **more: {"name": path, "size": 3, "type": "file"})
    path = remote.local(url(folder / "a.txt"))
    (folder / "a.txt").write_text("two")
    assert remote.local(url(folder / "a.txt")) == path
    assert Path(path).read_text() == "two"


def test_a_download_that_ends_early_leaves_nothing(faults, folder, cache):
    (folder / "a.txt").write_text("0123456789")
    faults.short = ("a.txt",)
    with pytest.raises(UserError, match=r"stand://.*/a.txt: 5 bytes arrived instead of 10"):
        remote.local(url(folder / "a.txt"))
    assert not list(cache.iterdir())
    faults.short = ()
    path = Path(remote.local(url(folder / "a.txt")))
    path.write_text("01")  # a damaged copy is replaced
    assert Path(remote.local(url(folder / "a.txt"))).read_text() == "0123456789"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("x"), "no such file or directory"),
        (PermissionError("x"), "permission denied"),
        (RuntimeError("Forbidden: no access to the bucket"), "permission denied"),
        (ConnectionError("no\nroute"), "cannot be read: ConnectionError: no route"),
        (OSError(28, "No space left on device"), "cannot be written: No space left on device"),
    ],
)
def test_what_a_server_refuses_is_one_line(faults, folder, cache, error, words):
    def fail(path: str) -> None:
        raise error

    (folder / "a.txt").write_text("a")
    faults.raises["get_file"] = fail
    with pytest.raises(UserError, match=words) as raised:
        remote.local(url(folder / "a.txt"))
    assert "\n" not in str(raised.value)
    assert not list(cache.iterdir())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"gs://b/a.csv: a package for gs:// is not installed: pip install 'jaxft\[gcs\]'"):
        remote.local("gs://b/a.csv")
    fsspec.register_implementation("absent", "no_such_package.Fs", errtxt="Install no_such_package", clobber=True)
    with pytest.raises(UserError, match="for absent:// is not installed: Install no_such_package"):
        remote.local("absent://b/a.csv")
    with pytest.raises(UserError, match="fsspec knows no protocol nothing://"):
        remote.local("nothing://b/a.csv")


def test_a_directory_is_copied_whole_without_what_is_skipped(faults, folder):
    for name in ("config.json", "sub/a.bin", "sub/b.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    copy = Path(remote.local(url(folder), skip=("*.bin",)))
    assert copy.name == folder.name
    assert sorted(x.relative_to(copy).as_posix() for x in copy.rglob("*") if x.is_file()) == ["config.json", "sub/b.txt"]
    remote.local(url(folder), skip=("*.bin",))
    assert faults.calls["get_file"] == 2
    (copy / "config.json").unlink()
    remote.local(url(folder), skip=("*.bin",))
    assert faults.calls["get_file"] == 3  # only what is missing
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="an empty one"):
        remote.local(url(folder / "empty"))


@pytest.mark.parametrize("name", ["../../escaped", "a/../../escaped", "a\\b", "nul\0"])
def test_a_name_that_leads_out_of_a_directory_is_refused(faults, folder, cache, monkeypatch, name):
    said = {f"{folder}/{name}": {"name": f"{folder}/{name}", "size": 1, "type": "file"}}
    monkeypatch.setattr(StandIn, "find", lambda self, path, **more: said)
    with pytest.raises(UserError, match="cannot be copied"):
        remote.local(url(folder))
    assert not cache.exists()


def test_patterns_match_as_they_do_here(faults, folder):
    for name in ("b.csv", "a.csv", ".c.csv", "x/d.csv", "odd[1].csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("text,label\nhello,x\n")
    for pattern in ("*.csv", "**/*.csv", "[ab].csv", "odd[1].csv", "none*"):
        here = [f"stand://{x}" for x in remote.matching(f"{folder}/{pattern}") if pattern != "none*"]
        assert remote.matching(f"{url(folder)}/{pattern}") == here
    config = DataConfig(train=[f"{url(folder)}/[ab].csv", url(folder / "x/d.csv")])
    assert [path.name for path in files.files_of(config, "train")] == ["a.csv", "b.csv", "d.csv"]
    with pytest.raises(UserError, match="no file matches this pattern"):
        files.files_of(DataConfig(train=f"{url(folder)}/none*"), "train")
    assert remote.matching(f"{url(folder)}/x*", directories=True) == [url(folder / "x")]


def test_messages_name_the_url(faults, folder):
    (folder / "bad.csv").write_bytes(b"text,label\nok,x\n\xff,x\n")
    where = url(folder / "bad.csv")
    with pytest.raises(UserError, match=f"{where}: line 3 is not UTF-8"):
        sources.read_rows(DataConfig(train=where), "train", needed=["text"])
    assert shown(f"{remote.local(where)} is read") == f"{where} is read"
    (folder / "bad.yaml").write_text("data: [")
    with pytest.raises(UserError, match=f"{url(folder / 'bad.yaml')}: not valid YAML"):
        cli.load([url(folder / "bad.yaml")])
    (folder / "empty.csv").touch()
    with pytest.raises(UserError, match=r"stand://.*/empty.csv: the file is empty"):
        files.files_of(DataConfig(train=url(folder / "empty.csv")), "train")


def test_file_urls_are_paths(folder):
    (folder / "a.csv").write_text("text,label\nhello,x\n")
    assert remote.local(f"file://{folder}/a.csv") == f"{folder}/a.csv"
    assert files.files_of(DataConfig(train=f"file://{folder}/*.csv"), "train") == [folder / "a.csv"]


def test_the_record_of_inputs_has_the_same_digests(faults, folder, tiny_data):
    for path in tiny_data.glob("*.csv"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "texts").mkdir()
    (folder / "texts/a.txt").write_text("a")

    def recorded(where: str) -> list:
        data = {"train": f"{where}/*.csv", "validation": f"{where}/dev.csv", "test": f"{where}/texts"}
        found = input_files.read(cli.parse({"data": data}, [], origin=""))
        return [(option, name.removeprefix(where), digest) for option, x in found.items() for name, digest in x.items()]

    assert recorded(url(folder)) == recorded(str(folder))
    assert len(recorded(url(folder))) == len(list(folder.glob("*.csv"))) + 2


def test_a_model_directory_without_what_is_not_read(faults, folder, tiny_model):
    for path in tiny_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "pytorch_model.bin").write_text("pickled")
    (folder / "checkpoint-1").mkdir()
    (folder / "checkpoint-1/optimizer.pt").write_text("pickled")
    copy = model_source.resolve(url(folder))
    assert {x.name for x in copy.iterdir()} == {x.name for x in tiny_model.iterdir()}
    with pytest.raises(UserError, match=f"{url(folder / 'config.json')}: is a file"):
        model_source.resolve(url(folder / "config.json"))


def test_a_run_at_a_url_is_read_without_its_checkpoints(faults, folder):
    for name in ("config.yaml", "model/config.json", "model/names/config.json", "checkpoints/3/state/x", "frozen/y"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("{}")
    run = Path(trained_models.fetched(url(folder)))
    assert {x.name for x in run.iterdir()} == {"config.yaml", "model"}
    assert trained_models.fetched(url(folder / "model")) == str(run / "model")
    assert trained_models.fetched(url(folder / "model/names")) == str(run / "model/names")
    teachers = trained_models.teacher_paths([url(folder), f"{url(folder)}/mod*/n*"])
    assert list(teachers) == [url(folder), url(folder / "model/names")]
    assert json.loads((Path(teachers[url(folder)]) / "config.json").read_text()) == {}


def test_processes_that_download_the_same_file_leave_one_whole_copy(faults, folder, cache):
    (folder / "a.txt").write_text("content")
    barrier, found = threading.Barrier(4), []
    faults.raises["get_file"] = lambda path: barrier.wait(10)
    threads = [threading.Thread(target=lambda: found.append(remote.local(url(folder / "a.txt")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert Path(found[0]).read_text() == "content"
    assert len(list(cache.iterdir())) == 1


def test_rows_and_the_key_of_their_cache_are_those_of_a_local_file(memory, tiny_data):
    tiny.write_rows(tiny_data.parent / "same.csv", 5)
    memory.pipe_file("/same.csv", (tiny_data.parent / "same.csv").read_bytes())
    there, here = (
        sources.read_rows(DataConfig(train=name), "train", needed=["text", "label"])
        for name in ("memory://same.csv", str(tiny_data.parent / "same.csv"))
    )
    assert there[:] == here[:]
    assert there._fingerprint == here._fingerprint
