"""Responses of several turns, and thoughts that the prompt opens."""

from importlib.resources import files
from itertools import count

import pytest

from shape_grpo.trl import ShapEGRPOTrainer
from tests.trl.tiny_policy import answer, byte_tokenizer, make_trainer, scored_batch

STARS = {"five": 5.0, "four": 4.0, "three": 3.0, "tool": 9.0}


def stars(completions, **columns):
    return [STARS.get(text.casefold(), 0.0) for text in completions]


def rollouts(*responses):
    """A ``rollout_func`` whose n-th response is the n-th of these: the policy's turns as strings,
    an environment's in tuples."""

    def roll_out(prompts, trainer):
        tokenizer = trainer._tokenizer
        output = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "env_mask": []}
        for prompt, turns in zip(prompts, responses, strict=True):
            ids, mask = [], []
            for turn in turns:
                written = isinstance(turn, str)
                tokens = tokenizer(turn if written else turn[0])["input_ids"]
                ids += tokens
                mask += [int(written)] * len(tokens)
            output["prompt_ids"].append(tokenizer(prompt)["input_ids"])
            output["completion_ids"].append([*ids, tokenizer.eos_token_id])
            output["logprobs"].append([-1.0] * (len(ids) + 1))
            output["env_mask"].append([*mask, 1])
        return output

    return roll_out


TURNS = [
    answer("four"),
    ("\nenv: <candidate>tool</candidate> <candidate>",),
    "five</candidate>\n" + answer("three"),
]
ONE_TURN = ["none, ", ("<candidate>tool</candidate>",), "none"]


def made(folder, *responses, **block):
    trainer = make_trainer(
        folder, stars, [None] * len(responses), options={"rollout_func": rollouts(*responses)},
        **block,
    )  # fmt: skip
    return trainer, scored_batch(trainer)


@pytest.mark.parametrize(("turns", "texts"), [("last", ["three"]), ("all", ["four", "three"])])
def test_candidates_of_the_policys_turns_make_the_set(tmp_path, turns, texts):
    trainer, batch = made(tmp_path, TURNS, ONE_TURN, turns=turns)
    record, other = trainer.records
    assert (record.texts, record.rewards) == (texts, [STARS[text] for text in texts])
    assert other.texts == []
    tokens = batch["completion_ids"][0]
    spans = zip(record.starts, record.ends, strict=True)
    assert [trainer._tokenizer.decode(tokens[slice(*span)]) for span in spans] == texts


def test_tokens_of_an_environment_are_paid_nothing_and_a_candidate_its_own(tmp_path):
    trainer, batch = made(tmp_path, TURNS, ONE_TURN, turns="all", allocator="winner_takes_all")
    advantages, (record, _) = batch["advantages"], trainer.records
    grpo = 4.0 / (8.0**0.5 + 1e-6) / 2  # scores 4 and 0
    assert advantages[0, 0].item() == pytest.approx(grpo)
    four, three = (advantages[0, start].item() for start in record.starts)
    assert (four, three) == (pytest.approx(2 * grpo), 0.0)
    outside = batch["tool_mask"] == 0
    assert outside.any() and not advantages[outside].any()


def test_a_repeat_of_an_earlier_turn_falls_under_the_rule(tmp_path):
    response = [answer("five"), ("\nenv\n",), answer("FIVE", "three")]
    trainer, _ = made(tmp_path, response, ONE_TURN, turns="all", duplicate="drop")
    assert trainer.records[0].texts == ["five", "three"]
    assert trainer.records[0].problem_counts == {"duplicate": 1}


def test_a_template_may_open_the_thought_of_a_later_turn(tmp_path):
    thought = [answer("five"), ("\nenv\n<think>\n",), answer("four")]
    closed = [*thought, "</think>" + answer("three")]
    trainer, _ = made(tmp_path, thought, closed, turns="all")
    assert [record.texts for record in trainer.records] == [["five"], ["five", "three"]]


def test_the_limit_cuts_a_response_that_ends_in_a_turn_of_the_policy_alone(tmp_path):
    """`rollouts` adds an end-of-sequence token, which here is beyond the limit of the response."""

    def without_end(*responses):
        def roll_out(prompts, trainer):
            output = rollouts(*responses)(prompts, trainer)
            for name in ("completion_ids", "logprobs", "env_mask"):
                output[name] = [values[:-1] for values in output[name]]
            return output

        return roll_out

    texts = ["1. four\n2. five", "\nenv: no film"]
    width = max(map(len, texts)) + len(texts[0])
    texts[1] = texts[1].ljust(width - len(texts[0]))
    responses = [[(texts[1],), texts[0]], [texts[0], (texts[1],)]]
    trainer = make_trainer(
        tmp_path, stars, [None] * 2, options={"rollout_func": without_end(*responses)},
        settings={"max_completion_length": width}, format="numbered",
    )  # fmt: skip
    scored_batch(trainer)
    assert [record.texts for record in trainer.records] == [["four"], ["four", "five"]]


