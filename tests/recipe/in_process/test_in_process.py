"""The policy of `film_task.py`, trained a few steps by TRL in this process."""

import asyncio
import inspect
import json
import shutil
from threading import Barrier

import numpy as np
import pytest

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.in_process.__main__ import main
from recipe.shape_grpo.report.credit_map import map_step
from recipe.shape_grpo.tasks.prepared_task import as_trl_reward, load_prepared_task
from reward_fns.films import compute_score
from shape_grpo.candidates import Candidate, CandidateSet, parse_candidates
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import RewardFunction
from shape_grpo.trl.rewards import CandidateRewards
from tests.recipe.film_task import make_policy, prepare, write_ratings

OPTIONS = ["--steps=3", "--validate_every=2", "--prompts_per_step=2", "--group_size=4"]
OPTIONS += ["--validation_samples=2", "--learning_rate=1e-2", "--max_tokens=4"]
HELD_OUT = "val-core/movielens/reward/mean@2"


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    return write_ratings(tmp_path_factory.mktemp("ratings"))


@pytest.fixture(scope="module")
def task(ratings, tmp_path_factory):
    folder = prepare("movielens", tmp_path_factory.mktemp("task with space"), ratings)
    make_policy(folder / "policy")
    return folder


def command(task, output, *options):
    main([str(task), f"--output={output}", *OPTIONS, *options])


