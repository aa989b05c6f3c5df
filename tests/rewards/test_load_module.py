"""A reward function's file is executed once per process, and again after a change."""

import pytest

from shape_grpo.rewards.function import load_module

COUNTING = """
import builtins
builtins.reward_imports = getattr(builtins, "reward_imports", 0) + 1

class Judge: ...

def compute_score(**kwargs):
    return {number}
"""


@pytest.fixture
def imports(monkeypatch):
    import builtins

    monkeypatch.setattr(builtins, "reward_imports", 0, raising=False)
    return lambda: builtins.reward_imports


def test_it_is_executed_once_whoever_asks(tmp_path, imports, monkeypatch):
    from verl.utils.import_utils import load_module as load_as_verl

    file = tmp_path / "reward.py"
    file.write_text(COUNTING.replace("{number}", "1"))
    monkeypatch.chdir(tmp_path)
    loaded = [
        load_module(str(file)),
        load_module("reward.py"),
        load_module(f"file://{file}"),
        load_as_verl(str(file)),
        load_as_verl(module_path="reward.py"),
    ]
    assert imports() == 1
    # One class, so that isinstance and pickle hold.
    assert len({id(module.Judge) for module in loaded}) == 1


def test_a_changed_file_is_read_anew_also_within_a_tick_of_its_clock(tmp_path, imports):
    file = tmp_path / "reward.py"
    for number in (1, 2, 3):
        file.write_text(COUNTING.replace("{number}", str(number)))
        assert load_module(str(file)).compute_score() == number
    assert imports() == 3


def test_after_an_error_it_is_tried_again_and_the_old_one_is_kept(tmp_path):
    file = tmp_path / "reward.py"
    file.write_text("x = 1")
    first = load_module(str(file))
    file.write_text("x = 1 / 0")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load_module(str(file))
    file.write_text("x = 1")
    assert load_module(str(file)) is first


def test_files_of_one_name_are_two_modules(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "reward.py").write_text(f"x = {folder!r}")
    assert [load_module(str(tmp_path / each / "reward.py")).x for each in "abab"] == list("abab")
