"""The default tier stays fast, and the faults of tests/mutants are still faults of this code."""

import json
from types import SimpleNamespace

import pytest

from tests.mutants import table
from tests.mutants.faults import FAULTS
from tests.support import ROOT
from tests.support.tiers import LIMIT, PROPERTY, Limit, part_of


def session_of(limit: Limit, *seconds: float, slow: bool = False) -> tuple[pytest.ExitCode, str]:
    """(exit status, summary) of a session whose tests took these seconds."""
    for i, took in enumerate(seconds):
        keywords = {"slow": 1} if slow else {}
        properties = [(PROPERTY, took / 2), (PROPERTY, took / 2)]
        limit.pytest_runtest_logreport(
            SimpleNamespace(when="call", nodeid=f"test_{i}", keywords=keywords, user_properties=properties)
        )
    session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    limit.pytest_sessionfinish(session)
    lines = []
    limit.pytest_terminal_summary(SimpleNamespace(section=lines.append, line=lines.append))
    return session.exitstatus, "\n".join(lines)


def test_a_slow_test_of_the_default_tier_fails_a_warm_session(tmp_path):
    status, said = session_of(Limit(tmp_path), LIMIT - 1, LIMIT + 1)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "test_1" in said
    assert "test_0" not in said


def test_a_slow_test_is_allowed_if_programs_were_compiled_or_it_is_marked_slow(tmp_path):
    assert session_of(Limit(tmp_path), LIMIT + 1, slow=True) == (pytest.ExitCode.OK, "")
    cold = Limit(tmp_path)
    (tmp_path / "program").write_text("")
    status, said = session_of(cold, LIMIT + 1)
    assert status == pytest.ExitCode.OK
    assert "no failure" in said


def test_every_test_is_in_one_part():
    names = [f"test_{i}[{j}]" for i in range(20) for j in range(20)]
    parts = [part_of("test_file.py", name, 8) for name in names]
    assert set(parts) == set(range(8))
    for j in range(20):  # they share a fixture of the module
        assert len({part for name, part in zip(names, parts, strict=True) if name.endswith(f"[{j}]")}) == 1


def test_there_are_faults_in_all_folders():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 60
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "jaxft").rglob("*.py") if path.name != "__init__.py"}
    assert {(ROOT / fault.file).parent.relative_to(ROOT) for fault in FAULTS} == folders


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_faults_text_occurs_once_in_the_code(fault):
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    compile(text.replace(fault.old, fault.new), fault.file, "exec")


def test_the_page_shows_which_test_catches_each_fault():
    results = json.loads((ROOT / "tests/mutants/results.json").read_text(encoding="utf-8"))
    assert table.PAGE.read_text(encoding="utf-8") == table.page(results)
    tiers = [found["tier"] for found in results.values()]
    assert None not in tiers
    assert tiers.count("default") >= 0.9 * len(FAULTS)


def test_the_tests_that_catch_faults_exist():
    results = json.loads((ROOT / "tests/mutants/results.json").read_text(encoding="utf-8"))
    for name, found in results.items():
        file, _, test = found["caught_by"].partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8"), name
