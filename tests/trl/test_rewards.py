"""Reward functions called with candidates: what they are told, and what a failure costs."""

import asyncio
import logging

import pytest

from tests.trl.tiny_policy import answer, make_trainer, scored_batch

RESPONSES = [answer("a", "bb"), answer("ccc"), "none", answer("a", "dddd")]
TEXTS = ["a", "bb", "ccc", "a", "dddd"]


def lengths(completions, **columns):
    return [float(len(text)) for text in completions]


def rewards(folder, function, responses=RESPONSES, **options):
    """The rewards of each response's candidates."""
    trainer = make_trainer(folder, function, responses, **options)
    scored_batch(trainer)
    return [record.rewards for record in trainer.records]


def test_a_function_sees_candidates_and_every_column_repeated_for_each(tmp_path):
    seen = {}

    def spy(completions, **columns):
        seen.update(columns, completions=completions)
        columns["log_metric"]("mine", 3.0)
        return lengths(completions)

    columns = {"viewer": ["x", "y"]}
    trainer = make_trainer(tmp_path, spy, RESPONSES, prompts=("p", "q"), columns=columns)
    scored_batch(trainer)
    assert seen["completions"] == TEXTS
    assert seen["prompts"] == ["p", "p", "p", "q", "q"]
    assert seen["viewer"] == ["x", "x", "x", "y", "y"]
    assert trainer._tokenizer.batch_decode(seen["completion_ids"]) == TEXTS
    assert seen["candidate_index"] == [0, 1, 0, 0, 1]
    assert seen["num_candidates"] == [2, 2, 1, 2, 2]
    assert seen["trainer_state"] is trainer.state and "log_extra" not in seen
    assert trainer._metrics["train"]["mine"] == [3.0]


def test_chat_prompts_have_candidates_as_messages(tmp_path):
    def of_messages(completions, prompts, **columns):
        assert prompts[0] == [{"role": "user", "content": "Suggest."}]
        assert all(message["role"] == "assistant" for (message,) in completions)
        return [float(len(message["content"])) for (message,) in completions]

    prompts = ([{"role": "user", "content": "Suggest."}],)
    assert rewards(tmp_path, of_messages, prompts=prompts) == [[1, 2], [3], [], [1, 4]]


def test_a_dict_needs_no_score_if_its_numbers_have_weights(tmp_path):
    def both(completions, **columns):
        return [{"length": len(text), "is_a": float(text == "a")} for text in completions]

    weights = {"length": 0.5, "is_a": 2.0}
    expected = [[2.5, 1], [1.5], [], [2.5, 2]]
    assert rewards(tmp_path, both, reward_weights=weights) == expected
    with pytest.raises(RuntimeError, match=r"without 'score' .* weigh its numbers by reward_w"):
        rewards(tmp_path, both)


def test_an_async_function_is_awaited(tmp_path):
    async def slow(completions, **columns):
        await asyncio.sleep(0)
        return lengths(completions)

    assert rewards(tmp_path, slow) == [[1, 2], [3], [], [1, 4]]


def test_several_functions_are_summed_by_weight_and_none_does_not_apply(tmp_path):
    async def letter_a(completions, **columns):
        return [1 if text == "a" else None for text in completions]

    found = rewards(tmp_path, [lengths, letter_a], settings={"reward_weights": [0.5, 10.0]})
    assert found == [[10.5, 1.0], [1.5], [], [10.5, 2.0]]


def test_vectors_are_summed_as_well(tmp_path):
    def tests(completions, **columns):
        return [[text == "a", True] for text in completions]

    found = rewards(tmp_path, tests, utility="coverage")
    assert found == [[[1, 1], [0, 1]], [[0, 1]], [], [[1, 1], [0, 1]]]


@pytest.mark.parametrize("wrong", [b"10", bytearray(b"10"), [b"1", b"0"], {"score": {1: 1.0}}])
def test_of_vectors_bytes_and_dicts_are_none(tmp_path, wrong):
    def tests(completions, **columns):
        return [wrong if text == "a" else [1, 0] for text in completions]

    found = rewards(tmp_path, tests, utility="coverage")
    assert found == [[None, [1, 0]], [[1, 0]], [], [None, [1, 0]]]


@pytest.mark.parametrize("name", ["score", "identity", "fallback"])
def test_a_second_function_of_a_name_with_another_meaning_is_refused(tmp_path, name):
    """Under ``identity``, candidates of equal value would be duplicates."""

    def other(completions, **columns):
        return [1.0 for text in completions]

    other.__name__ = name
    with pytest.raises(ValueError, match=f"A reward function is named {name}, .* Rename"):
        make_trainer(tmp_path, [lengths, other], RESPONSES)
    assert rewards(tmp_path, other)[0] == [1.0, 1.0]


def test_weightings_are_drawn_by_prompt_and_step(tmp_path):
    def aspects(completions, **columns):
        return [[2.0, 0.0, 1.0]] * len(completions)

    def found(prompts, step):
        block = {"utility": "weightings", "utility_options": {"components": 3}}
        trainer = make_trainer(tmp_path, aspects, RESPONSES, prompts=prompts, **block)
        trainer.state.global_step = step
        scored_batch(trainer)
        return [reward for record in trainer.records for reward in record.rewards]

    first, *others, last = found(("p", "q"), 0)
    assert len(first) == 16 and first == others[0] == others[1] != last == others[-1]
    assert found(("p", "q"), 0)[0] == first != found(("p", "q"), 1)[0]