def test_prompts_may_open_a_thought(tmp_path):
    """As those of DeepSeek-R1 do; the first response ends in its thought."""
    responses = [answer("five"), answer("five", after="</think>") + answer("four")] * 2
    trainer = make_trainer(tmp_path, stars, responses, prompts=("p<think>\n", "p"))
    scored_batch(trainer)
    texts = [record.texts for record in trainer.records]
    assert texts == [[], ["four"], ["five"], ["four"]]


def test_training_and_evaluation_run_with_an_environment(tmp_path):
    trainer = make_trainer(
        tmp_path,
        stars,
        [None] * 2,
        turns="all",
        options={"rollout_func": rollouts(TURNS, ONE_TURN)},
    )
    trainer.train()
    trainer.evaluate()
    train, test = trainer.state.log_history[0], trainer.state.log_history[-1]
    assert train["shape_grpo/num_candidates"] == test["eval_shape_grpo/num_candidates"] == 1
    assert train["reward"] == test["eval_reward"] == pytest.approx(2.0)
    assert train["grad_norm"] > 0


def qwen3_tokenizer():
    """The byte tokenizer with Qwen3's chat template."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<think>", "</think>"])
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = (files("trl") / "chat_templates/qwen3.jinja").read_text()
    return tokenizer


class Conversing(ShapEGRPOTrainer):
    """The n-th turn of each response is the n-th of its list."""

    def _generate_single_turn(self, prompt_ids, *_, **__):
        number = next(self.calls)
        texts = [turns[number] for turns in self.responses if len(turns) > number]
        assert len(texts) == len(prompt_ids)
        end = self._tokenizer.eos_token_id
        return [[*self._tokenizer(text)["input_ids"], end] for text in texts], None


def find_film(year: int) -> str:
    """
    Find a film.

    Args:
        year: Its year.

    Returns:
        The film.
    """
    return f"<candidate>tool</candidate> of {year}"


class Cinema:
    def reset(self, **_):
        self.asked = []

    def find_film(self, year: int) -> str:
        """
        Find a film.

        Args:
            year: Its year.

        Returns:
            The film.
        """
        self.asked.append(year)
        return find_film(year)


class Critic(Cinema):
    def get_reward(self):
        return 1.0


CALL = '<tool_call>\n{"name": "find_film", "arguments": {"year": 1999}}\n</tool_call>'


def conversing(folder, reward, options, **block):
    trainer = make_trainer(
        folder, reward, [[answer("four") + CALL, answer("five")], [answer("three")]],
        prompts=([{"role": "user", "content": "Which?"}],), base=Conversing,
        settings={"max_completion_length": 600},
        options={**options, "processing_class": qwen3_tokenizer()}, **block,
    )  # fmt: skip
    trainer.calls = count()
    return trainer


@pytest.mark.parametrize("options", [{"tools": [find_film]}, {"environment_factory": Cinema}])
@pytest.mark.parametrize(
    ("turns", "texts"), [("last", [["five"], ["three"]]), ("all", [["four", "five"], ["three"]])]
)
def test_trls_own_tools_write_no_candidates(tmp_path, options, turns, texts):
    seen = []

    def spy(completions, **columns):
        seen.extend(message["content"] for (message,) in completions)
        return stars(message["content"] for (message,) in completions)

    trainer = conversing(tmp_path, spy, options, turns=turns)
    batch = scored_batch(trainer)
    assert [record.texts for record in trainer.records] == texts
    assert seen == [text for of_response in texts for text in of_response]
    tokens = batch["completion_ids"][0]
    written = trainer._tokenizer.decode(tokens)
    assert "<candidate>tool</candidate> of 1999" in written
    for record in trainer.records[:1]:
        spans = zip(record.starts, record.ends, strict=True)
        assert [trainer._tokenizer.decode(tokens[slice(*span)]) for span in spans] == texts[0]
    assert not batch["advantages"][batch["tool_mask"] == 0].any()
    assert batch["advantages"][0, 0] > 0 > batch["advantages"][1, 0]


def test_a_reward_function_gets_the_environment_of_each_candidate(tmp_path):
    seen = []

    def spy(completions, environments, **columns):
        seen.extend(environment.asked for environment in environments)
        return [1.0] * len(completions)

    scored_batch(conversing(tmp_path, spy, {"environment_factory": Cinema}, turns="all"))
    assert seen == [[1999], [1999], []]


def test_an_environment_that_scores_whole_rollouts_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"get_reward scores a whole rollout.*takes environments"):
        conversing(tmp_path, stars, {"environment_factory": Critic})
