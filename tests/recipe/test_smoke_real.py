"""What the smoke test prints, from metrics and responses like those that verl writes."""

import json

import pytest
from rich.console import Console

from recipe.shape_grpo.policies import smollm2
from recipe.shape_grpo.smoke_real import find_model, print_example, print_steps


@pytest.fixture
def console():
    return Console(record=True, width=120)


def test_a_step_without_candidates_shows_dashes(console):
    full = {
        "shape_grpo/responses_without_candidates": 0.25,
        "shape_grpo/num_candidates": 1.5,
        "shape_grpo/candidate_reward": 0.125,
        "shape_grpo/best_candidate_reward": 0.375,
        "actor/grad_norm": 2.0,
        "timing_s/step": 41.7,
    }
    none = {
        "shape_grpo/responses_without_candidates": 1.0,
        "shape_grpo/num_candidates": 0.0,
        "actor/grad_norm": 0.0,
        "timing_s/step": 40.0,
    }
    print_steps({1: full, 2: none, 3: full}, console, "grpo")
    lines = console.export_text().splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows == [
        ["1", "25%", "1.50", "0.125", "0.375", "2.000", "42"],
        ["2", "100%", "0.00", "-", "-", "0.000", "40"],
        ["3", "25%", "1.50", "0.125", "0.375", "2.000", "42"],
    ]


def test_example_is_the_fullest_response_and_its_best_reward_is_shared(console, tmp_path):
    def rollout(step, score, *candidates, tail=""):
        text = "".join(f"<candidate>{candidate}</candidate>" for candidate in candidates) + tail
        return {"step": step, "output": text, "gts": "good parsers learn fast", "score": score}

    rollouts = {
        1: [rollout(1, 1.0, "good parsers learn fast")],
        # ROUGE 1 and 0: the whole set is worth 1, all of it owed to the first.
        2: [rollout(2, 1.0, "good parsers learn fast", "no", tail="<candidate>cut o")],
        3: [rollout(3, 0.0, "no", "nor"), rollout(3, 0.0)],
    }
    for step, lines in rollouts.items():
        (tmp_path / f"{step}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    print_example(tmp_path, console)
    text = console.export_text()
    assert "step 2" in text
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows == [["good parsers learn fast", "1.000", "1.000"], ["no", "0.000", "0.000"]]


def test_model_is_the_folder_given(tmp_path, monkeypatch):
    def must_not_run(*arguments):
        raise AssertionError("converted a model that nobody asked for")

    monkeypatch.setattr(smollm2, "prepare", must_not_run)
    assert find_model(str(tmp_path), tmp_path / "output") == tmp_path


def test_model_that_nobody_has_is_an_error(tmp_path, monkeypatch):
    def refuse(name, **arguments):
        raise OSError("no connection\nand a long explanation")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(RuntimeError, match=r"--model no/such .*\(no connection\); leave --model"):
        find_model("no/such", tmp_path)