def raises(completions, **columns):
    if "a" in completions:
        raise RuntimeError("no answer to a")
    return lengths(completions)


def returns_nan(completions, **columns):
    return [float("nan") if text == "a" else float(len(text)) for text in completions]


def returns_infinity(completions, **columns):
    return [-float("inf") if text == "a" else float(len(text)) for text in completions]


def applies_to_none(completions, **columns):
    return [None if text == "a" else float(len(text)) for text in completions]


def returns_text(completions, **columns):
    return ["a lot" if text == "a" else float(len(text)) for text in completions]


@pytest.mark.parametrize("function", [returns_nan, returns_infinity, applies_to_none, returns_text])
def test_what_is_no_reward_costs_its_candidate_alone(tmp_path, caplog, function):
    with caplog.at_level(logging.ERROR):
        trainer = make_trainer(tmp_path, function, RESPONSES)
        scored_batch(trainer)
    found = [record.rewards for record in trainer.records]
    assert found == [[None, 2], [3], [], [None, 4]]
    assert trainer._metrics["train"]["shape_grpo/reward_errors"] == [2]
    assert trainer._metrics["train"]["rewards/set_utility/mean"] == [pytest.approx(9 / 4)]
    (logged,) = [r for r in caplog.records if r.name.startswith("shape_grpo")]
    assert "leaves its set" in logged.message and "Traceback" in logged.message


def test_on_error_raise_ends_the_run_with_the_traceback(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)on_error=raise.*no answer to a"):
        rewards(tmp_path, raises, on_error="raise")


def test_a_run_ends_where_more_than_half_of_the_rewards_fail(tmp_path):
    responses = [answer("a", "bb", "a")] * 4
    reason = r"(?s)8 of the last 12 .*\(67%\) in training; max_error_share=0\.5\..*returned nan"
    with pytest.raises(RuntimeError, match=reason):
        rewards(tmp_path, returns_nan, responses, duplicate="score")
    assert rewards(tmp_path, returns_nan, responses, max_error_share=0.7, duplicate="score")


def test_candidates_with_the_fixed_reward_are_not_asked_about(tmp_path):
    asked = []

    def spy(completions, **columns):
        asked.extend(completions)
        return lengths(completions)

    responses = [answer("aa", "AA", "b"), answer("aa")]
    found = rewards(tmp_path, spy, responses, duplicate="floor", floor_reward=-1.0)
    assert found == [[2, -1, 1], [2]] and asked == ["aa", "b", "aa"]


def test_a_batch_without_any_candidate_asks_nothing(tmp_path):
    def never(completions, **columns):
        raise AssertionError

    assert rewards(tmp_path, never, ["nothing"] * 4) == [[]] * 4


def graded(completions, **columns):
    return [{"score": float(len(text)), "identity": text.strip(";")} for text in completions]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("score", [[3, 3, 4], [1]]),
        ("floor", [[3, 3, -1], [1]]),
        ("drop", [[3, 3], [1]]),
    ],
)
def test_what_a_function_calls_the_same_is_a_duplicate(tmp_path, rule, found):
    """And only that: by their text, X.T would be one of x.t, and x.t; none."""
    responses = [answer("x.t", "X.T", "x.t;"), answer("a")]
    trainer = make_trainer(tmp_path, graded, responses, duplicate=rule, floor_reward=-1.0)
    scored_batch(trainer)
    assert [record.rewards for record in trainer.records] == found
    assert trainer.records[0].problem_counts == {"duplicate": 1}


def test_a_function_with_an_identity_may_stand_beside_others(tmp_path):
    responses = [answer("x.t", "x.t;"), answer("a")]
    found = rewards(
        tmp_path, [lengths, graded], responses, duplicate="drop",
        settings={"reward_weights": [10.0, 1.0]},
    )  # fmt: skip
    assert found == [[33], [11]]


def test_a_dict_without_a_score_costs_the_candidate(tmp_path):
    def forgets(completions, **columns):
        return [{"identity": text} if text == "a" else {"score": 2.0} for text in completions]

    assert rewards(tmp_path, forgets) == [[None, 2], [2], [], [None, 2]]


def test_a_format_that_raises_costs_its_response(tmp_path, caplog):
    code = "def find_candidates(answer):\n    return [(0, 1)] if 'boom' not in answer else 1 / 0\n"
    (tmp_path / "own_format.py").write_text(code)
    own = {"format": "function", "format_options": {"path": str(tmp_path / "own_format.py")}}
    with caplog.at_level(logging.ERROR):
        trainer = make_trainer(tmp_path, lengths, ["abc", "boom", "d", "boom"], **own)
        advantages = scored_batch(trainer)["advantages"]
    assert [record.texts for record in trainer.records] == [["a"], [""], ["d"], [""]]
    assert "ZeroDivisionError" in trainer.records[1].error
    # The two others are worth the same: the failures move neither their mean nor their spread.
    assert not advantages.any()
    assert trainer._metrics["train"]["shape_grpo/reward_errors"] == [2]
    assert trainer._metrics["train"]["rewards/set_utility/mean"] == [1.0]
    (logged,) = [r for r in caplog.records if r.name.startswith("shape_grpo")]
    assert "The format failed on a response, which leaves its set" in logged.message