@pytest.fixture(scope="module")
def output(task, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    command(task, output, "--seeds=[4, 5]", "--method=praise")
    return output


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def learnt(run):
    """The metrics but for the time they took."""
    metrics = {line["step"]: line["data"] for line in lines(run / "metrics.jsonl")}
    return {s: {k: v for k, v in d.items() if "timing" not in k} for s, d in metrics.items()}


def test_a_run_has_the_metrics_of_every_step_and_what_it_was(output, task):
    metrics = lines(output / "seed-4/metrics.jsonl")
    assert [line["step"] for line in metrics] == [0, 1, 2, 3]
    assert metrics[0]["data"].keys() == {HELD_OUT}
    assert [line["step"] for line in metrics if HELD_OUT in line["data"]] == [0, 2, 3]
    logged = {"critic/score/mean", "actor/entropy", "actor/grad_norm", "timing_s/step"}
    logged |= {f"shape_grpo/{name}_candidates" for name in ("num", "distinct", "duplicate")}
    for line in metrics[1:]:
        assert logged <= line["data"].keys()
        assert line["data"]["actor/grad_norm"] > 0 and line["data"]["actor/entropy"] > 0
    settings = json.loads((output / "seed-4/settings.json").read_text())
    wanted = {"trainer": "trl", "task": "movielens", "method": "praise", "candidates": 3}
    wanted |= {"seed": 4, "learning_rate": 1e-2, "steps": 3, "tokenizer": str(task / "policy")}
    assert wanted.items() <= settings.items()
    credit = settings["shape_grpo"]
    assert (credit["advantage"], credit["allocator"]) == ("praise", "beta_shapley")
    assert (credit["max_candidates"], credit["duplicate"]) == (3, "floor")  # of config/base.yaml
    assert settings["policy"] == {"policy": "untrained"} and settings["data"]["films"] == 12


def test_rollouts_hold_what_candidates_earned(output, task):
    """Those of the steps that a measurement follows, scored anew here."""
    run = output / "seed-4"
    assert sorted(file.name for file in (run / "rollouts").iterdir()) == ["2.jsonl", "3.jsonl"]
    rollouts = lines(run / "rollouts/2.jsonl")
    assert len({rollout["uid"] for rollout in rollouts}) == len(rollouts) == 8
    scored = 0
    for rollout in rollouts:
        texts = [c.text for c in parse_candidates(rollout["output"]) if c.closed and c.text][:3]
        extra, path = {"history": []}, task / "ratings.npz"
        stars = {
            text: compute_score("", text, rollout["gts"], extra, path)["score"] for text in texts
        }
        record = json.loads(rollout["shape_grpo"])
        for text, reward in zip(texts, record["rewards"], strict=True):
            # 0 for repeats, and for films that the prompt names
            assert reward in (pytest.approx(stars[text]), 0.0)
            scored += reward > 0
        assert rollout["score"] == max([*record["rewards"], 0.0])
    assert scored > 0
    mean = np.mean([rollout["score"] for rollout in rollouts])
    assert learnt(run)[2]["critic/score/mean"] == pytest.approx(mean)
    step_map = map_step(run, 3)
    assert len(step_map.groups) == 2 and not any(
        r.note for g in step_map.groups for r in g.responses
    )


def test_seeds_are_runs_of_their_own_that_can_be_had_again(output, task, tmp_path):
    assert learnt(output / "seed-4") != learnt(output / "seed-5")
    command(task, tmp_path, "--seeds=[5]", "--method=praise")
    assert learnt(tmp_path / "seed-5") == learnt(output / "seed-5")


def test_a_kl_penalty_holds_the_policy_where_it_was(task, output, tmp_path):
    def entropies(run):
        metrics = learnt(run)
        return [metrics[step]["actor/entropy"] for step in (1, 2, 3)]

    command(task, tmp_path, "--seeds=[4]", "--method=praise", "--kl_coefficient=100")
    free, held = entropies(output / "seed-4"), entropies(tmp_path / "seed-4")
    assert held[0] == free[0]
    assert abs(held[2] - held[0]) < abs(free[2] - free[0]) / 2
    # It climbs something else, so no report puts it beside runs without.
    names = [read_stamp(run)["task"] for run in (output / "seed-4", tmp_path / "seed-4")]
    assert names[1] == f"{names[0]}_kl_100"


def test_a_whole_run_is_reused_and_a_torn_one_made_anew(output, task, capsys):
    run = output / "seed-5"
    before = (run / "metrics.jsonl").read_text()
    command(task, output, "--seeds=[5]", "--method=praise")
    assert "reusing" in capsys.readouterr().out
    assert (run / "metrics.jsonl").read_text() == before
    (run / "settings.json").unlink()
    (run / "metrics.jsonl").write_text('{"step": 0, "da')
    command(task, output, "--seeds=[5]", "--method=praise")
    assert "reusing" not in capsys.readouterr().out
    assert len(lines(run / "metrics.jsonl")) == 4 and (run / "settings.json").exists()


def test_a_longer_history_of_netflix_is_a_dataset_of_its_own(ratings, task, tmp_path):
    for history, name in ((0, "netflix"), (2, "netflix_history")):
        folder = prepare(
            "netflix", tmp_path / name, ratings, viewers=20, candidates=2, history=history
        )
        (folder / "policy").symlink_to(task / "policy")
        prepared = load_prepared_task(folder, 2)
        assert prepared.name == name and prepared.rules["max_candidates"] == 2
        (row, *_) = prepared.prompts("train")
        columns = {name: [value] for name, value in row.items()}
        completions = [[{"role": "assistant", "content": "No Film of the Catalogue"}]]
        places = {"candidate_index": [0], "num_candidates": [1]}
        rewards = prepared.reward(completions=completions, **columns, **places)
        assert asyncio.run(rewards)[0]["score"] == 0.0


def test_films_without_a_history_are_a_dataset_of_their_own(ratings, task, tmp_path):
    folder = prepare("movielens", tmp_path / "task", ratings, history=0)
    shutil.copytree(task / "policy", folder / "policy")
    prepared = load_prepared_task(folder, 3)
    assert prepared.name == "movielens_no_history"
    prompts = prepared.prompts("train")["prompt"]
    assert {len(prompt) for prompt in prompts} == {1}
    assert len({prompt[0]["content"] for prompt in prompts}) == 1


def test_verls_reward_functions_are_called_a_candidate_at_a_time():
    seen = []

    def plain(data_source, solution_str, ground_truth, extra_info, scale):
        seen.append((data_source, ground_truth, extra_info))
        return {"score": scale * len(solution_str), "fallback": False}

    async def slow(**arguments):
        await asyncio.sleep(0)
        return plain(**arguments)

    columns = {
        "completions": [[{"role": "assistant", "content": text}] for text in ("a", "bb")],
        "data_source": ["films"] * 2,
        "reward_model": [{"style": "rule", "ground_truth": "y"}] * 2,
        "extra_info": [{"index": 4}] * 2,
        "candidate_index": [0, 1],
        "num_candidates": [2, 2],
        "trainer_state": None,
    }
    config = ShapeGRPOConfig()

    def rewards(function, scale):
        reward = as_trl_reward(RewardFunction(function, config, {"scale": scale}))
        # TRL awaits coroutine functions alone.
        assert inspect.iscoroutinefunction(reward)
        return asyncio.run(reward(**columns))

    assert rewards(plain, 10) == [
        {"score": 10, "fallback": False},
        {"score": 20, "fallback": False},
    ]
    # As verl's managers (tests/verl/test_reward_manager.py); in threads, in whichever order.
    of_verl = {"num_turns": 2, "rollout_reward_scores": {}}
    of_ours = {"candidate_index": 1, "num_candidates": 2}
    assert ("films", "y", {"index": 4, **of_verl, **of_ours}) in seen
    assert [each["score"] for each in rewards(slow, 1)] == [1, 2]


ROW = {"data_source": "films", "reward_model": {"ground_truth": "y"}, "extra_info": {"index": 4}}


def by_rank(data_source, solution_strs, ground_truth, extra_info):
    ranks = [sorted(solution_strs).index(text) for text in solution_strs]
    places = extra_info["candidate_indices"]
    return [{"score": 0, "rank": r, "place": p} for r, p in zip(ranks, places, strict=True)]


def letters(solutions, ground_truth, extra_info):
    return len(set("".join(solutions))) + 100.0 * sum(extra_info["candidate_indices"])


@pytest.mark.parametrize(
    ("function", "block", "rewards", "shares"),
    [
        (by_rank, {"reward_weights": {"rank": 1.0, "place": 10.0}}, [2.0, 20.0, 31.0], []),
        (letters, {"utility": "oracle"}, [1.0, 202.0, 302.0], [0.5, 201.5, 302.0]),
    ],
    ids=["of the set", "of subsets"],
)
def test_functions_of_several_candidates_see_a_response(function, block, rewards, shares):
    """Not one candidate at a time, and not the candidates of two responses."""
    options = ShapeGRPOConfig(duplicate="floor", per_response=True, **block)
    reward = as_trl_reward(RewardFunction(function, options))
    found = [
        CandidateSet.from_candidates(
            [Candidate(text, n, n) for n, text in enumerate(texts)], [(0, 0)] * len(texts), options
        )
        for texts in (["c", "c", "ac", "bd"], ["x"])
    ]
    message = [{"role": "assistant", "content": ""}]
    examples = [(ROW, "p", message, [])] * 2
    first, second = CandidateRewards([reward], [1.0], options)(found, examples)
    assert first.rewards == [rewards[0], 0.0, *rewards[1:]]
    assert first.shares == (pytest.approx([shares[0], 0.0, *shares[1:]]) if shares else [])
    assert len(second.rewards) == 1


def test_reward_functions_that_wait_are_called_at_once():
    """Each of two calls waits for the other: one after the other, they would not end."""
    both = Barrier(2)

    def score(solution_str, **arguments):
        both.wait(timeout=30)
        return len(solution_str)

    columns = {
        "completions": [[{"role": "assistant", "content": text}] for text in ("a", "bb")],
        "data_source": ["films"] * 2,
        "reward_model": [{"ground_truth": viewer} for viewer in "xy"],
        "extra_info": [{}, {}],
        "candidate_index": [0, 1],
        "num_candidates": [2, 2],
    }
    reward = as_trl_reward(RewardFunction(score, ShapeGRPOConfig()))
    assert asyncio.run(reward(**columns)) == [{"score": 1}, {"score": 2}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candidates=4"], "the prompts in .* ask for 3; prepare them with --candidates 4"),
        (["--method=best"], "method=best: unknown value"),
        (["--method=best_of_k"], "method 'best_of_k' credits whole rollouts"),
        (["--seeds=[1, 1]"], "all different"),
        (["--steps=0"], "steps is 0"),
        (["--kl_coefficient=-1"], "kl_coefficient is -1.0; it must be 0 or more"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(task, tmp_path, options, message):
    with pytest.raises(SystemExit, match=f"in_process: .*{message}") as ended:
        command(task, tmp_path, *options)
    assert "\n" not in str(ended.value) and not list(tmp_path.iterdir())


def test_a_folder_without_task_or_policy_is_told_how_to_get_them(ratings, tmp_path):
    with pytest.raises(SystemExit, match=r"shape_grpo\.tasks NAME"):
        command(tmp_path, tmp_path / "output")
    folder = prepare("movielens", tmp_path / "task", ratings)
    with pytest.raises(SystemExit, match=r"shape_grpo\.policies tiny"):
        command(folder, tmp_path / "output")


@pytest.mark.parametrize("arguments", [[], ["F", "--output=O", "--tastes=3"]])
def test_wrong_usage_ends_with_code_2(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
