"""The command of one run, to where it would start verl."""

import re

import pytest

from recipe.shape_grpo.runs import __main__ as command

OVERRIDES = ["+task=netflix", "+backend=cpu", "data.seed=1"]


class Record:
    has_checkpoint = False


@pytest.fixture
def calls(monkeypatch):
    found = []

    def train(*given, **options):
        found.append((given, options))
        return Record()

    monkeypatch.setattr(command, "train", train)
    monkeypatch.setattr(command, "print_summary", lambda run, console: found.append(run))
    monkeypatch.setattr(command.check, "main", lambda *given: found.append(given))
    monkeypatch.setattr(command, "folder_state", lambda *given: "a folder")
    return found


def test_a_command_of_a_sweep_is_understood(calls, tmp_path):
    command.main(["grpo", str(tmp_path), *OVERRIDES])
    (given, options), summarised = calls
    assert summarised == tmp_path
    assert given == ("grpo", OVERRIDES, tmp_path)
    assert not options["verbose"]


def test_a_run_without_a_checkpoint_says_how_to_save_one(calls, tmp_path, capsys, monkeypatch):
    command.main(["grpo", str(tmp_path)])
    said = " ".join(capsys.readouterr().out.split())
    assert "no policy to export: write trainer.save_freq=N" in said
    monkeypatch.setattr(Record, "has_checkpoint", True)
    command.main(["grpo", str(tmp_path)])
    assert "save_freq" not in capsys.readouterr().out


@pytest.mark.parametrize("place", [0, 1, 2, 3, 5])
def test_one_word_makes_a_line_a_dry_run(calls, place):
    """The same METHOD and overrides; the folder is not made."""
    line = ["grpo", "out/run", *OVERRIDES]
    line.insert(place, "--dry-run")
    command.main(line)
    ((overrides, shown),) = calls
    assert overrides == ["+method=grpo", *OVERRIDES]
    assert " ".join(shown) == f"{command.PROG} grpo out/run {' '.join(OVERRIDES)}"


@pytest.mark.parametrize(
    "wrong", [["grpoo", "here"], ["grpo"], ["grpo", ""], ["--backend=tpu", "grpo", "here"]]
)
def test_a_wrong_command_is_one_line(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(wrong)
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("+method=praise +task=own", "runs praise FOLDER +task=own"),
        ("+task=own +method=praise", "runs praise FOLDER +task=own"),
        ("+method=praise out/run +task=own", "runs praise out/run +task=own"),
        ("praise +task=own", "runs praise FOLDER +task=own"),
        ("praise out/run +method=grpo +task=own", "runs grpo"),
        ("praise out/run +method=praise data.seed=1", "runs praise out/run data.seed=1"),
        ("method=praise", "runs praise FOLDER"),
        ("+task=own", "runs METHOD FOLDER +task=own"),
        ("--backend cpu praise out/run", "write +backend=cpu after FOLDER"),
        ("--backend=cpu praise out/run", "write +backend=cpu after FOLDER"),
    ],
)
def test_a_line_of_another_form_gets_the_right_one(calls, line, right, capsys):
    with pytest.raises(SystemExit):
        command.main(line.split())
    said = capsys.readouterr().err
    assert right in said and len(said.splitlines()) == 1
    assert calls == []


def test_a_folder_may_hold_an_equals_sign_where_it_cannot_be_an_override(calls):
    command.main(["grpo", "out/lr=3", "data.seed=1"])
    assert str(calls[-1]) == "out/lr=3"


def test_what_may_be_left_out_is_not_called_required(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    arguments = re.split(r"\n  (?=\S)", capsys.readouterr().out)
    required = {text.split()[0] for text in arguments if "required" in text}
    assert required == {"METHOD", "FOLDER"}
