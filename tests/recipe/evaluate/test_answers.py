"""Answers are what the engine samples, parsed; what cannot be sampled is refused in words."""

import json
import math
from collections import Counter
from itertools import chain

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipe.shape_grpo.evaluate.__main__ import main
from recipe.shape_grpo.evaluate.sampling import SampleSettings, read_prompts, sample_answers
from shape_grpo.candidates import CandidateRules, parse_candidates

RULES = CandidateRules()


def first_token_probabilities(policy, messages):
    tokenizer = AutoTokenizer.from_pretrained(policy)
    ids = tokenizer(messages[0]["content"], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(policy)(ids).logits[0, -1]
    return tokenizer, logits.softmax(-1)


def frequencies(answers):
    firsts = [answer.text.split(" ")[0] for of_prompt in answers for answer in of_prompt]
    return Counter(firsts), len(firsts)


def assert_sampled_from(policy, messages, answers):
    """First tokens come at the model's own probabilities, within five standard errors."""
    tokenizer, probabilities = first_token_probabilities(policy, messages)
    counts, total = frequencies(answers)
    for token, number in tokenizer.get_vocab().items():
        if token.startswith("<candidate>"):
            expected = probabilities[number].item()
            error = math.sqrt(expected * (1 - expected) / total)
            assert counts[token] / total == pytest.approx(expected, abs=5 * error), token


def test_answers_come_at_the_models_own_probabilities(task, policy):
    prompts = read_prompts(task / "test.parquet", 1)
    settings = SampleSettings(samples=2000, max_tokens=2)
    assert_sampled_from(policy, prompts[0], sample_answers(str(policy), prompts, settings, RULES))


@pytest.mark.e2e
def test_vllm_samples_from_the_same_distribution(task, policy):
    prompts = read_prompts(task / "test.parquet", 1)
    settings = SampleSettings(samples=500, max_tokens=2, engine="vllm")
    # Twice the same prompt: no copies of the same answers.
    answers = sample_answers(str(policy), prompts * 2, settings, RULES)
    assert_sampled_from(policy, prompts[0], answers)
    assert [a.text for a in answers[0]] != [a.text for a in answers[1]]


def test_padding_beside_a_longer_prompt_changes_nothing(policy):
    short, long = ([{"role": "user", "content": text}] for text in ("and", "and and and and"))
    greedy = SampleSettings(samples=1, temperature=0, max_tokens=6)
    alone = [sample_answers(str(policy), [prompt], greedy, RULES)[0] for prompt in (short, long)]
    assert sample_answers(str(policy), [short, long], greedy, RULES) == alone


def test_an_answer_ends_with_its_end_token_or_is_cut(task, policy):
    prompts = read_prompts(task / "test.parquet")
    settings = SampleSettings(samples=50, max_tokens=8, seed=3)
    answers = list(chain(*sample_answers(str(policy), prompts, settings, RULES)))
    lengths = {answer.cut: [] for answer in answers}
    assert set(lengths) == {True, False}
    for answer in answers:
        lengths[answer.cut].append(len(answer.text.replace("<pad>", "").split()))
        assert answer.found.candidates == parse_candidates(answer.text, truncated=answer.cut)
    assert max(lengths[False]) < 8


def test_the_command_writes_a_line_an_answer_and_shows_a_table(task, policy, tmp_path, capsys):
    output = tmp_path / "samples.jsonl"
    arguments = [str(policy), str(task / "test.parquet"), f"--output={output}"]
    main(["sample", *arguments, "--prompts=2", "--samples=3", "--max_tokens=4"])
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 0, 0, 1, 1, 1]
    prompts = pd.read_parquet(task / "test.parquet")["prompt"]
    for line in lines:
        assert line["prompt"] == list(prompts[line["index"]])
        assert line["candidates"] == [c.text for c in parse_candidates(line["text"])]
    shown = capsys.readouterr().out
    assert f"1. {lines[0]['candidates'][0]}" in shown and "Answers:" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_tokens=300"], "holds 256: use --max_tokens 2"),
        (["--samples=0"], "samples is 0: use 1 or more"),
        (["--temperature=0"], "at temperature 0 all answers to a prompt are the same"),
        (["--engine=vlm"], "engine=vlm: unknown value. Did you mean vllm?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(task, policy, tmp_path, options, message):
    arguments = ["sample", str(policy), str(task / "test.parquet"), *options]
    with pytest.raises(SystemExit, match=f"evaluate sample: .*{message}"):
        main([*arguments, f"--output={tmp_path / 'samples.jsonl'}"])
    assert not list(tmp_path.iterdir())


def test_a_model_or_prompts_that_are_not_there_are_named(task, policy, tmp_path):
    with pytest.raises(SystemExit, match=r"there is no folder .*nowhere"):
        main(["sample", str(tmp_path / "nowhere"), str(task / "test.parquet")])
    with pytest.raises(SystemExit, match=r"there is no file .*nothing\.parquet"):
        main(["sample", str(policy), str(tmp_path / "nothing.parquet")])
    pd.DataFrame({"question": ["?"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(SystemExit, match="no column of prompts"):
        main(["sample", str(policy), str(tmp_path / "other.parquet")])
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(SystemExit, match="no column of prompts"):
        main(["sample", str(policy), str(tmp_path / "text.parquet")])
