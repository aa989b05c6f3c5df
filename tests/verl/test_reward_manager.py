"""The reward manager as verl runs it: found by name, fed a DataProto, with a real tokenizer."""

import asyncio
import json
import logging
import re
import threading
from copy import deepcopy

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.ray_trainer import compute_advantage

from shape_grpo.advantage import CandidateBatch, CandidateRecord
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import ErrorBudget, Scored, ScoredSet
from shape_grpo.verl.checks import RECORD_KEY
from shape_grpo.verl.context import CandidatesInContext, candidates_in_context


@pytest.fixture(scope="module")
def tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator(
        ["<candidate>five</candidate> and <candidate>four</candidate>"], trainer
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture
def score(tokenizer, recipe_config):
    """score(text, compute_score, **block) -> (response score, extra info, record)."""
    usual_tokenizer = tokenizer

    def run(
        text, compute_score, *, limit=256, model=None, filter_metric=None,
        prompt=(5, 5, 5), prompt_limit=None, padding=0, tokenizer=usual_tokenizer, **block,
    ):  # fmt: skip
        config = recipe_config.copy()
        if prompt_limit is not None:
            config.actor_rollout_ref.rollout.prompt_length = prompt_limit
        config.actor_rollout_ref.rollout.max_model_len = model
        config.actor_rollout_ref.rollout.response_length = limit
        OmegaConf.update(config, "algorithm.shape_grpo", block, force_add=True)
        OmegaConf.update(config, "algorithm.filter_groups.metric", filter_metric, force_add=True)
        ids = tokenizer(text)["input_ids"]
        padded = torch.tensor([ids + [tokenizer.pad_token_id] * 7])
        before = list(prompt) if isinstance(prompt, tuple) else tokenizer(prompt)["input_ids"]
        prompts = torch.tensor([[tokenizer.pad_token_id] * padding + before])
        mask = torch.tensor([[0] * padding + [1] * (len(before) + len(ids)) + [0] * 7])
        data = DataProto.from_dict(
            tensors={"prompts": prompts, "responses": padded, "attention_mask": mask},
            non_tensors={
                "data_source": np.array(["films"], dtype=object),
                "reward_model": np.array([{"ground_truth": "viewer 7"}], dtype=object),
                "extra_info": np.array([{"history": ["Alien"]}], dtype=object),
                "__num_turns__": np.array([2]),
            },
        )

        async def main():
            manager = get_reward_manager_cls("multi_candidate")(config, tokenizer, compute_score)
            manager.loop = asyncio.get_running_loop()
            return await manager.run_single(data)

        result = asyncio.run(main())
        info = result["reward_extra_info"]
        return result["reward_score"], info, CandidateRecord.from_json(info[RECORD_KEY])

    return run


def stars(data_source, solution_str, ground_truth, extra_info, **kwargs):
    return {"five": 5, "four": 4, "three": 3}.get(solution_str, 0)


FIVE_FOUR = "<candidate>five</candidate> or <candidate>four</candidate><eos>"


def test_scores_each_candidate_and_the_set_by_its_best(score, tokenizer):
    reward, info, record = score(FIVE_FOUR, stars)
    assert (reward, record.rewards, record.error) == (5.0, [5.0, 4.0], None)
    ids = tokenizer(FIVE_FOUR)["input_ids"]
    spans = [tokenizer.decode(ids[a:b]) for a, b in zip(record.starts, record.ends, strict=True)]
    assert "five" in spans[0] and "four" in spans[1]
    assert (info["num_candidates"], info["mean_candidate"], info["reward_errors"]) == (2, 4.5, 0)
    assert (info["best_candidate"], info["distinct_candidates"]) == (5, 2)


def test_a_response_without_candidates_is_in_the_averages_at_the_floor(score):
    reward, info, _ = score("none", stars, floor_reward=-1.0)
    assert (reward, info["best_candidate"], info["mean_candidate"]) == (-1, -1, -1)


def test_the_best_candidate_is_not_the_sets_utility(score):
    reward, info, _ = score(FIVE_FOUR, stars, utility="sum")
    assert (reward, info["best_candidate"]) == (9, 5)


def test_the_reward_function_is_called_as_verl_calls_it(score):
    calls = []

    def spy(**arguments):
        calls.append(arguments)
        return {"score": np.float32(1.0), "acc": 1}

    score(FIVE_FOUR, spy)
    calls.sort(key=lambda call: call["extra_info"]["candidate_index"])
    assert [call["solution_str"] for call in calls] == ["five", "four"]
    assert calls[1]["data_source"] == "films" and calls[1]["ground_truth"] == "viewer 7"
    assert calls[1]["extra_info"] == {
        "history": ["Alien"],
        "num_turns": 2,
        "rollout_reward_scores": {},
        "candidate_index": 1,
        "num_candidates": 2,
    }


GRADED = {
    "five": {"score": 5, "acc": np.bool_(True), "pred": "5", "length": torch.tensor(4.0)},
    "four": {"score": 4, "acc": False, "pred": "4", "length": 40},
}


def graded(solution_str, **kwargs):
    return {**GRADED[solution_str], "reward": 7, "num_candidates": 9, "tests": [1, 0]}


def test_numbers_beside_the_score_travel_on_as_those_of_the_best_candidate(score):
    reward, info, _ = score("<candidate>four</candidate> or <candidate>five</candidate>", graded)
    assert (reward, info["score"]) == (5, 5)
    assert (info["acc"], info["pred"], info["length"]) == (1, "5", 4.0)
    assert type(info["acc"]) is bool and type(info["length"]) is float
    assert info["num_candidates"] == 2 and not {"reward", "tests"} & info.keys()


@pytest.mark.parametrize("utility", ["max", "sum"])
def test_the_score_is_the_responses_also_where_the_function_returns_a_dict(score, utility):
    reward, info, _ = score(FIVE_FOUR, graded, utility=utility)
    assert info["score"] == reward == {"max": 5, "sum": 9}[utility]


def fails(**kwargs):
    raise ValueError("no judge")


@pytest.mark.parametrize("metric", ["acc", "score", "length", "num_candidates"])
@pytest.mark.parametrize(
    ("text", "function", "block"),
    [
        (FIVE_FOUR, stars, {}),
        (FIVE_FOUR, graded, {}),
        (FIVE_FOUR, fails, {}),
        ("no tags at all<eos>", graded, {}),
        ("<candidate></candidate>", graded, {"empty": "floor"}),
    ],
)
def test_every_response_has_what_groups_are_filtered_by(score, metric, text, function, block):
    """verl ends the run with a RuntimeError where one lacks it."""
    reward, info, _ = score(text, function, filter_metric=metric, **block)
    assert isinstance(float(info[metric]), float)
    if function is not graded or text != FIVE_FOUR:
        assert info["acc"] == reward


def test_groups_filtered_by_the_reward_itself_need_no_key_of_that_name(score):
    assert "reward" not in score(FIVE_FOUR, stars, filter_metric="reward")[1]


def test_a_candidate_whose_reward_function_hangs_is_a_reward_error(score, caplog):
    release = threading.Event()

    def function(solution_str, **kwargs):
        return release.wait() if solution_str == "five" else 4.0

    text = FIVE_FOUR + "<candidate>five</candidate>"
    reward, info, record = score(text, function, reward_timeout=1.0, duplicate="score")
    release.set()
    assert (reward, record.rewards, info["reward_errors"]) == (4.0, [None, 4.0, None], 2)
    assert "reward_timeout=1 seconds" in record.error and "'five'" in record.error
    assert len(caplog.records) == 1 and "RewardTimeout" in caplog.text


def test_makeshift_rewards_are_counted(score):
    def with_fallback(solution_str, **kwargs):
        return {"score": 2.0, "fallback": float(solution_str == "four")}

    assert score(FIVE_FOUR, with_fallback)[2].problem_counts == {"fallback": 1}


def test_an_async_function_is_awaited_and_candidates_are_scored_at_the_same_time(score):
    both_are_in = asyncio.Event()
    waiting = 0

    async def meet(solution_str, **kwargs):
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            both_are_in.set()
        await asyncio.wait_for(both_are_in.wait(), timeout=30)
        return stars(None, solution_str, None, None)

    assert score(FIVE_FOUR, meet)[2].rewards == [5.0, 4.0]


def test_a_sync_function_is_called_for_both_candidates_at_the_same_time(score):
    barrier = threading.Barrier(2, timeout=30)

    def meet(solution_str, **kwargs):
        barrier.wait()
        return stars(None, solution_str, None, None)

    assert score(FIVE_FOUR, meet)[2].rewards == [5.0, 4.0]


CASES = [
    # text, block, rewards of the record, problem counts, score
    ("no tags at all<eos>", {}, [], {}, 0.0),
    ("no tags at all<eos>", {"floor_reward": -1.0}, [], {}, -1.0),
    ("<candidate>five</candidate> <candidate>fou", {}, [5.0], {"truncated": 1}, 5.0),
    (
        "<candidate>four</candidate> <candidate>five",
        {"truncated": "score"},
        [4.0, 5.0],
        {"truncated": 1},
        5.0,
    ),
    (
        "<candidate>four</candidate> <candidate>five",
        {"truncated": "floor", "floor_reward": -2.0},
        [4.0, -2.0],
        {"truncated": 1},
        4.0,
    ),
    ("<candidate> </candidate><candidate>four</candidate>", {}, [4.0], {"empty": 1}, 4.0),
    (
        "<candidate> </candidate><candidate>four</candidate>",
        {"empty": "floor"},
        [0.0, 4.0],
        {"empty": 1},
        4.0,
    ),
    (
        "<candidate>five</candidate><candidate> FIVE </candidate>",
        {},
        [5.0, 0.0],
        {"duplicate": 1},
        5.0,
    ),
    (
        "<candidate>five</candidate><candidate>five</candidate>",
        {"duplicate": "drop"},
        [5.0],
        {"duplicate": 1},
        5.0,
    ),
    (
        "<candidate>five</candidate><candidate>five</candidate>",
        {"duplicate": "floor", "floor_reward": -1.0},
        [5.0, -1.0],
        {"duplicate": 1},
        5.0,
    ),
    (
        "<candidate>three</candidate><candidate>four</candidate><candidate>five</candidate>",
        {"max_candidates": 2},
        [3.0, 4.0],
        {"surplus": 1},
        4.0,
    ),
    (
        "<candidate>three</candidate><candidate>four</candidate><candidate>five</candidate>",
        {"max_candidates": 2, "surplus": "floor"},
        [3.0, 4.0, 0.0],
        {"surplus": 1},
        4.0,
    ),
    ("1. five\n2. four<eos>", {"format": "numbered"}, [5.0, 4.0], {}, 5.0),
]


@pytest.mark.parametrize(("text", "block", "rewards", "problems", "total"), CASES)
def test_each_rule_does_what_the_config_says(score, text, block, rewards, problems, total):
    reward, _, record = score(text, stars, **block)
    assert (record.rewards, record.problem_counts, reward) == (rewards, problems, total)
    assert len(record.starts) == len(record.ends) == len(rewards)


def test_a_numbered_list_cut_by_the_length_limit_loses_its_last_item(score, tokenizer):
    text = "1. five\n2. four"
    limit = len(tokenizer(text)["input_ids"])
    _, _, record = score(text, stars, limit=limit, format="numbered")
    assert (record.rewards, record.problem_counts) == ([5.0], {"truncated": 1})


def test_a_set_is_unknown_where_only_repeats_have_a_reward(score):
    def failing(solution_str, **_):
        return {"five": 5.0}[solution_str]

    repeated = "<candidate>six</candidate> <candidate>six</candidate>{}<eos>"
    _, _, record = score(repeated.format(""), failing, duplicate="floor")
    assert record.rewards == [None, 0.0] and record.is_unknown
    other = "<candidate>five</candidate>"
    _, _, record = score(repeated.format(other), failing, duplicate="floor")
    assert record.rewards == [None, 0.0, 5.0] and not record.is_unknown


@pytest.mark.parametrize("end", ["", "<eos>"])
def test_a_list_is_cut_where_the_model_can_hold_no_more_too(score, tokenizer, end):
    """The prompt has three tokens; vLLM then stops before the response's own limit."""
    text = "1. five\n2. four" + end
    length = 3 + len(tokenizer(text)["input_ids"])
    _, _, record = score(text, stars, model=length + 1, format="numbered")
    assert record.rewards == [5.0, 4.0]
    _, _, record = score(text, stars, model=length, format="numbered")
    assert record.rewards == ([5.0, 4.0] if end else [5.0])


def test_a_judges_whole_answer_in_a_failure_does_not_travel_with_each_response(score):
    def judge(**_):
        raise ValueError("a judge's answer " * 100_000 + "ends here")

    _, _, record = score(FIVE_FOUR, judge)
    assert len(record.error) < 11_000
    assert record.error.startswith("Traceback") and "ends here" in record.error[-30:]
    assert "characters left out" in record.error


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (float("nan"), "NaN is no reward"),
        (float("inf"), "an infinite reward would swallow the set"),
        (None, "a forgotten return"),
        ({"acc": 1.0}, "a dict without a score"),
        ("good", "not a number"),
    ],
)
def test_a_result_that_is_no_reward_costs_its_candidate(score, result, reason):
    reward, info, record = score(
        FIVE_FOUR, lambda solution_str, **_: result if solution_str == "five" else 4.0
    )
    assert (reward, record.rewards, info["reward_errors"]) == (4.0, [None, 4.0], 1), reason
    assert not record.is_unknown


