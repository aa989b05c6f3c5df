"""The turns that verl's agent loop worker passes on, and their scoring by the reward manager."""

import asyncio
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl.experimental.agent_loop import AgentLoopOutput, agent_loop
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.v1 import AgentLoopWorkerTQ

from shape_grpo.advantage import CandidateRecord
from shape_grpo.candidates import turns_of
from shape_grpo.verl.agent_loop import verls_compute_score
from shape_grpo.verl.checks import RECORD_KEY

WORKER = AgentLoopWorkerTQ.__ray_actor_class__


class VerlsWorker(WORKER):
    """Worker with verl's own method."""

    _compute_score = verls_compute_score


@pytest.fixture(scope="module")
def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, "<eos>", "<pad>"])}
    characters = Tokenizer(models.BPE(vocabulary, []))
    characters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=characters, eos_token="<eos>", pad_token="<pad>"
    )


@pytest.fixture
def through_verl(tokenizer, recipe_config):
    """through_verl(outputs, ...) -> the scored texts, and the last output.

    An output is a list of turns: the policy's as a string, a tool's in a tuple.
    """

    def run(outputs, *, prompts=None, worker_cls=WORKER, limit=4096, **block):
        changed = recipe_config.copy()
        changed.actor_rollout_ref.rollout.response_length = limit
        OmegaConf.update(changed, "algorithm.shape_grpo", block, force_add=True)
        scored = []

        def compute_score(solution_str, extra_info, **kwargs):
            assert set(extra_info) == {
                "history", "num_turns", "rollout_reward_scores", "candidate_index",
                "num_candidates", "tool_rewards",
            }  # fmt: skip
            scored.append(solution_str)
            return float(len(solution_str))

        async def main():
            manager = get_reward_manager_cls("multi_candidate")(changed, tokenizer, compute_score)
            manager.loop = asyncio.get_running_loop()
            worker = object.__new__(worker_cls)
            worker.config = changed
            remote = SimpleNamespace(remote=manager.run_single)
            worker.reward_loop_worker_handles = [SimpleNamespace(compute_score=remote)]
            worker.processor, worker.mm_processor_kwargs = None, {}
            made = [
                output_of(tokenizer, turns, prompt)
                for turns, prompt in zip(outputs, prompts or ["Which?"] * len(outputs), strict=True)
            ]
            fields = {
                "data_source": "films",
                "reward_model": {"ground_truth": "viewer 7"},
                "extra_info": {"history": ["Alien"]},
            }
            await worker._compute_score(made, fields)
            return made[-1]

        return scored, asyncio.run(main())

    return run


def output_of(tokenizer, turns, prompt="Which?"):
    ids, mask = [], []
    for turn in turns:
        written = isinstance(turn, str)
        tokens = tokenizer(turn if written else turn[0])["input_ids"]
        ids += tokens
        mask += [int(written)] * len(tokens)
    return AgentLoopOutput(
        prompt_ids=tokenizer(prompt)["input_ids"],
        response_ids=ids,
        response_mask=mask,
        num_turns=1 + len(turns),
        metrics=AgentLoopMetrics(),
        extra_fields={"tool_rewards": []},
    )


def record_of(output):
    return CandidateRecord.from_json(output.extra_fields["reward_extra_info"][RECORD_KEY])


def words_of(tokenizer, output):
    """Return the texts that the record's spans cover."""
    record = record_of(output)
    return [
        tokenizer.decode(output.response_ids[start:end])
        for start, end in zip(record.starts, record.ends, strict=True)
    ]


ASK = "<search>films</search><eos>"
SETS = {
    # format: a set as text, and its candidates
    "xml": ("<candidate>Alien</candidate> <candidate>Dune</candidate>", ["Alien", "Dune"]),
    "numbered": ("1. Alien\n2. Dune", ["Alien", "Dune"]),
}


@pytest.mark.parametrize("format", SETS)
def test_a_tools_list_is_not_an_answer(through_verl, tokenizer, format):
    answer, films = SETS[format]
    tool = ("\n1. <candidate>a far longer title</candidate>\n",)
    scored, output = through_verl([[ASK, tool, answer + "<eos>"]], format=format)
    assert sorted(scored) == films
    assert words_of(tokenizer, output) == films
    assert output.reward_score == len("Alien")


@pytest.mark.parametrize("format", SETS)
def test_an_earlier_turns_list_is_not_an_answer(through_verl, tokenizer, format):
    answer, _ = SETS[format]
    turns = [answer + ASK, ("\nno films\n",), "I give up<eos>"]
    scored, output = through_verl([turns], format=format)
    assert scored == [] and output.reward_score == 0.0


