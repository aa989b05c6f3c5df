"""A made-up answer behind the prompts of many families, and what is said where it is not found."""

import pytest
from tokenizers import AddedToken

from shape_grpo.candidates import CandidateRules
from shape_grpo.explain.conversation import NotFound, try_conversation
from tests.candidates.sample_tokenizers import byte_level_bpe, make_tokenizer
from tests.candidates.test_conversations import FAMILIES, TOKENIZERS, family_tokenizer

FORMATS = {
    "xml": CandidateRules(),
    "json": CandidateRules(format="json", format_options={"key": "text"}),
    "numbered": CandidateRules(format="numbered"),
    "capitals": CandidateRules(
        format="regex", format_options={"pattern": "[*]([A-Z ]+)", "example": "*{candidate} "}
    ),
}


@pytest.mark.parametrize("rules", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("family, unknown", TOKENIZERS)
def test_an_answer_behind_a_prompt_of_any_family_is_found(family, unknown, rules):
    tokenizer = family_tokenizer(family, unknown)
    for conversation in FAMILIES[family]["conversations"]:
        found = try_conversation(tokenizer, conversation["prompt"], rules, 3, 1000)
        assert found.written == 3 and len(list(found.lines())) == 5


def test_five_lines_say_what_is_known():
    (thinking, *_) = FAMILIES["qwen3_thinking_2507"]["conversations"]
    tokenizer = family_tokenizer("qwen3_thinking_2507", None)
    rules = CandidateRules()
    lines = list(try_conversation(tokenizer, thinking["prompt"], rules, 3, 60).lines())
    assert lines[0].endswith("assistant\\n<think>\\n'.")
    assert "<think> </think>" in lines[1]
    assert lines[2].startswith("The prompt leaves a thought open (<think>)")
    assert lines[3] == "Candidates: 3 of 3 made-up ones were found."
    assert "max_response_length is 60: longer ones may be cut off." in lines[4]


def test_a_tag_at_the_prompts_end_that_is_no_known_mark_is_pointed_out():
    tokenizer = byte_level_bpe()
    first, *_ = try_conversation(tokenizer, "Hi. <musing>\n", CandidateRules(), 2, 99).lines()
    assert 'write thoughts=["<musing>", "</musing>"]' in first
    rules = CandidateRules(thoughts=["<musing>", "</musing>"])
    first, _, third, *_ = try_conversation(tokenizer, "Hi. <musing>\n", rules, 2, 99).lines()
    assert "write" not in first and third.startswith("The prompt leaves a thought open (<musing>)")


def test_tags_that_are_special_tokens_are_found():
    tokenizer = byte_level_bpe()
    tags = [AddedToken(tag, special=True) for tag in ("<candidate>", "</candidate>")]
    tokenizer.add_tokens(tags, special_tokens=True)
    assert try_conversation(tokenizer, "Hi", CandidateRules(), 3, 99).written == 3


def test_a_format_that_cannot_write_is_not_tried():
    rules = CandidateRules(format="regex", format_options={"pattern": "<(.*?)>"})
    found = try_conversation(byte_level_bpe(), "Hi", rules, 3, 99)
    assert found.written == 0
    assert any("format_options.example" in line for line in found.lines())


REFUSED = [
    # name of the tokenizer, rules, words of the reason
    ("byte_level_bpe", {"max_candidates": 2}, "the prompt asks for 3, and max_candidates=2"),
    ("word_piece", {"format": "numbered"}, "the tokenizer changes the text of the format numbered"),
    (
        "byte_level_bpe",
        {"thoughts": ["<candidate>", "</candidate>"]},
        "with thoughts=.* the answer of .* is",
    ),
]


@pytest.mark.parametrize(("name", "rules", "reason"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_is_not_found_is_refused_with_the_reason(name, rules, reason):
    with pytest.raises(NotFound, match=reason):
        try_conversation(make_tokenizer(name), "Hi", CandidateRules(**rules), 3, 99)