def test_a_reward_function_that_raises_is_logged_once_with_its_traceback(score, caplog):
    def broken(solution_str, **kwargs):
        raise KeyError(f"no rating of {solution_str}")

    with caplog.at_level(logging.ERROR, logger="shape_grpo.rewards.failures"):
        reward, info, record = score(FIVE_FOUR, broken)
    assert (record.rewards, record.is_unknown, info["reward_errors"]) == ([None, None], True, 2)
    assert reward == 0.0
    assert "no rating of five" in record.error and "Traceback" in record.error
    assert len(caplog.records) == 1 and "no rating of" in caplog.text


PASSED = {"five": [1, 1, 0], "four": [0, 1], "three": []}


def test_vectors_for_coverage(score):
    def tests_passed(solution_str, **kwargs):
        return {"score": torch.tensor(PASSED[solution_str])}

    block = {"utility": "coverage", "utility_options": {"weights": [2, 1, 4]}, "empty": "floor"}
    reward, info, record = score(FIVE_FOUR + "<candidate></candidate>", tests_passed, **block)
    assert (reward, list(map(list, record.rewards))) == (3.0, [[1, 1, 0], [0, 1], []])
    assert info["mean_candidate"] == pytest.approx((3 + 1 + 0) / 3)
    assert score("none", tests_passed, **block)[0] == 0.0


