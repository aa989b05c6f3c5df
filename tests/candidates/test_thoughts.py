"""Which part of a turn is its answer."""

import pytest

from shape_grpo.candidates import (
    FAMILIES,
    CandidateRules,
    Thoughts,
    find_candidates,
    find_in_text,
    parse_candidates,
)
from tests.candidates.plain_parsers import plain_answer
from tests.candidates.special_tokenizers import encode, tokenizer_with


def candidate(text):
    return f"<candidate>{text}</candidate>"


A, B, Z = map(candidate, "abz")


def texts(text, **options):
    """Texts of the candidates; one that is not closed carries a trailing ellipsis."""
    return [c.text + ("" if c.closed else "…") for c in parse_candidates(text, **options)]


CASES = [
    (A, ["a"], "no thought"),
    (f"<think>{Z}</think>{A}", ["a"], "a thought first"),
    (f"{Z}</think>{A}", ["a"], "a thought opened in a prompt that is not known"),
    (f"<think>{Z}</think>{Z}<think>{Z}</think>{A}", ["a"], "the answer follows the last thought"),
    (f"<think>{Z}<think>{Z}</think>{A}", ["a"], "opened twice, closed once"),
    (f"<think>{Z}</think>{Z}</think>{A}", ["a"], "closed twice"),
    (f"<think>{Z}", [], "never closed"),
    (f"<think>{Z}</thin", [], "half a closing mark"),
    (f"{A}<think>{Z}", ["a"], "an unclosed thought behind the answer"),
    (f"<think>{Z}</think>{A}<think>{Z}", ["a"], "a second one, unclosed"),
    (f"<think>{Z}</think >{Z}", [], "a mark with a space is none"),
    (f"<THINK>{A}</THINK>{B}", ["a", "b"], "a mark in capitals is none"),
    (f"\ufeff<think>\r\n{Z}\r\n</think>\r\n{A}", ["a"], "a byte order mark, and Windows line ends"),
    (f"<think>\u2028\0{Z}\ud800</think>{A}", ["a"], "odd characters in a thought"),
    # several families
    (f"<think>{Z}</reasoning>{Z}</think>{A}", ["a"], "another family's mark does not close"),
    (f"<reasoning>{Z}<think>{Z}</think>{Z}</reasoning>{A}", ["a"], "nor does one open inside"),
    (f"<think>{Z}</think><reasoning>{Z}</reasoning>{A}", ["a"], "two families, one by one"),
    (f"<think>{Z}</think>{A}<reasoning>{Z}", ["a"], "the second unclosed"),
    (f"{A}</reasoning>{B}", ["a", "b"], "some closing marks are text where nothing is open"),
    (f"{A}<|end_message|>{B}<|eom|>", ["a", "b"], "marks that end answers as well"),
    (f"<thought>{Z}</Thought></thought>{A}", ["a"], "families that differ in case"),
    (f"<seed:think><seed:cot_budget_reflect>{Z}</seed:think>{A}", ["a"], "of two marks"),
    (f"<think>{Z}</think>{A}</thought>{B}", ["a", "b"], "another family's mark is a word then"),
    (f"{Z}</thought>{A}</think>{B}", ["a", "b"], "the same without opening marks"),
    (f"<think>{Z}</think>{Z}</think>{A}</mm:think>", ["a"], "the same family's mark is none"),
    # ordinary words, which mark a thought at the start only
    (f"Here is my thought process: {Z} Here is my response: {A}", ["a"], "in words"),
    (f"Here's my thought process: {Z} Here's my response: {A}", ["a"], "shortened"),
    (f"Here is my thought process: {Z} Here's my response: {A}", ["a"], "in both spellings"),
    (f" \nHere is my thought process: {Z} Here is my response: {A}", ["a"], "after white space"),
    (f"Here is my thought process: {Z}", [], "in words, unclosed"),
    (f"{A} Here is my thought process: {B}", ["a", "b"], "the same words later"),
    (f"Well. Here is my thought process: {A} Here is my response: {B}", ["a", "b"], "not first"),
    (f"Here are my reasoning steps: {Z} [BEGIN FINAL RESPONSE] {A}", ["a"], "Apriel"),
    (
        f"<think>{Z}</think>Here is my thought process: {A}",
        ["a"],
        "the same words at the start of an answer, which is not the turn's",
    ),
    # harmony
    (f"<|channel|>final<|message|>{A}<|return|>", ["a"], "harmony, final alone"),
    (f"<|channel|>analysis<|message|>{Z}<|end|>", [], "harmony without final"),
    (
        f"<|channel|>final<|message|>{Z}<|end|><|start|>assistant<|channel|>final<|message|>{A}",
        ["a"],
        "harmony with two final messages",
    ),
    (
        f"<|channel|>final<|message|>{A}<|end|><|start|>assistant<|channel|>fin",
        ["a"],
        "harmony with a second header that is cut",
    ),
    (
        f"<|channel|>final<|message|>{A}<|end|><|start|>assistant<|channel|>analysis<|message|>{Z}",
        ["a"],
        "harmony with a thought behind the answer",
    ),
    (f"<|channel|>finally<|message|>{Z}", [], "harmony with an unknown channel"),
    (
        f"{Z}<|end|><|start|>assistant<|channel|>final<|message|>{A}",
        ["a"],
        "harmony whose prompt opened the analysis, and is not known",
    ),
    (
        f"<|channel|>commentary to=functions.f <|constrain|>json<|message|>{Z}<|call|>",
        [],
        "harmony with a tool call",
    ),
    (f"{A} <|channel|> is a mark. {B}", ["a", "b"], "a mark of harmony in an answer"),
    (f"<think>What is <|channel|>?{Z}</think>{A}", ["a"], "or in a thought of another family"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), CASES, ids=[case[2] for case in CASES])
