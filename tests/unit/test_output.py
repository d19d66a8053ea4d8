"""Output files: written completely or not at all, through links and to devices; URLs are refused."""

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jaxft.core.errors import UserError
from jaxft.core.output import check_output, reading, writing
from jaxft.core.paths import check_url, is_url, refuse_url


def write(path, content: bytes = b"new") -> None:
    check_output(str(path))
    with writing(str(path)) as file:
        file.write(content)


def test_a_new_file_is_created_with_its_folders(tmp_path):
    write(tmp_path / "a" / "b" / "out")
    assert (tmp_path / "a" / "b" / "out").read_bytes() == b"new"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a" / "b" / "out").stat().st_mode) == 0o666 & ~umask


def test_a_file_keeps_its_mode_and_hard_links(tmp_path):
    (tmp_path / "out").write_bytes(b"old, and longer")
    (tmp_path / "out").chmod(0o600)
    write(tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    os.link(tmp_path / "out", tmp_path / "other")
    write(tmp_path / "out", b"n")
    assert (tmp_path / "other").read_bytes() == b"n"


@pytest.mark.parametrize("there", [True, False])
def test_links_are_followed(tmp_path, there):
    real, first, second = tmp_path / "far" / "real", tmp_path / "first", tmp_path / "second"
    real.parent.mkdir()
    if there:
        real.write_bytes(b"old")
    first.symlink_to("second")
    second.symlink_to(real)
    write(first)
    assert first.is_symlink()
    assert second.is_symlink()
    assert real.read_bytes() == b"new"
    assert sorted(x.name for x in real.parent.iterdir()) == ["real"]


def test_a_cycle_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match="symbolic links"):
        check_output(str(tmp_path / "a"))


def test_the_old_file_stays_if_writing_fails(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    with contextlib.suppress(ZeroDivisionError), writing(str(tmp_path / "out")) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert [x.name for x in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(tmp_path / "pipe")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


CODE = """
import os, sys
from jaxft.core.output import check_output, writing
print("before")
check_output(sys.argv[1])
with writing(sys.argv[1]) as file:
    file.write(b"new\\n")
print("after")
"""


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("to", ["pipe", "file"])
def test_standard_output_is_written_in_order(tmp_path, name, to):
    """To a pipe or to a file, which is neither truncated nor replaced."""
    if name == "link":
        (tmp_path / "link").symlink_to("/dev/stdout")
    command = [sys.executable, "-c", CODE, str(tmp_path / "link") if name == "link" else name]
    if to == "pipe":
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    else:
        with open(tmp_path / "told", "w") as file:
            subprocess.run(command, check=True, stdout=file)
        told = (tmp_path / "told").read_text()
    assert told == "before\nnew\nafter\n"
    assert os.path.islink("/dev/stdout")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="is a directory"):
        check_output(str(tmp_path))


def test_the_input_is_not_overwritten(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "link.jsonl").symlink_to("rows.jsonl")
    for name in ("rows.jsonl", "link.jsonl"):
        with pytest.raises(UserError, match=r"--output .*: is an input file; give another name"):
            check_output(str(tmp_path / name), source=str(tmp_path / "rows.jsonl"))
    check_output(str(tmp_path / "others.jsonl"), source=str(tmp_path / "rows.jsonl"))
    check_output("-", source="-")


def test_an_input_that_is_a_pipe_is_read_as_json_lines(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["/bin/sh", "-c", f"echo '{{\"text\": 1}}' > {tmp_path / 'pipe'}"])
    with reading(str(tmp_path / "pipe")) as path:
        assert path.endswith(".jsonl")
        assert Path(path).read_text() == '{"text": 1}\n'
    assert writer.wait(60) == 0
    assert not os.path.exists(path)
    for name in (str(Path(__file__)), "*.csv"):  # a file, a pattern
        with reading(name) as path:
            assert path == name


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("s3://bucket/x", "a local path"),
        ("S3:/Bucket/x", "a local path"),
        ("file:///data/a.csv", "the plain path /data/a.csv"),
        (["a.csv", "s3://b/c.csv"], "a local path"),
    ],
)
def test_urls_are_refused_where_only_a_path_will_do(value, words):
    with pytest.raises(UserError, match=f"distill.cache_dir is .*{words}"):
        refuse_url("distill.cache_dir", value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("s3:/bucket/x", "two slashes: give s3://bucket/x"),  # what is left of it when pathlib has seen it
        (" https://example.org/a.csv", "begins or ends with a space"),
        ("https://huggingface.co/google/bert/tree/main", "the hub id google/bert"),
        ("file:/data/a.csv", "the plain path /data/a.csv"),
        ("zip://a.csv::gs://b/c.zip", "URLs within URLs"),
        (["a.csv", "s3:/b/c.csv"], "two slashes"),
    ],
)
def test_urls_are_written_as_urls_are(value, words):
    with pytest.raises(UserError, match=f"data.train is .*{words}"):
        check_url("data.train", value)


@pytest.mark.parametrize("value", ["gs://b/c", "hf://datasets/a/b", "https://huggingface.co/a/b/resolve/main/c.csv"])
def test_urls_are_inputs(value):
    check_url("data.train", value)
    assert is_url(value)


@pytest.mark.parametrize(
    "value", ["a/b", "package:gt/model", "C:/models", "C:\\models", "a b: c/d", "/s3://x", None, True, 3]
)
def test_other_values_are_not_taken_for_urls(value):
    refuse_url("data.train", value)
    check_url("data.train", value)
    assert not is_url(value)
