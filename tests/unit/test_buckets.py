"""gs:// and s3:// as gcsfs and s3fs have them, on servers that stand in for Google's and Amazon's.

Skipped without the packages: pip install gcsfs gcp-storage-emulator s3fs 'moto[server]'.
"""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from jaxft.core import checksums, lock, remote, remote_lock
from jaxft.core.errors import UserError
from jaxft.training import integrity, mirror
from jaxft.training.mirror import Mirror

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mirror, "PERIOD", 3600.0)


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("localhost", 0))
        return tried.getsockname()[1]


@pytest.fixture(scope="module")
def s3():
    """A bucket of moto's server."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed").ThreadedMotoServer(port=free_port())
    server.start()
    import fsspec

    given = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(given)
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://localhost:{server._port}"}
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    del fsspec.config.conf["s3"]
    server.stop()


@pytest.fixture(scope="module")
def gs():
    """A bucket of gcp-storage-emulator, which ignores ifGenerationMatch."""
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # read at its import; it would ask the server by gRPC
    pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")
    import fsspec

    port = free_port()
    server = emulator.create_server("localhost", port, in_memory=True, default_bucket="bucket")
    server.start()
    fsspec.config.conf["gs"] = fsspec.config.conf["gcs"] = {"token": "anon", "endpoint_url": f"http://localhost:{port}"}
    yield "gs://bucket"
    del fsspec.config.conf["gs"], fsspec.config.conf["gcs"]
    server.stop()


@pytest.fixture(params=["s3", "gs"])
def bucket(request) -> str:
    return request.getfixturevalue(request.param)


def write(url: str, content: bytes) -> None:
    fs, path = remote.file_system(url)
    fs.pipe_file(path, content)


def test_files_patterns_and_directories(bucket):
    for name in ("a.csv", "b.csv", ".c.csv", "deep/d.csv"):
        write(f"{bucket}/data/{name}", name.encode())
    assert remote.matching(f"{bucket}/data/*.csv") == [f"{bucket}/data/a.csv", f"{bucket}/data/b.csv"]
    first = remote.local(f"{bucket}/data/a.csv")
    assert Path(first).read_bytes() == b"a.csv"
    assert remote.local(f"{bucket}/data/a.csv") == first
    write(f"{bucket}/data/a.csv", b"other")  # of the same size
    assert Path(remote.local(f"{bucket}/data/a.csv")).read_bytes() == b"other"
    copy = Path(remote.local(f"{bucket}/data", skip=("a.csv",)))
    assert {x.relative_to(copy).as_posix() for x in copy.rglob("*.csv")} == {"b.csv", ".c.csv", "deep/d.csv"}
    for missing in (f"{bucket}/none.csv", f"{bucket}-of-nobody/a.csv"):
        with pytest.raises(UserError, match=f"{missing}: no such file or directory"):
            remote.local(missing)


def test_the_lock(bucket):
    fs, root = remote.file_system(f"{bucket}/locked")
    held = remote_lock.acquire(fs, root, f"{bucket}/locked")
    with pytest.raises(lock.Held):
        remote_lock.acquire(fs, root, f"{bucket}/locked")
    held.look()
    held.close()
    assert not fs.exists(f"{root}/{lock.FILE}")


def test_a_run_goes_there_and_back(bucket, tmp_path, monkeypatch):
    made = Mirror(f"{bucket}/runs/mine", print)
    directory = made.place.directory
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text("seed: 0\n")
    made.begin()
    for step in (1, 2, 3):
        folder = directory / "checkpoints" / str(step)
        (folder / "progress").mkdir(parents=True)
        (folder / "progress/metadata").write_text(json.dumps({"best_step": 1, integrity.RECORDED: True}))
        (folder / "array").write_bytes(os.urandom(6_000_000))  # more than one part of an upload
        checksums.write_manifest(folder)
    made._try(final=False)
    shutil.rmtree(directory / "checkpoints/2")
    made.check()
    made.finish()
    made.close()
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "another_machine"))
    other = Mirror(f"{bucket}/runs/mine", print)
    other.close()
    assert integrity.steps(other.place.directory) == [1, 3]
    assert [integrity.verify(other.place.directory, step).damage for step in (1, 3)] == [None, None]
    assert (other.place.directory / "checkpoints/3/array").read_bytes() == (directory / "checkpoints/3/array").read_bytes()