def test_thoughts_of_known_models(text, expected, reason):
    assert texts(text) == expected
    begin, end = Thoughts().answer(text)
    assert (begin, end) == plain_answer(text)


@pytest.mark.parametrize("family", sorted({family.open for family in FAMILIES}))
def test_every_family_hides_its_thoughts(family):
    closing = [each.close for each in FAMILIES if each.open == family]
    for close in closing:
        assert texts(f"{family}{Z}{close}{A}") == ["a"]
        assert texts(f"{family}{Z}{close[:-1]}") == []
        assert texts(f"{Z}{close}{A}", prompt=f"user\nWhy?\nassistant\n{family}\n") == ["a"]
        assert texts(Z, prompt=f"user\nWhy?\nassistant\n{family}") == []
    assert texts(f"{family}{A}{closing[0]}{B}", thoughts="none") == ["a", "b"]


def test_what_a_thought_hides_is_no_candidate_of_any_format():
    answers = {
        "numbered": ("1. z\n2. y", "\n1. a\n2. b"),
        "json": ('["z"]', '["a", "b"]'),
        "fenced": ("```\nz\n```", "\n```\na\n```\n```\nb\n```"),
        "lines": ("z", "a\nb"),
    }
    for format, (thought, answer) in answers.items():
        assert texts(f"<think>\n{thought}\n</think>{answer}", format=format) == ["a", "b"]
        assert texts(f"<think>\n{thought}", format=format) == []
    # A code block that a thought leaves open does not reach into the answer.
    text = "<think>\n```\nz\n</think>\n```\na\n```"
    assert texts(text, format="fenced") == ["a"]


def test_the_end_of_a_thought_may_lie_within_a_candidate():
    assert texts(f"<think><candidate>a</think>b</candidate>{A}") == ["a"]
    assert texts(f"{A}<candidate>b<think>c</candidate>") == ["a", "b…"]


# --- the setting ---


@pytest.mark.parametrize("pair", [["<hm>", "</hm>"], ("hm.", "so."), ["[", "]]"], ["\n\n", "---"]])
def test_a_pair_of_marks(pair):
    opening, closing = pair
    assert texts(f"{opening}{Z}{closing}{A}", thoughts=pair) == ["a"]
    assert texts(f"{Z}{closing}{A}", thoughts=pair) == ["a"]
    assert texts(f"{A}{opening}{Z}", thoughts=pair) == ["a"]
    at_end = texts(Z, thoughts=pair, prompt=f"? {opening}")
    assert at_end == ([] if opening.strip() else ["z"])
    # Known marks are text then, harmony's included.
    assert texts(f"<think>{A}</think><|channel|>{B}", thoughts=pair) == ["a", "b"]


@pytest.mark.parametrize("setting", ["none", None])
def test_no_thoughts(setting):
    text = f"<think>{A}</think><|channel|>analysis<|message|>{B}"
    assert texts(text, thoughts=setting, prompt="<think>") == ["a", "b"]


@pytest.mark.parametrize(
    "setting",
    ["all", True, 3, "ab", [], ["<a>"], ["<a>", "<a>"], ["<a>", ""], ["a", "b", "c"], ["a", 1]],
)
def test_other_settings_are_refused(setting):
    with pytest.raises(ValueError, match=r"thoughts=.*write auto .*none .*two different marks"):
        parse_candidates("", thoughts=setting)
    with pytest.raises(ValueError, match="thoughts="):
        CandidateRules(thoughts=setting)


