"""The summarisation task: rows for verl, prompts that fit, and files that are reused."""

import json
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from itertools import chain

import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks import aclsum
from recipe.shape_grpo.tasks.__main__ import main
from recipe.shape_grpo.tasks.aclsum import (
    EXAMPLES,
    TaskSettings,
    longest_prompt,
    prepare,
    prompt_messages,
    tidy_sentence,
)
from reward_fns.aclsum_question import ASPECTS
from shape_grpo.candidates import parse_candidates

LIMIT = 450
SHOWN = TaskSettings("any")
WORKED = TaskSettings("any", worked_examples=2)


def count_words(messages):
    return sum(len(message["content"].split()) for message in messages)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Tokenizer with one token per word; its chat template adds none."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        chat_template="{% for message in messages %}{{ message.content }}\n{% endfor %}",
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def task(tokenizer, tmp_path_factory):
    output = tmp_path_factory.mktemp("task")
    prepare(output, TaskSettings(tokenizer, max_prompt_tokens=LIMIT, worked_examples=2))
    return output


@pytest.fixture(params=["train", "test"])
def split(request, task):
    """Rows of a split, and its papers from the package by id."""
    rows = pd.read_parquet(task / f"{request.param}.parquet").to_dict("records")
    for row in rows:
        row["prompt"] = list(row["prompt"])
    text = (files("aclsum") / "dataset" / f"{request.param}.jsonl").read_text()
    papers = {paper["id"]: paper for paper in map(json.loads, text.splitlines())}
    return rows, papers


def test_one_row_per_paper_and_aspect(split):
    rows, papers = split
    found = Counter((row["extra_info"]["paper"], row["extra_info"]["aspect"]) for row in rows)
    assert found == Counter((paper, aspect) for paper in papers for aspect in ASPECTS)


def test_rows_have_verls_columns(split):
    rows, papers = split
    for index, row in enumerate(rows):
        extra = row["extra_info"]
        assert row["data_source"] == "aclsum"
        assert extra["index"] == index
        reference = papers[extra["paper"]]["summary"][extra["aspect"]]
        assert row["reward_model"] == {"style": "rule", "ground_truth": reference}
        assert [turn["role"] for turn in row["prompt"]] == ["user", "assistant"] * 2 + ["user"]


def test_prompts_show_the_beginning_of_the_paper_and_fit(split):
    rows, papers = split
    for row in rows:
        sections = papers[row["extra_info"]["paper"]]["sentences"]
        paper = "".join("".join(chain(*sections.values())).split())
        excerpt = row["prompt"][-1]["content"].removeprefix("Paper: ").split("\n\n")[0]
        assert len(excerpt.split()) > 5
        assert paper.startswith("".join(excerpt.split()))
        assert count_words(row["prompt"]) <= LIMIT


def test_train_and_test_papers_differ(task):
    train, test = (pd.read_parquet(task / f"{name}.parquet") for name in ("train", "test"))
    papers = [{extra["paper"] for extra in table["extra_info"]} for table in (train, test)]
    assert papers[0].isdisjoint(papers[1])


@pytest.mark.parametrize("aspect", ASPECTS)
def test_worked_examples_are_answers_of_three_candidates(aspect):
    messages = prompt_messages("Some paper.", aspect, WORKED)
    answers = [turn["content"] for turn in messages if turn["role"] == "assistant"]
    assert len(answers) == len(EXAMPLES)
    for answer, example in zip(answers, EXAMPLES, strict=True):
        candidates = parse_candidates(answer)
        assert [c.text for c in candidates] == list(example["summaries"][aspect])
        assert all(candidate.closed for candidate in candidates)
        assert len({candidate.text for candidate in candidates}) == 3
    # ACLSum's own summaries have at most 25 words.
    assert max(len(c.text.split()) for a in answers for c in parse_candidates(a)) <= 25


@pytest.mark.parametrize(
    ("k", "words"),
    [
        (1, "Write one summary, each"),
        (2, "Write 2 different summaries"),
        (3, "Write 3 different summaries"),
        (8, "Write 8 different summaries"),
    ],
)
@pytest.mark.parametrize("aspect", ASPECTS)
def test_one_question_says_how_many_and_shows_the_format(k, words, aspect):
    (message,) = prompt_messages("Some paper.", aspect, replace(SHOWN, candidates=k))
    assert words in message["content"] and ASPECTS[aspect] in message["content"]
    example = message["content"].split("the answer could be:")[1]
    shown = [candidate.text for candidate in parse_candidates(example) if candidate.closed]
    assert shown == list(EXAMPLES[0]["summaries"][aspect][:k])
    assert ("8 in all" in example) == (k == 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "candidates is 0: use 1 or more"),
        ({"worked_examples": 3}, "worked_examples is 3: use 0 to 2"),
        ({"worked_examples": -1}, "worked_examples is -1: use 0 to 2"),
        ({"worked_examples": 1, "candidates": 4}, "too few for candidates=4"),
        ({"aspects": []}, "use some of challenge, approach, outcome"),
        ({"aspects": ["result"]}, "use some of challenge, approach, outcome"),
    ],
)
def test_settings_that_make_no_prompt(settings, message):
    with pytest.raises(ValueError, match=message):
        TaskSettings("any", **settings)


