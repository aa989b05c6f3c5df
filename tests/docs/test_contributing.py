"""The task in CONTRIBUTING is one."""

import re
import sys
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import numpy as np
import pandas as pd

from shape_grpo.candidates import parse_candidates

PAGE = Path(__file__).parents[2] / ".github/CONTRIBUTING.md"


def test_the_task_writes_prompts_and_example_answers(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(\"\"\"Cities.*?)```", PAGE.read_text(), flags=re.DOTALL)
    task = module_from_spec(spec_from_loader("cities", loader=None))
    monkeypatch.setitem(sys.modules, "cities", task)  # where dataclasses look for it
    exec(code, vars(task))
    task.prepare(tmp_path, task.TaskSettings(candidates=3))
    rows = pd.read_parquet(tmp_path / "train.parquet")
    assert [row["ground_truth"] for row in rows["reward_model"]] == [
        "Rome Milan Turin",
        "Madrid Seville Toledo",
    ]
    examples = task.example_answers(tmp_path, np.random.default_rng(0)).draw(5)
    for prompt, answer in examples:
        assert "Name 3 cities" in prompt[0]["content"]
        assert len({candidate.text for candidate in parse_candidates(answer)}) == 3
