"""The summarisation task: rows that verl reads, prompts that fit, and files that are reused."""

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from recipe.shape_grpo import prepare_aclsum
from recipe.shape_grpo.prepare_aclsum import (
    ASPECTS,
    EXAMPLES,
    TaskSettings,
    longest_prompt,
    prepare,
    prompt_messages,
    tidy_sentence,
)
from shape_grpo.candidates import parse_candidates

LIMIT = 450


def count_words(messages):
    return sum(len(message["content"].split()) for message in messages)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A token a word, and none that the chat template adds."""
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
    prepare(output, TaskSettings(tokenizer, LIMIT))
    return output


@pytest.fixture(params=["train", "test"])
def split(request, task):
    """Rows of a split, and its papers as the package ships them, by id."""
    rows = pd.read_parquet(task / f"{request.param}.parquet").to_dict("records")
    for row in rows:
        row["prompt"] = list(row["prompt"])
    text = (files("aclsum") / "dataset" / f"{request.param}.jsonl").read_text()
    papers = {paper["id"]: paper for paper in map(json.loads, text.splitlines())}
    return rows, papers


def test_one_row_a_paper_and_aspect(split):
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
        paper = "".join("".join(sections["abstract"] + sections["introduction"]).split())
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
    messages = prompt_messages("Some paper.", aspect)
    answers = [turn["content"] for turn in messages if turn["role"] == "assistant"]
    assert len(answers) == len(EXAMPLES)
    for answer, example in zip(answers, EXAMPLES, strict=True):
        candidates = parse_candidates(answer)
        assert [c.text for c in candidates] == list(example.summaries[aspect])
        assert all(candidate.closed for candidate in candidates)
        assert len({candidate.text for candidate in candidates}) == 3
    # ACLSum's own summaries have at most 25 words.
    assert max(len(c.text.split()) for a in answers for c in parse_candidates(a)) <= 25


def test_questions_of_all_turns_are_alike():
    first, *_, last = prompt_messages(EXAMPLES[0].excerpt, "outcome")
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
    limit = count_words(prompt_messages("", "approach")) + room
    expected = None if shown is None else prompt_messages(shown, "approach")
    assert longest_prompt(sentences, "approach", count_words, limit) == expected, reason


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


def test_limit_without_room_for_any_paper_is_an_error(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="no prompt fits into 50 tokens"):
        prepare(tmp_path, TaskSettings(tokenizer, 50))
    assert not list(tmp_path.iterdir())


def test_same_settings_are_reused_and_others_are_not(task, tokenizer, monkeypatch):
    def must_not_run(*arguments):
        raise AssertionError("rows were made again")

    monkeypatch.setattr(prepare_aclsum, "make_rows", must_not_run)
    prepare(task, TaskSettings(tokenizer, LIMIT))
    with pytest.raises(AssertionError, match="made again"):
        prepare(task, TaskSettings(tokenizer, LIMIT + 1))


def test_training_takes_prompts_of_this_length():
    folder = Path(prepare_aclsum.__file__).parent / "config/task"
    config = OmegaConf.load(folder / "smoke_real.yaml")
    assert config.data.max_prompt_length == TaskSettings("any").max_prompt_tokens
    longest = config.data.max_prompt_length + config.data.max_response_length
    assert config.actor_rollout_ref.rollout.max_model_len >= longest
