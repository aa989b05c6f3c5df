"""Words at the two ends of a command: a value that Hydra cannot read, and where metrics are."""

import os
import shlex

import pytest
from omegaconf import OmegaConf

from recipe.shape_grpo import main_shape_grpo
from recipe.shape_grpo.runs.check import compose_config


@pytest.mark.parametrize("value", ["/tmp/mein Ordner ü/x", "/tmp/a=b", "/tmp/a(b", "{a", "'x"])
def test_a_value_that_hydra_cannot_read_is_quoted_in_the_message(value):
    with pytest.raises(
        ValueError, match=r"Hydra cannot read this value\. If it is text, write "
    ) as no:
        compose_config(["+task=own", f"dataset.folder={value}"])
    (advice,) = shlex.split(str(no.value).split("write ")[-1])
    assert compose_config(["+task=own", advice]).dataset.folder == value


@pytest.mark.parametrize(
    ("logger", "environment", "says"),
    [
        (["console", "file"], {}, "per step: ./films/grpo.jsonl"),
        ("file", {"VERL_FILE_LOGGER_ROOT": "/logs"}, "per step: /logs/films/grpo.jsonl"),
        (["file"], {"VERL_FILE_LOGGER_PATH": "/run/metrics.jsonl"}, "step: /run/metrics.jsonl"),
        (["console", "wandb"], {}, "Metrics: console, wandb (trainer.logger=[console,file]"),
        (None, {}, "Metrics: no tracker (trainer.logger=[console,file]"),
    ],
)
def test_the_noisy_command_ends_with_where_metrics_are(monkeypatch, logger, environment, says):
    for name in ("VERL_FILE_LOGGER_ROOT", "VERL_FILE_LOGGER_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    trainer = {"logger": logger, "project_name": "films", "experiment_name": "grpo"}
    line = main_shape_grpo.where_metrics_are(OmegaConf.create({"trainer": trainer}))
    assert says.replace("./", "") in line and "\n" not in line
    if "jsonl" in says:
        assert line.split()[-1] == _file_of_verl(monkeypatch)


def _file_of_verl(monkeypatch):
    """Where verl's own logger writes; it opens the file at once."""
    from verl.utils import tracking

    monkeypatch.setattr(tracking.os, "makedirs", lambda *given, **options: None)
    monkeypatch.setattr(tracking, "open", lambda *given, **options: None, raising=False)
    return os.path.normpath(tracking.FileLogger("films", "grpo").filepath)
