"""A sweep that is killed goes on where it was, and ends with what it would have ended with."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.sweep.__main__ import main
from recipe.shape_grpo.sweep.cells import MADE_BY

ROOT = Path(__file__).parents[3]
SMALL = """
trainer: catalogue
tasks: [small]
methods: [grpo, shape_grpo, praise]
candidates: [2, 3]
learning_rates: [3.0e-3]
seeds: [1, 2]
seeds_at_once: true
overrides: [--items=20, --prompts=8, --prompts_per_step=4, --updates=40]
"""
FAILING = """
trainer: catalogue
tasks: [small, broken]
methods: [grpo]
candidates: [2]
learning_rates: [3.0e-3]
seeds: [1]
seeds_at_once: true
overrides: [--items=20, --prompts=8, --prompts_per_step=4, --updates=2]
task_overrides: {broken: [--modes=0]}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def start(specification, output):
    command = [sys.executable, "-m", "recipe.shape_grpo.sweep", specification, "--output", output]
    log = (output.parent / "sweeps.log").open("a")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def curves(output):
    """Every run's rewards; times differ between any two runs."""
    return {
        str(path.parent.relative_to(output)): [
            {name: value for name, value in data.items() if not name.startswith("timing")}
            for data in read_metrics(path.parent).values()
        ]
        for path in sorted(output.rglob("metrics.jsonl"))
    }


def finished_cells(output):
    return {path: path.stat().st_mtime_ns for path in output.rglob(MADE_BY)}


def test_killed_five_times_it_ends_with_the_same(small, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(small, whole).wait() == 0
    moments = random.Random(0)
    kept = {}
    for kill in range(1, 6):
        process = start(small, broken)
        # Not by the clock: the machine may be slow. At a random moment after it went on.
        while len(finished_cells(broken)) < kill and process.poll() is None:
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 1.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done = finished_cells(broken)
        assert kept.items() <= done.items(), "a finished cell was run again"
        kept = done
    assert start(small, broken).wait() == 0
    assert kept.items() <= finished_cells(broken).items()
    assert curves(broken) == curves(whole)
    assert len(curves(whole)) == 3 * 2 * 2


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(tmp_path, capsys):
    path = tmp_path / "failing.yaml"
    path.write_text(FAILING)
    output = tmp_path / "out"
    with pytest.raises(SystemExit, match="1 of 2 cells failed"):
        main([str(path), "--output", str(output)])
    assert (output / "small-k2/grpo/lr-0.003/seed-1/settings.json").is_file()
    log = output / "broken-k2/grpo/lr-0.003/sweep.log"
    assert "modes is 0" in log.read_text()
    assert "failed" in capsys.readouterr().out
    # Mended, it is tried again, and the other is not.
    before = finished_cells(output)
    path.write_text(FAILING.replace("--modes=0", "--modes=2"))
    main([str(path), "--output", str(output)])
    assert before.items() <= finished_cells(output).items()
    assert json.loads((output / "broken-k2/grpo/lr-0.003/seed-1/settings.json").read_text())
