"""The rows of an output that a killed command has written are used by the same command, and by no other."""

import os
from contextlib import closing

import pytest

from jaxft.core.errors import UserError
from jaxft.core.partial_output import PartialOutput, difference, is_possible

MADE_OF = {"data.max_length": 128, "the model's model.safetensors": [9, "aa"]}


class Killed(BaseException):
    """The process ends here."""


def write(path, *rows: bytes, then: BaseException | None = None, made_of=MADE_OF) -> PartialOutput:
    """Write rows, each of which is committed, and fail with `then` within the next one."""
    output = PartialOutput(str(path), made_of)
    with output.writing() as file:
        for row in rows:
            file.writelines([row])
            output.commit({"rows": output.note.get("rows", 0) + 1})
        if then:
            file.write(b"torn")
            file.flush()
            raise then
    return output


def look(path, made_of=MADE_OF) -> PartialOutput:
    with closing(PartialOutput(str(path), made_of)) as output:
        return output


def stopped(path, *rows: bytes, then: BaseException | None = None) -> None:
    then = then or Killed()
    with pytest.raises(type(then)):
        write(path, *rows, then=then)


def names(folder) -> list[str]:
    return sorted(x.name for x in folder.iterdir())


def test_rows_that_were_written_are_kept_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "out.jsonl"
    stopped(path, b"a\n", b"b\n")
    assert names(path.parent) == ["out.jsonl.partial", "out.jsonl.partial.state"]
    assert look(path).note == {"rows": 2}
    stopped(path, b"c\n")
    assert write(path, b"d\n").note == {"rows": 4}
    assert path.read_bytes() == b"a\nb\nc\nd\n"
    assert names(path.parent) == ["out.jsonl"]


def test_the_output_keeps_its_old_content_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"old\n")
    path.chmod(0o640)
    stopped(path, b"a\n")
    assert path.read_bytes() == b"old\n"
    write(path)
    assert path.read_bytes() == b"a\n"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"data.max_length": 64}, "data.max_length was 128 and is 64"),
        ({"the model's model.safetensors": [9, "bb"]}, "the model's model.safetensors has changed"),
        ({"more": True}, "more was null and is true"),
    ],
)
def test_rows_that_are_made_of_something_else_are_not_used(tmp_path, changed, why):
    path = tmp_path / "out.jsonl"
    stopped(path, b"a\n", b"b\n")
    output = PartialOutput(str(path), {**MADE_OF, **changed})
    assert (output.unused, output.note) == (why, {})
    with output.writing() as file:
        file.write(b"x\n")
        output.commit({"rows": 1})
    assert path.read_bytes() == b"x\n"


def test_rows_that_were_edited_are_not_used(tmp_path):
    path = tmp_path / "out.jsonl"
    stopped(path, b"a\n", b"b\n")
    (tmp_path / "out.jsonl.partial").write_bytes(b"a\nB\n")
    assert look(path).unused == "out.jsonl.partial has other content than was written"
    (tmp_path / "out.jsonl.partial.state").write_bytes(b"{")
    assert look(path).unused == "out.jsonl.partial.state is torn"


def test_bad_input_leaves_nothing_and_a_full_disk_what_was_written(tmp_path):
    path = tmp_path / "out.jsonl"
    stopped(path, b"a\n", then=UserError("row 2 is too long"))
    assert names(tmp_path) == []
    with pytest.raises(UserError, match=r"out\.jsonl: cannot be written: No space left"):
        write(path, b"a\n", then=OSError(28, os.strerror(28)))
    assert look(path).note == {"rows": 1}
    stopped(tmp_path / "other", then=Killed())
    assert names(tmp_path) == ["out.jsonl.partial", "out.jsonl.partial.state"]


def test_a_file_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "out.jsonl.partial").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"out\.jsonl\.partial: is in the way"):
        PartialOutput(str(tmp_path / "out.jsonl"), MADE_OF)
    assert (tmp_path / "out.jsonl.partial").read_bytes() == b"mine"


def test_two_commands_do_not_write_one_output(tmp_path):
    path = tmp_path / "out.jsonl"
    output = PartialOutput(str(path), MADE_OF)
    with output.writing() as file:
        with pytest.raises(UserError, match=r"--output .*out\.jsonl: another command is writing it"):
            PartialOutput(str(path), MADE_OF)
        file.write(b"a\n")
    assert path.read_bytes() == b"a\n"


def test_only_regular_files_have_partial_ones(tmp_path):
    for name in ("-", "/dev/stdout", "/dev/null", "gs://bucket/out.jsonl", str(tmp_path / f"{'x' * 240}.jsonl")):
        assert not is_possible(name)
    assert is_possible(str(tmp_path / "new" / "out.jsonl"))


def test_equal_things_have_no_difference():
    assert difference(MADE_OF, dict(reversed(MADE_OF.items()))) == ""