# --- prompts ---

PROMPTS = [
    ("", ["a"], "no prompt"),
    ("user: hi", ["a"], "no mark"),
    ("assistant\n<think>", [], "a mark at the end"),
    ("assistant\n<think>\n", [], "and a line break"),
    ("assistant\n<think>\n\n</think>\n\n", ["a"], "an empty thought"),
    ("What is <think>?\nassistant\n", ["a"], "a mark in the user's message"),
    ("Think between <think> and </think>.\nassistant\n<think>\n", [], "both"),
    ("Here is my thought process:", [], "words"),
    ("<seed:think><seed:cot_budget_reflect>", [], "of two marks"),
    ("<|start|>user<|message|>hi<|end|><|start|>assistant", ["a"], "harmony"),
    ("<|start|>assistant<|channel|>analysis<|message|>", [], "harmony within the analysis"),
    ("<|start|>assistant<|channel|>final<|message|>", ["a"], "harmony within the answer"),
    ("What is <|start|>? And <think>?\nassistant\n", ["a"], "a mark of harmony, quoted"),
    ("What is <|start|>user<|channel|>x?\nassistant\n", ["a"], "and half a header"),
    ("<", ["a"], "shorter than a mark"),
]


@pytest.mark.parametrize(("prompt", "expected", "reason"), PROMPTS, ids=[c[2] for c in PROMPTS])
def test_a_prompt_that_opens_a_thought(prompt, expected, reason):
    assert texts(A, prompt=prompt) == expected
    found = find_in_text(A, CandidateRules(), cut=False, prompt=prompt)
    assert found.texts == expected
    if not expected and "channel" not in prompt:
        for close in ("</think>", "</seed:think>", "Here is my response:"):
            if texts(f"{Z}{close}{A}", prompt=prompt) == ["a"]:
                return
        raise AssertionError("no mark closes it")


CHATML = ("<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")
HARMONY = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")
USER = "<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n"
PROMPT_IDS = [
    (CHATML, USER, ["a"], "marks in the user's message"),
    (CHATML, USER + "<think>\n", [], "a thought that the template opens"),
    (CHATML, USER + "<think>\nOkay", [], "with words of the thought"),
    (CHATML, USER + "<think>\n\n</think>\n\n", ["a"], "an empty thought"),
    ((*CHATML, *THINK), USER, ["a"], "marks that are special tokens"),
    ((*CHATML, *THINK), USER + "<think>\n", [], "opened by a special token"),
    ((*CHATML, *THINK), USER + "<think>\nOkay", [], "with words of the thought"),
    ((*CHATML, *THINK), USER + "<think>\n\n</think>\n", ["a"], "an empty one of special tokens"),
    (THINK, "What is <think>?", ["a"], "a special token, but no turn"),
    (THINK, "What is it?<think>", [], "at the end of a prompt without turns"),
    ((), "", ["a"], "an empty prompt"),
    ((), "<", ["a"], "shorter than a mark"),
    ((), "<s><s><pad><pad>", ["a"], "tokens of sequences alone"),
    (CHATML, "<|im_end|><|im_end|>", ["a"], "special tokens alone"),
    ((), "<s>USER: hi</s>USER: What is <think>? ASSISTANT:", ["a"], "turns that begin with words"),
    ((), "<s>USER: hi</s>USER: Why? ASSISTANT: <think>", [], "and a mark at the end"),
    (("<img>",), "USER: <img> what is <think>? ASSISTANT:", ["a"], "an image opens no turn"),
    (("<img>",), "USER: <img> what is it? ASSISTANT: <think>\n", [], "but the prompt ends so"),
    (HARMONY, "<|start|>user<|message|>hi<|end|><|start|>assistant", ["a"], "harmony"),
    (
        HARMONY,
        "<|start|>user<|message|>hi<|end|><|start|>assistant<|channel|>analysis<|message|>",
        [],
        "harmony within the analysis",
    ),
    (CHATML, "<think>" + "a " * 300 + USER, ["a"], "a long prompt"),
]


@pytest.mark.parametrize(
    ("special", "prompt", "expected", "reason"), PROMPT_IDS, ids=[c[3] for c in PROMPT_IDS]
)
def test_prompt_ids_that_open_a_thought(special, prompt, expected, reason):
    tokenizer = tokenizer_with(*special)
    ids, prompt_ids = encode(tokenizer, A), encode(tokenizer, prompt)
    found = find_candidates(tokenizer, ids, CandidateRules(), cut=False, prompt_ids=prompt_ids)
    assert found.texts == expected
    everything = CandidateRules(thoughts="none")
    found = find_candidates(tokenizer, ids, everything, cut=False, prompt_ids=prompt_ids)
    assert found.texts == ["a"]