@pytest.mark.parametrize(
    ("block", "result", "reason"),
    [
        ({"utility": "noisy_or"}, 1.5, "returned 1.5 for 'five'; utility noisy_or takes"),
        ({"utility": "noisy_or"}, -0.1, "probabilities, 0 to 1"),
        ({"utility": "coverage"}, 1.0, "TypeError"),
        ({"utility": "coverage"}, [1, 0.5], "vectors of zeros and ones"),
        ({"utility": "coverage"}, [], "returned \\[\\] for 'five'"),
        (
            {"utility": "coverage", "utility_options": {"weights": [1]}},
            [1, 1],
            "no longer than the weights",
        ),
        ({"utility": "max"}, [1, 0], "TypeError"),
    ],
)
def test_a_reward_that_the_utility_does_not_take_costs_its_candidate(score, block, result, reason):
    good = [1] if block["utility"] == "coverage" else 1.0

    def compute_score(solution_str, **kwargs):
        return result if solution_str == "five" else good

    reward, info, record = score(FIVE_FOUR, compute_score, **block)
    failed, known = record.rewards
    known = list(known) if isinstance(known, bytes) else known
    assert (reward, failed, known, info["reward_errors"]) == (1.0, None, good, 1)
    assert re.search(reason, record.error)


def test_a_function_that_uses_up_what_it_gets_scores_every_candidate(score):
    def pops(solution_str, extra_info, **kwargs):
        return float(len(extra_info["history"].pop()))

    _, info, record = score(FIVE_FOUR, pops)
    assert (record.rewards, info["reward_errors"]) == ([5.0, 5.0], 0)


