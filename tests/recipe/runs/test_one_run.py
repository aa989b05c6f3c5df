"""The command of one run, to where it would start verl."""

import pytest

from recipe.shape_grpo.runs import __main__ as command


def test_a_command_of_a_sweep_is_understood(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(command, "train", lambda *given, **options: calls.append((given, options)))
    monkeypatch.setattr(command, "print_summary", lambda run, console: calls.append(run))
    command.main(["--backend=cpu", "grpo", str(tmp_path), "+task=netflix", "data.seed=1"])
    (given, options), summarised = calls
    assert summarised == tmp_path
    assert given == ("grpo", ["+task=netflix", "data.seed=1"], tmp_path)
    assert options["backend"] == "cpu" and not options["verbose"]


@pytest.mark.parametrize("wrong", [["grpoo", "here"], ["grpo"], ["--backend=tpu", "grpo", "here"]])
def test_a_wrong_command_is_one_line(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(wrong)
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