def test_a_candidate_opened_by_the_tool_does_not_count(through_verl):
    """Otherwise the policy's closing tag would make the tool's text a candidate."""
    scored, _ = through_verl([[ASK, ("<candidate>Solaris ",), "or so</candidate><eos>"]])
    assert scored == []


def test_if_a_tool_writes_last_the_turn_before_it_counts(through_verl, tokenizer):
    turns = ["1. Alien\n2. Dune", ("\n3. Solaris",)]
    limit = len(output_of(tokenizer, turns).response_ids)
    scored, output = through_verl([turns], limit=limit, format="numbered")
    assert sorted(scored) == ["Alien", "Dune"]
    assert words_of(tokenizer, output) == ["Alien", "Dune"]


def test_the_limit_cuts_the_last_item_of_the_last_turn(through_verl, tokenizer):
    turns = [ASK, ("\nno films\n",), "1. Alien\n2. Du"]
    limit = len(output_of(tokenizer, turns).response_ids)
    assert through_verl([turns], limit=limit, format="numbered")[0] == ["Alien"]


@pytest.mark.parametrize("worker_cls", [WORKER, VerlsWorker])
@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        (["Which?", "Which film, of those that were found?"], "the mask's tail has prompt in it"),
        (["Which film, of those that were found?", "Which?"], "the mask's tail begins too late"),
    ],
)
def test_of_several_outputs_the_last_is_scored_whatever_the_lengths(
    through_verl, tokenizer, worker_cls, prompts, reason
):
    """verl pads whole sequences on the right, so the mask's tail is not the last response."""
    outputs = [["a search that is longer than what comes of it"], ["1. Alien\n2. Dune"]]
    scored, output = through_verl(
        outputs, prompts=prompts, worker_cls=worker_cls, format="numbered"
    )
    assert sorted(scored) == ["Alien", "Dune"], reason
    assert words_of(tokenizer, output) == ["Alien", "Dune"]


def test_verls_own_worker_with_several_turns_is_refused(through_verl):
    answer, _ = SETS["xml"]
    assert through_verl([[answer]], worker_cls=VerlsWorker)[0]
    with pytest.raises(RuntimeError, match="must inherit _compute_score"):
        through_verl([[ASK, ("\nno films\n",), answer]], worker_cls=VerlsWorker)


THREE_TURNS = [
    "Perhaps <candidate>Alien</candidate><eos>",
    ("\n<candidate>Solaris</candidate>, <candidate>Stalker\n",),
    "or so</candidate>, or <candidate>Dune</candidate><eos>",
    ("\n<candidate>Stalker</candidate>\n",),
    "Or <candidate>Emma</candidate>, <candidate> ALIEN</candidate>",
]


def test_of_all_turns_every_candidate_of_the_policy_makes_the_set(through_verl, tokenizer):
    scored, output = through_verl([THREE_TURNS], turns="all", duplicate="score")
    assert sorted(scored) == ["ALIEN", "Alien", "Dune", "Emma"]
    assert words_of(tokenizer, output) == record_of(output).texts
    assert record_of(output).texts == ["Alien", "Dune", "Emma", "ALIEN"]


def test_of_the_last_turn_only_its_own_candidates_make_the_set(through_verl, tokenizer):
    scored, output = through_verl([THREE_TURNS], turns="last")
    assert sorted(scored) == ["ALIEN", "Emma"]
    assert words_of(tokenizer, output) == record_of(output).texts == ["Emma", "ALIEN"]
    assert record_of(output).problem_counts == {}


@pytest.mark.parametrize(
    ("rule", "rewards"), [("floor", [5.0, 4.0, 4.0, -1.0]), ("drop", [5.0, 4.0, 4.0])]
)
def test_a_repeat_of_an_earlier_turn_falls_under_the_rule(through_verl, rule, rewards):
    block = {"turns": "all", "duplicate": rule, "floor_reward": -1.0}
    scored, output = through_verl([THREE_TURNS], **block)
    assert sorted(scored) == ["Alien", "Dune", "Emma"]
    assert record_of(output).rewards == rewards
    assert record_of(output).problem_counts == {"duplicate": 1}


def test_candidates_of_all_turns_are_counted_together(through_verl):
    scored, output = through_verl([THREE_TURNS], turns="all", max_candidates=2)
    assert sorted(scored) == ["Alien", "Dune"]
    assert record_of(output).problem_counts == {"surplus": 2}


def test_the_limit_cuts_the_last_item_of_no_turn_but_the_last(through_verl, tokenizer):
    turns = ["1. Alien\n2. Dune", ("\nno films\n",), "1. Emma\n2. Jaw"]
    limit = len(output_of(tokenizer, turns).response_ids)
    scored, _ = through_verl([turns], limit=limit, format="numbered", turns="all")
    assert sorted(scored) == ["Alien", "Dune", "Emma"]