@pytest.mark.parametrize("special", [(), THINK], ids=["text", "special tokens"])
def test_marks_as_text_and_as_special_tokens(special):
    tokenizer = tokenizer_with(*special)
    ids = encode(tokenizer, f"<think>{Z}</think>{A}")
    found = find_candidates(tokenizer, ids, CandidateRules(), cut=False)
    assert found.texts == ["a"]
    assert [tokenizer.decode(ids[start:end]) for start, end in found.spans] == ["a"]


def test_one_turn_of_several_opens_its_own_thought():
    """After a tool's result the template may open a thought, as the prompt did."""
    tokenizer = tokenizer_with(*CHATML)
    first = encode(tokenizer, f"{Z}</think>{A}<|im_end|>")
    tool = encode(tokenizer, "\n<|im_start|>tool\n<think><|im_end|>\n<|im_start|>assistant\n")
    opening = encode(tokenizer, "<think>\n")
    last = encode(tokenizer, f"{candidate('y')}</think>{B}<|im_end|>")
    prompt_ids = encode(tokenizer, USER + "<think>\n")
    for between, expected in (
        (tool, {"all": ["a", "b"], "last": ["b"]}),
        (tool + opening, {"all": ["a", "b"], "last": ["b"]}),
    ):
        ids = first + between + last
        turns = [(0, len(first)), (len(first) + len(between), len(ids))]
        for kind, texts_ in expected.items():
            rules = CandidateRules(turns=kind)
            found = find_candidates(
                tokenizer, ids, rules, cut=False, prompt_ids=prompt_ids, turns=turns
            )
            assert found.texts == texts_
            assert [tokenizer.decode(ids[start:end]) for start, end in found.spans] == texts_
    # The last turn cut within its thought: nothing of it counts.
    ids = first + tool + opening + encode(tokenizer, Z)
    turns = [(0, len(first)), (len(first) + len(tool + opening), len(ids))]
    rules = CandidateRules(turns="all")
    found = find_candidates(tokenizer, ids, rules, cut=True, prompt_ids=prompt_ids, turns=turns)
    assert found.texts == ["a"]


def test_a_mark_that_ends_in_white_space_is_seen_at_the_end_of_a_prompt():
    rules = {"thoughts": ["Reasoning: ", "Answer: "]}
    for prompt in ("USER: why? ASSISTANT: Reasoning: ", "Reasoning:"):
        assert texts(f"{Z} Answer: {A}", prompt=prompt, **rules) == ["a"]
        assert texts(Z, prompt=prompt, **rules) == []


def test_a_token_that_begins_sequences_may_begin_turns():
    """SmolLM2's bos is <|im_start|>."""
    tokenizer = tokenizer_with(*CHATML)
    tokenizer.bos_token, tokenizer.eos_token = CHATML
    for prompt, expected in ((USER, ["a"]), (USER + "<think>\nOkay", [])):
        ids = encode(tokenizer, prompt)
        found = find_candidates(
            tokenizer, encode(tokenizer, A), CandidateRules(), cut=False, prompt_ids=ids
        )
        assert found.texts == expected


@pytest.mark.parametrize("which", ["last", "all"])
@pytest.mark.parametrize(
    ("parts", "expected", "reason"),
    [
        (("<thinking> search", "result", f"{Z}</thinking>{A}"), ["a"], "it goes on"),
        (("<thinking> search", "result", Z), [], "and is cut off"),
        (("<thinking> </thinking> search", "result", A), ["a"], "it was closed"),
        (("search", "what is <thinking>? yes", A), ["a"], "a tool's words open none"),
        (("<thinking> a", "<|im_start|>assistant\n", A), ["a"], "a new turn begins without one"),
    ],
)
def test_a_thought_goes_on_after_a_tools_result(which, parts, expected, reason):
    tokenizer = tokenizer_with(*CHATML)
    first, tool, second = (encode(tokenizer, part) for part in parts)
    at = len(first) + len(tool)
    found = find_candidates(
        tokenizer,
        [*first, *tool, *second],
        CandidateRules(turns=which),
        cut=False,
        prompt_ids=encode(tokenizer, USER),
        turns=[(0, len(first)), (at, at + len(second))],
    )
    assert found.texts == expected