def test_command_line(tokenizer, tmp_path):
    command = (
        f"aclsum --tokenizer {tokenizer} --output {tmp_path} --candidates 5 --aspects [outcome]"
    )
    main(command.split())
    rows = pd.read_parquet(tmp_path / "test.parquet").to_dict("records")
    assert len(rows) == 100
    assert {row["extra_info"]["aspect"] for row in rows} == {"outcome"}
    assert all("Write 5 different summaries" in row["prompt"][0]["content"] for row in rows)
    with pytest.raises(SystemExit, match="tasks aclsum: candidates is 0"):
        main([*command.split(), "--candidates", "0"])


def test_questions_of_all_turns_are_alike():
    first, *_, last = prompt_messages(EXAMPLES[0]["excerpt"], "outcome", WORKED)
    assert first == last


@pytest.mark.parametrize(
    ("room", "shown", "reason"),
    [
        (9, "One two three. Four five six. Seven eight nine.", "everything fits exactly"),
        (8, "One two three. Four five six.", "the last sentence is a word too long"),
        (3, "One two three.", "one sentence fits exactly"),
        (2, None, "not one sentence fits"),
    ],
)
def test_excerpt_is_cut_after_a_whole_sentence(room, shown, reason):
    sentences = ["One two three.", "Four five six.", "Seven eight nine."]
    limit = count_words(prompt_messages("", "approach", SHOWN)) + room
    expected = None if shown is None else prompt_messages(shown, "approach", SHOWN)
    settings = TaskSettings("any", max_prompt_tokens=limit)
    assert longest_prompt(sentences, "approach", count_words, settings) == expected, reason


@pytest.mark.parametrize(
    ("tokenised", "text"),
    [
        ("A parser , a tagger .", "A parser, a tagger."),
        ("parsers ( of chat ) fail", "parsers (of chat) fail"),
        ("40 % fewer errors !", "40% fewer errors!"),
        ("a 3.5 point gain", "a 3.5 point gain"),
    ],
)
def test_tidy_sentence(tokenised, text):
    assert tidy_sentence(tokenised) == text


def test_without_a_tokenizer_the_bytes_of_a_prompt_are_counted(tmp_path):
    prepare(tmp_path, TaskSettings("bytes", max_prompt_tokens=2048, aspects=["approach"]))
    lengths = [
        len(prompt[0]["content"].encode())
        for prompt in pd.read_parquet(tmp_path / "test.parquet")["prompt"]
    ]
    # One more sentence would not fit.
    assert max(lengths) <= 2048 and sum(lengths) / len(lengths) > 1800


def test_limit_without_room_for_any_paper_is_an_error(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="no prompt fits into 50 tokens"):
        prepare(tmp_path, TaskSettings(tokenizer, max_prompt_tokens=50))
    assert not list(tmp_path.iterdir())


def test_same_settings_are_reused_and_others_are_not(task, tokenizer, monkeypatch):
    def must_not_run(*arguments):
        raise AssertionError("rows were made again")

    monkeypatch.setattr(aclsum, "make_rows", must_not_run)
    settings = TaskSettings(tokenizer, max_prompt_tokens=LIMIT, worked_examples=2)
    prepare(task, settings)
    for change in ({"max_prompt_tokens": LIMIT + 1}, {"candidates": 2}, {"aspects": ["outcome"]}):
        with pytest.raises(AssertionError, match="made again"):
            prepare(task, replace(settings, **change))


@pytest.mark.parametrize(
    ("scale", "tokens"), [(["+scale=smoke"], 512), ([], SHOWN.max_prompt_tokens)]
)
def test_training_takes_prompts_of_this_length(scale, tokens):
    config = compose_config(["+task=aclsum_rouge", *scale])
    assert config.data.max_prompt_length == tokens
    longest = config.data.max_prompt_length + config.data.max_response_length
    assert config.actor_rollout_ref.rollout.max_model_len >= longest