@pytest.mark.parametrize(
    ("turns", "end", "texts"),
    [
        ("all", "</think><candidate>Emma</candidate>", ["Alien", "Emma"]),
        ("all", "", ["Alien"]),
        ("last", "</think><candidate>Emma</candidate>", ["Emma"]),
        ("last", "", []),
    ],
)
def test_a_template_may_open_the_thought_of_a_later_turn(through_verl, turns, end, texts):
    """As those of Qwen3-Thinking and DeepSeek-R1 do, in tokens that the policy did not write."""
    response = [
        "No thought. <candidate>Alien</candidate><eos>",
        ("\nno films\n<think>\n",),
        "Perhaps <candidate>Dune</candidate>" + end,
    ]
    assert record_of(through_verl([response], turns=turns)[1]).texts == texts


def test_the_turns_are_stored_only_while_they_are_scored(through_verl):
    _, output = through_verl([[SETS["xml"][0]]])
    assert set(output.extra_fields) == {"tool_rewards", "reward_extra_info"}


def fields_of_a_scored_output(config):
    async def main():
        worker = object.__new__(WORKER)
        worker.config = config
        worker.reward_loop_worker_handles = []
        output = AgentLoopOutput(
            prompt_ids=[1], response_ids=[2], response_mask=[1], reward_score=1.0,
            metrics=AgentLoopMetrics(),
        )  # fmt: skip
        await worker._compute_score([output], {})
        return output.extra_fields

    return asyncio.run(main())


def test_other_reward_managers_get_nothing(recipe_config):
    naive = recipe_config.copy()
    naive.reward.reward_manager.name = "naive"
    assert fields_of_a_scored_output(naive) == {}


def test_an_agent_loop_that_scores_itself_is_left_to_the_trainers_error(recipe_config):
    assert fields_of_a_scored_output(recipe_config) == {"reward_extra_info": {}}


def test_turns_are_the_runs_of_ones():
    mask = [1, 1, 0, 0, 1, 0, 1, 1, 1, 0]
    every = [(0, 2), (4, 5), (6, 9)]
    expected = {0: [], 1: [(0, 1)], 2: every[:1], 4: every[:1], 5: every[:2], 6: every[:2]}
    for length, turns in {**expected, 9: every, 10: every}.items():
        assert turns_of(mask[:length]) == turns
    assert turns_of([0, 0]) == []


def test_weightings_are_drawn_by_prompt_step_and_seed_and_one_for_all_validations(
    tokenizer, recipe_config, monkeypatch
):
    """Through verl's `_run_agent_loop` and `_compute_score`."""
    block = {"utility": "weightings", "utility_options": {"components": 3}}
    config = recipe_config.copy()
    OmegaConf.update(config, "algorithm.shape_grpo", block, force_add=True)

    async def drawn(prompt, step, validate, seed):
        config.data.seed = seed
        manager = get_reward_manager_cls("multi_candidate")(
            config, tokenizer, lambda **_: [2.0, 0.0, 1.0]
        )
        manager.loop = asyncio.get_running_loop()
        output = output_of(tokenizer, ["<candidate>Alien</candidate>"], prompt)

        class Loop:
            async def run(self, sampling_params, **kwargs):
                return output

        async def postprocess(output, validate, **kwargs):
            await worker._compute_score([output], kwargs)

        monkeypatch.setattr("hydra.utils.instantiate", lambda **_: Loop())
        monkeypatch.setitem(agent_loop._agent_loop_registry, "mine", {})
        worker = object.__new__(WORKER)
        worker.config = config
        remote = SimpleNamespace(remote=manager.run_single)
        worker.reward_loop_worker_handles = [SimpleNamespace(compute_score=remote)]
        worker.processor, worker.mm_processor_kwargs = None, {}
        worker.llm_client = worker.tokenizer = worker.hf_model_type = worker.dataset_cls = None
        worker.tools = []
        worker._agent_loop_postprocess = postprocess
        row = {"data_source": "films", "reward_model": {"ground_truth": ""}, "extra_info": {}}
        trajectory = {"step": step, "sample_index": 0, "rollout_n": 0, "validate": validate}
        await worker._run_agent_loop(
            {}, trajectory, agent_name="mine", trace=False, global_steps=step, **row
        )
        assert set(output.extra_fields) == {"tool_rewards", "reward_extra_info"}
        return record_of(output).rewards

    def rewards(prompt="Which?", step=3, validate=False, seed=1):
        return asyncio.run(drawn(prompt, step, validate, seed))

    usual = rewards()
    assert len(usual[0]) == 16 and usual == rewards()
    others = [rewards(step=4), rewards(prompt="Who?"), rewards(seed=2), rewards(validate=True)]
    assert usual not in others and len({str(other) for other in others}) == 4
    assert rewards(validate=True) == rewards(validate=True, step=4)