@pytest.mark.parametrize("block", [{}, {"utility": "coverage"}])
def test_text_is_no_reward(score, block):
    _, info, record = score(FIVE_FOUR, lambda **kwargs: "101", **block)
    assert (record.rewards, info["reward_errors"]) == ([None, None], 2)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("Perhaps <candidate>five</candidate>, or", []),
        ("Perhaps <candidate>five</candidate>", []),
        ("Perhaps <candidate>five</candidate></think><candidate>four</candidate>", ["four"]),
    ],
)
def test_a_prompt_may_open_the_thought(score, tokenizer, text, texts, padding):
    """Chat templates of DeepSeek-R1 and Qwen3-Thinking end in the mark; verl pads on the left."""
    limit = len(tokenizer(text)["input_ids"])
    prompt = "Which is it?<eos>\n<think>\n"
    _, info, record = score(text, stars, prompt=prompt, padding=padding, limit=limit)
    assert (record.texts, info["num_candidates"]) == (texts, len(texts))
    _, _, record = score(text, stars, prompt="Which is it?", padding=padding, limit=limit)
    assert record.texts == (texts or ["five"])


@pytest.fixture
def gemma(tokenizer, tmp_path):
    """gemma(ids of generation_config.json) -> a tokenizer whose turns end in a token of its own."""

    def load(*end_ids):
        folder = tmp_path / "gemma"
        copied = deepcopy(tokenizer)
        copied.add_tokens([AddedToken("<end_of_turn>", special=True)], special_tokens=True)
        copied.save_pretrained(folder)
        if end_ids:
            ids = copied.convert_tokens_to_ids(list(end_ids))
            (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
        return AutoTokenizer.from_pretrained(folder)

    return load


@pytest.mark.parametrize(
    ("end_ids", "rewards"),
    [(("<eos>", "<end_of_turn>"), [5.0, 4.0]), (("<eos>",), [5.0]), ((), [5.0])],
)
def test_a_full_response_is_whole_if_it_ends_as_the_models_files_say(
    score, gemma, end_ids, rewards
):
    """Gemma's tokenizer has the end-of-sequence token alone, and its generation_config.json also
    the one that ends each answer."""
    text = "1. five\n2. four<end_of_turn>"
    tokenizer = gemma(*end_ids)
    limit = len(tokenizer(text)["input_ids"])
    _, _, record = score(text, stars, tokenizer=tokenizer, limit=limit, format="numbered")
    assert record.rewards == rewards


@pytest.mark.parametrize("end", ["", "<eos>"])
def test_a_list_is_cut_where_prompt_and_response_reach_their_limit_in_all(score, tokenizer, end):
    """vLLM stops at prompt_length + response_length, which a prompt longer than prompt_length
    leaves less of."""
    text = "1. five\n2. four" + end
    length = len(tokenizer(text)["input_ids"])
    for prompt_limit, rewards in ((2, [5.0, 4.0] if end else [5.0]), (3, [5.0, 4.0])):
        _, _, record = score(
            text, stars, limit=length + 1, prompt_limit=prompt_limit, format="numbered"
        )
        assert record.rewards == rewards


def by_name(solution_str, **kwargs):
    """Stars of a program; those that differ in a semicolon are the same."""
    name = solution_str.strip(";")
    return {"score": {"x.t": 2.0, "X.T": 3.0}[name], "identity": name, "acc": 1}


PROGRAMS = "".join(f"<candidate>{name}</candidate>" for name in ("x.t", "X.T", "x.t;", "X.T"))


@pytest.mark.parametrize(
    ("rule", "rewards", "texts"),
    [
        ("score", [2.0, 3.0, 2.0, 3.0], ["x.t", "X.T", "x.t;", "X.T"]),
        ("floor", [2.0, 3.0, -1.0, -1.0], ["x.t", "X.T", "x.t;", "X.T"]),
        ("drop", [2.0, 3.0], ["x.t", "X.T"]),
    ],
)
def test_what_the_reward_function_calls_the_same_is_a_duplicate(score, rule, rewards, texts):
    """And only that: by their text, X.T would be one of x.t, and x.t; none."""
    reward, info, record = score(PROGRAMS, by_name, duplicate=rule, floor_reward=-1.0)
    assert (reward, record.rewards, record.texts) == (3.0, rewards, texts)
    assert record.problem_counts == {"duplicate": 2}
    assert (info["distinct_candidates"], info["num_candidates"]) == (2, len(texts))
    assert "identity" not in info and info["acc"] == 1
    assert info["reward_errors"] == 0


def test_a_candidate_without_an_identity_is_compared_by_its_text(score):
    def without(solution_str, **kwargs):
        return {"score": 1.0} if solution_str.casefold() == "x.t" else by_name("x.t;")

    text = PROGRAMS.replace("X.T</", "x.t;;</", 1)
    assert score(text, without, duplicate="drop")[2].texts == ["x.t", "x.t;;"]


def test_a_repeat_is_asked_about_only_where_its_identity_may_differ(score):
    asked = []

    def spy(solution_str, **kwargs):
        asked.append(solution_str)
        return by_name(solution_str)

    score(PROGRAMS.replace("x.t;", "x.t"), spy, duplicate="floor")
    assert asked == ["x.t", "X.T"]
    asked.clear()
    score(PROGRAMS, lambda solution_str, **_: asked.append(solution_str) or 1.0, duplicate="floor")
    assert sorted(asked) == ["x.t", "x.t;"]


OWN_FORMAT = """
import re

def find_candidates(answer):
    if "boom" in answer:
        raise KeyError("no candidate in it")
    return [match.span() for match in re.finditer("five|four|three", answer)]
"""


@pytest.fixture
def own_format(tmp_path):
    (tmp_path / "own_format.py").write_text(OWN_FORMAT)
    return {"format": "function", "format_options": {"path": str(tmp_path / "own_format.py")}}


def test_a_format_that_raises_costs_its_response(score, own_format, caplog):
    with caplog.at_level(logging.ERROR, logger="shape_grpo.rewards.failures"):
        reward, info, record = score("five, boom", stars, floor_reward=-1.0, **own_format)
    assert record.is_unknown and record.num_errors == info["reward_errors"] == 1
    assert (reward, info["num_candidates"]) == (-1.0, 0)
    assert "Traceback" in record.error and "own_format.py" in record.error
    assert "no candidate in it" in record.error
    assert len(caplog.records) == 1
    assert "The format failed on a response, which leaves its set" in caplog.text


def test_a_response_that_the_format_failed_on_is_left_out_of_its_group(score, own_format):
    """Its score is the floor in verl's eyes; as a zero it would train, and lower the mean."""
    results = [score(text, stars, **own_format) for text in ("five", "boom", "three and four")]
    batch = CandidateBatch.collate([record for *_, record in results])
    method = ShapeGRPOConfig(**own_format).method
    context = CandidatesInContext(batch, batch.compute_shares(method), torch.arange(3), method)
    rewards = torch.zeros(3, 16)
    rewards[:, -1] = torch.tensor([reward for reward, *_ in results])
    data = DataProto.from_dict(
        tensors={"token_level_rewards": rewards, "response_mask": torch.ones(3, 16)},
        non_tensors={"uid": np.array(["a", "a", "a"], dtype=object)},
    )
    with candidates_in_context(context):
        data = compute_advantage(data, adv_estimator="shape_grpo", config=OmegaConf.create({}))
    advantages = data.batch["advantages"]
    # Of the scores 5 and 4 alone, whose mean is 4.5.
    grpo = 0.5 / (0.5**0.5 + 1e-6)
    assert advantages[:, -1].tolist() == pytest.approx([grpo, 0.0, -grpo])
    assert not advantages[1].any()


def test_formats_that_fail_too_often_end_the_run(score, own_format):
    records = [score(text, stars, **own_format)[2] for text in ("five", "boom", "boom")]
    with pytest.raises(RuntimeError, match=r"(?s)failed for 2 of the last 3.*no candidate in it"):
        ErrorBudget(0.5, responses=3).spend(records, "in training")


@pytest.mark.parametrize("value", ["none", float("nan"), None, [1], 10**400])
@pytest.mark.parametrize("key", ["acc", "depth"])
def test_what_verl_calculates_with_is_a_number(score, key, value):
    """verl ends the run where the metric of `filter_groups` or `acc` is none."""
    function = lambda solution_str, **kwargs: {"score": 3.0, key: value}  # noqa: E731
    _, info, _ = score(FIVE_FOUR, function, filter_metric="depth")
    assert info["acc"] == info["depth"] == 3.0


@pytest.mark.parametrize(("accs", "worth"), [([0, 1], 0.0), ([-1, -2], -2.0), ([None], -4.0)])
def test_without_candidates_acc_is_the_lowest_that_the_function_gave(accs, worth):
    """A score of -4 says nothing about an accuracy from 0 to 1."""
    manager = object.__new__(get_reward_manager_cls("multi_candidate"))
    manager.options, manager.filter_metric = ShapeGRPOConfig(), None
    manager._lowest, manager._names = {}, {}
    for acc in accs:
        details = {"score": -4.0} if acc is None else {"score": -4.0, "acc": acc}
        results = ScoredSet(results=[Scored(-4.0, details)])
        manager._extra_info(CandidateRecord([-4.0]), results, -4.0, "films")
    info = manager._extra_info(CandidateRecord(floor=-4.0), ScoredSet(), -4.0, "films")
    # So it is where the best candidate was paid the floor.
    without = CandidateRecord([-4.0]), ScoredSet(results=[Scored(-4.0)]), -4.0
    assert manager._extra_info(*without, "films")["acc"] == info["acc"]
    # Another data source, whose branch of the function gives no accuracy.
    assert manager._extra_info(*without, "maths")["acc"] == -4.0
    assert (info["acc"], info["score"], info["best_candidate"]) == (worth, -4.0, -4.0)
