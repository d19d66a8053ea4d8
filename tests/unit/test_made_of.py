"""What determines predictions: code of the user's own counts by its content."""

from jaxft.evaluation.made_of import _of_code


def test_code_that_an_option_names_counts_by_its_content(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for text in ("x = 1\n", "x = 2\n"):
        (tmp_path / "own_task_of_a_user.py").write_text(text)
        found.append(_of_code({"task.name": "own_task_of_a_user:Mine", "model.path": "package:no_such_one/x", "seed": 3}))
    assert list(found[0]) == ["the code of own_task_of_a_user:Mine"]
    assert found[0] != found[1]
