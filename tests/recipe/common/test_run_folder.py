"""Metrics of any kind, and files that are never half written."""

import math
from pathlib import Path

import numpy as np
import pytest

from recipe.shape_grpo.common.run_folder import (
    RunSettings,
    begin_run,
    end_run,
    held_out_reward,
    mean,
    number,
    read_metrics,
    write_metrics,
)

NO_NUMBERS = [None, "high", "3", True, False, math.nan, math.inf, -math.inf, [1], {}, 10**400]
SETTINGS = RunSettings("verl", "films", "grpo", 3, 0, 1e-6, 2)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: str(value)[:9])
def test_what_is_no_number_is_left_out_of_means(value):
    assert math.isnan(number(value))
    assert mean([value, 1, 2.0]) == 1.5
    assert math.isnan(mean([value]))
    name = "val-core/films/reward/mean@4"
    assert math.isnan(held_out_reward({name: value}))
    assert held_out_reward({name: value, "val-core/more/reward/mean@4": 2.5}) == 2.5


@pytest.mark.parametrize("value", [0, -2, 3.5, np.float32(3.5), np.int64(2)])
def test_numbers_are_numbers(value):
    assert number(value) == value


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "3",
        "{}",
        '{"step": null, "data": {}}',
        '{"step": Infinity, "data": {}}',
        '{"step": 1}',
        '{"step": 1, "data": 3}',
        '{"s',
    ],
)
def test_a_line_of_another_form_is_named(tmp_path, line):
    write_metrics(tmp_path, 1, {"a": 1.0})
    (tmp_path / "metrics.jsonl").open("a").write(line + "\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2, is not .*: remove the line"):
        read_metrics(tmp_path)


def test_a_validation_at_a_resumed_step_takes_nothing_from_the_step(tmp_path):
    write_metrics(tmp_path, 8, {"critic/score/mean": 2.2, "val-core/own/reward/mean@4": 2.25})
    write_metrics(tmp_path, 8, {"val-core/own/reward/mean@4": 2.5})
    expected = {"critic/score/mean": 2.2, "val-core/own/reward/mean@4": 2.5}
    assert read_metrics(tmp_path) == {8: expected}


@pytest.mark.parametrize("moment", range(4))
def test_metrics_are_whole_wherever_a_run_is_killed(tmp_path, monkeypatch, moment):
    """After each change of a file's name or end, all steps are there."""
    begin_run(tmp_path)
    for step in (1, 2):
        write_metrics(tmp_path, step, {"a": step})
    changes = 0

    def dies(change):
        def changing(*arguments, **options):
            nonlocal changes
            if changes == moment:
                raise KeyboardInterrupt
            changes += 1
            return change(*arguments, **options)

        return changing

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, dies(getattr(Path, name)))
    try:
        begin_run(tmp_path, resume=True)
        write_metrics(tmp_path, 3, {"a": 3})
        end_run(tmp_path, SETTINGS, {})
    except KeyboardInterrupt:
        pass
    assert set(read_metrics(tmp_path)) >= {1, 2}
