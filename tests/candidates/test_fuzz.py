"""Garbage as models write it: 200,000 responses, and the cases worth keeping."""

import json
import random
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
from tokenizers import AddedToken

from shape_grpo.candidates import (
    FAMILIES,
    FORMATS,
    CandidateRules,
    find_candidates,
    parse_candidates,
    token_spans,
)
from shape_grpo.candidates.spans import DecodedTokens
from tests.candidates.plain_parsers import (
    PARSERS,
    after_byte_order_marks,
    json_array,
    left_open,
    plain_answer,
    plain_parse,
    read,
)
from tests.candidates.sample_tokenizers import (
    BYTE_TOKENS,
    KINDS,
    SPECIAL,
    TAGS,
    CodePoints,
    make_tokenizer,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*text is not the sum of its tokens:UserWarning")

RESPONSES = {
    "byte_level_bpe": 50_000,
    "byte_level_bpe_with_tag_tokens": 42_000,
    "metaspace_bpe_with_byte_fallback": 40_000,
    "unigram_with_byte_fallback": 40_000,
    "unigram_without_byte_fallback": 10_000,
    "word_piece": 6_000,
    "word_piece_with_cleanup": 3_000,
    "word_end_bpe": 1_000,
    "code_points": 8_000,
}
"""How many of each tokenizer; few where text is not the sum of its tokens, which is slow."""

OPTIONS = {
    "xml": ("xml", {}),
    "film": ("xml", {"tag": "film", "attributes": True, "numbered": True, "unescape": True}),
    "numbered": ("numbered", {}),
    "lines": ("lines", {}),
    "marked": ("lines", {"marker": "- "}),
    "fenced": ("fenced", {}),
    "python": ("fenced", {"language": ["python", "py"]}),
    "json": ("json", {}),
    "keyed": ("json", {"key": "text"}),
    "regex": ("regex", {"pattern": "(?m)^- (.+)$", "example": "- {candidate}\n"}),
    "function": ("function", {}),
    "whole": ("whole", {}),
}
"""Every format, and most of its options. A function's path is that of a temporary file."""

CODE = [
    *["```\n", "\n```\n", "\n```", "```python\n", "```py\n", "```PY x\n", "\n  ```\n", "\n"] * 2,
    *["~~~\n", "\n~~~\n", "````\n", "\n````\n", "``", "`", "\n- ```\n", "\n1. ```\n", "``` `\n"],
    *["    x\n", "  y", "\n\n", "\n\t", "```\r\n", "\r\n", "\n \n", "~~~~`\n", "1.", "-", "- "],
]
LISTED = ["\n- ", "\n- ", "\n  - ", "\n", "- ", "-", "\n-\t", "\n* ", "\r\n- ", "\n- \n"]
QUOTED = [
    *['["', '", "', '"]', '["good", "film"]', "[", "]", '"', ", ", "\\", '\\"', "\\n"],
    *["\\ud83d", "\\ude00", "\\u00e9", "\\u", '"a"', "1", "null", "(", "[[", "]]", "{", "}", ": "],
]
ITEMS = ['{"text": "', '"}, ', '"text": ', '"n": 1, ', '[{"text": "good"}, {"text": "film"}]']
FRAGMENTS = {
    "xml": [
        *["<candidate>", "</candidate>"] * 4,
        *["<candidate>good film</candidate>", "<candidate>\n", " </candidate>\n"],
        *["<cand", "idate>", "</", "</candidate", "<", ">", "<candidate/>", "<Candidate>"],
        *["<candidate >", '<candidate id="1">', "</ candidate>", "<candidates>", "&lt;candidate>"],
        *["<|candidate|>", "<<candidate>>", "<candidate><candidate>", "</candidate></candidate>"],
        *["story</candidate><candidate>film", "</candidate><candidate>", "good</candidate>"],
    ],
    "film": [
        *["<film>", "</film>", "<film1>", "</film1>", '<film id="1">', "<film12 a\n>"] * 2,
        *["<film", "</film", "</film2", ">", "<", "</film a>", "<films>", "<film >", "<film\t/>"],
        *["&amp;", "&lt;", "&#65;", "&", "&amp", "&nbsp;", ";", "1", "<filmX>", "</film>1"],
    ],
    "numbered": [
        *["\n1. ", "\n2. ", "\n3. ", "\n"] * 4,
        *["1. ", "1)", "2) ", "\n4.", "\n01. ", "\n0. ", "\n1.5", "\n1.\n", "\n2.\t", "\n2.\n\n"],
        *["\n 1. ", "\n  2. ", "\n   3. ", "\n    1. ", "\n\n", "\n \n", "\n\n  ", "\r\n", "\r"],
        *["\n1) ", "\n2) ", "\n\u0661. ", "\n- ", "\n**1.** ", "\n1234567890. ", "\n12. "],
        *["\n1.\u00a0", "\n 2.\u3000", "story\n2. film", "story\n3. film"],
        *["\n-1. ", "\n1 . ", "\n#1. ", "\n1: ", "\n(1) ", "\n1.2. ", "\x0b1. ", "\u20281. "],
        *["```\n", "\n```\n", "\n```", "~~~\n1. "],
    ],
    "lines": [*["\n"] * 8, *LISTED, "```\n", "\n```", "\n```\n", "\r\n", "\n\n", "\x0b", "\u2028"],
    "marked": [*LISTED * 2, "```\n", "\n```\n", "\n- ```\n", "\u2028- ", "\n\u3000- "],
    "fenced": CODE,
    "python": CODE,
    "json": QUOTED,
    "keyed": [*QUOTED, *ITEMS * 3],
    "regex": LISTED * 2,
    "function": LISTED * 2,
    "whole": LISTED,
}
SHARED = ["story</candidate><candidate>film", "story\n2. film", "story\n3. film"]
"""Tokens of one of the tokenizers, each with text of two candidates."""
ANYWHERE = [
    *["a", "good", " film", "the story", " ", "\n", "\t", "  ", ".", "电影", "naïve", "😀"],
    *["👩\u200d👩\u200d👧", "e\u0301", "\0", "\x1c", "\x85", "\u3000", "\u2028"],
    *["\ufeff", "\ufffd", "İ", "ﬁ"],
    *["<think>", "</think>", "<think></think>", "</think>\n", "</thi", "<0x0A>", "##", "▁", "</w>"],
    *["</s>", "<pad>", "{}", "\\", '"', "'s", " ,", "\U0010ffff", "\u202e"],
]
TURNS = ("<|im_start|>", "<|im_end|>", "<|image|>", "<|start|>", "<|end|>")
"""Special tokens that are part of no mark: a turn begins with the last of them in a prompt."""
HARMONY = ("<|channel|>", "<|message|>")
MARKS = (*HARMONY, "[THINK]", "[/THINK]", "<|END_THINKING|>")
"""Special tokens that are marks of thoughts, or part of such."""
THOUGHTS = [
    *(string for family in FAMILIES for string in (family.open, family.close)),
    *[
        "<|channel|>final<|message|>",
        "<|channel|>analysis<|message|>",
        "<|start|>assistant",
        "final",
    ],
    *["<|end|>", "<|return|>", "<|channel|>", "<|constrain|>json<|message|>", " <|message|>"],
    *[mark for mark in (*TURNS, *MARKS) for _ in range(3)],
]
PAIR = ("<think>", "</reasoning>")


class Responses:
    """Ids of random fragments and of tokens that no text encodes to."""

    def __init__(self, name, tokenizer, rng):
        self.rng, self.tokenizer = rng, tokenizer
        self.good, self.bracket = (
            tokenizer.encode(text, add_special_tokens=False) for text in ("good", "]")
        )
        texts = {*chain(*FRAGMENTS.values()), *ANYWHERE, *THOUGHTS, "assistant\n"}
        encoded = {text: tokenizer.encode(text, add_special_tokens=False) for text in sorted(texts)}
        anywhere = [encoded[fragment] for fragment in ANYWHERE]
        beyond = [[len(tokenizer)], [len(tokenizer) + 1000]]
        if name == "code_points":
            odd = [[rng.randrange(0xD800, 0xE000)] for _ in range(20)]
        else:
            tokens = tokenizer.get_vocab()
            known = [[tokens[token]] for token in (*BYTE_TOKENS, *SPECIAL) if token in tokens]
            odd = known[-4:] * 3 + rng.choices(known, k=20) + [[n] for n in range(0, 400, 20)]
        odd += [encoded[token] for token in TURNS[:3]]
        self.fragments = {
            format: [encoded[fragment] for fragment in own] * 2 + anywhere + odd + beyond
            for format, own in FRAGMENTS.items()
        }
        self.thoughts = [encoded[fragment] for fragment in THOUGHTS]
        self.prompts = self.thoughts + anywhere + [encoded["assistant\n"], encoded["<think>"]] * 9
        around = {
            "xml": [("<candidate>", "</candidate>")] * 24,
            "film": [("<film1>", "</film1>"), ("<film a=1>", "</film>")] * 12,
            "numbered": [(f"\n{n}. ", "") for n in range(1, 25)],
            "lines": [("\n", "")] * 24,
            "fenced": [("\n```\n", "\n```")] * 24,
            "python": [("\n```py\n", "\n```"), ("\n~~~Python\n", "\n~~~")] * 12,
            "json": [('["', '"'), *[(', "', '"')] * 22, (', "', '"]')],
            "keyed": [('[{"text": "', '"}'), *[(', {"text": "', '"}')] * 22, ("1, 2", "]")],
        }
        around["whole"] = [("", "")] * 24
        for format in ("marked", "regex", "function"):
            around[format] = [("\n- ", "")] * 24
        self.around = {
            format: [
                [tokenizer.encode(text, add_special_tokens=False) for text in pair]
                for pair in pairs
            ]
            for format, pairs in around.items()
        }

    def can_write(self, format):
        """Whether the tokenizer has what this format needs: brackets, line breaks, ..."""
        opening, closing = self.around[format][0]
        turn = Turn(self.tokenizer, [*opening, *self.good, *closing, *self.bracket])
        return bool(turn.candidates(format, "", "none", False, None))

    def draw(self, format):
        parts = self.rng.choices(self.fragments[format], k=self.rng.randrange(1, 25))
        form = self.rng.random()
        if form < 0.3:
            wrapped = zip(self.around[format], parts, strict=False)
            parts = [opening + part + closing for (opening, closing), part in wrapped]
            if format in ("json", "keyed"):
                parts.append(self.bracket)
        elif form < 0.4:
            parts *= self.rng.randrange(2, 6)
        if self.rng.random() < 0.3:
            for thought in self.rng.choices(self.thoughts, k=self.rng.randrange(1, 6)):
                parts.insert(self.rng.randrange(len(parts) + 1), thought)
        return list(chain.from_iterable(parts))

    def draw_prompt(self):
        if self.rng.random() < 0.5:
            return []
        return list(chain(*self.rng.choices(self.prompts, k=self.rng.randrange(6))))

    def draw_turns(self, length):
        """None, or runs of tokens in order; some empty, some touching, perhaps none."""
        if self.rng.random() < 0.6:
            return None
        places = [self.rng.randrange(length + 1) for _ in range(2 * self.rng.randrange(4))]
        places = sorted(places)
        if places and self.rng.random() < 0.5:
            places[-1] = length
        return list(zip(places[::2], places[1::2], strict=True))


class Silent:
    """Which tokens add no text, by decoding each behind a word."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.word = tokenizer.encode("good", add_special_tokens=False)
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        self.outer = {getattr(tokenizer, name, None) for name in names}
        self.is_silent = cache(self._is_silent)

    def _is_silent(self, token_id):
        return self._plain([*self.word, token_id]) == self._plain(self.word)

    def _plain(self, ids, skip=True):
        return self.tokenizer.decode(
            ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
        )

    def marks(self, thoughts):
        if thoughts != "auto":
            return PAIR
        return [mark for family in FAMILIES for mark in (family.open, family.close)]

    def turn_start(self, ids, thoughts, opened):
        """What of these ids belongs to the turn that follows."""
        if thoughts == "none":
            return ""
        ids = ids[-4096:]
        for number, token_id in reversed(list(enumerate(ids))):
            written = self._plain([token_id], skip=False)
            is_mark = written in ((*MARKS, *TAGS[2:]) if thoughts == "auto" else (*HARMONY, *PAIR))
            if self.is_silent(token_id) and written and not is_mark:
                role = self._plain(ids[number + 1 :], skip=False)
                places = [role.find(m) for m in self.marks(thoughts) if m in role]
                before = role[: min(places)] if places else role
                words = len(before.split())
                if token_id in self.outer:
                    is_turn = words <= 1 and before[-1:] in ("", "\n")
                else:
                    is_turn = not places or words <= 1
                if is_turn:
                    return self._plain(ids[number:], skip=False)
                break
        if opened:
            return opened
        text = self._plain(ids, skip=False)
        message = text.split("<|start|>")[-1]
        if thoughts == "auto" and "<|start|>" in text and message.startswith("assistant"):
            return "<|start|>" + message
        opening = {family.open for family in FAMILIES} if thoughts == "auto" else {PAIR[0]}
        return max((mark for mark in opening if text.rstrip().endswith(mark)), key=len, default="")


class Turn:
    """The text of a turn, and which of its characters are special tokens."""

    def __init__(self, tokenizer, ids):
        decoded = DecodedTokens(tokenizer, ids).text
        self.text = decoded.text
        self.special = [tuple(place) for place in decoded.special]
        self.hidden = {n for start, end in self.special for n in range(start, end)}

    def plain(self, start, end):
        if not self.hidden:
            return self.text[start:end]
        return "".join(self.text[n] for n in range(start, end) if n not in self.hidden)

    def end_of_words(self, end, tags):
        """Where the special tokens begin that end the text up to there."""
        for first, stop in reversed(self.special):
            if stop <= end:
                if self.text[stop:end].strip() or self.text[first:stop] in tags:
                    break
                end = first
        return end

    def candidates(self, name, prompt, thoughts, cut, tags):
        """(text, is closed) of each; None where there is nothing to compare with."""
        begin, stop = plain_answer(self.text, prompt, thoughts)
        cut = cut and stop == len(self.text)
        if tags is not None:
            stop = max(begin, self.end_of_words(stop, tags))
        begin = after_byte_order_marks(self.text, begin, stop)
        answer = self.text[begin:stop]
        if name in PARSERS:
            return [
                (read(name, self.plain(begin + start, begin + end), closed), closed)
                for start, end, closed in PARSERS[name](answer, cut)
            ]
        if any(begin <= place < stop for place in self.hidden):
            return None
        found = json_array(answer, {"keyed": "text"}.get(name))
        return None if found is None else [(text, True) for text in found]


def assert_covered(tokenizer, ids, written, start, end, free):
    """All of a candidate is in its tokens, and no token but the outer two has anything else.

    Its first token may be the last of the candidate before it.
    """
    is_next = free > 0 and not plain_text(tokenizer, ids[free:start])
    alone = plain_text(tokenizer, ids[free - 1 if is_next else start : end])
    if "\ufffd" in written + alone:
        return  # half a character decodes differently alone; test_spans.py follows its bytes
    assert written in alone
    inner = plain_text(tokenizer, ids[start + 1 : end - 1])
    assert inner.removeprefix("##").strip("\ufffd ").strip() in written


def plain_text(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.fixture(scope="module")
def rules_of(tmp_path_factory):
    """rules_of(name, thoughts, turns) -> rules under which every candidate is scored."""
    file = tmp_path_factory.mktemp("format") / "bullets.py"
    file.write_text(
        "import re\n"
        "BULLET = re.compile('(?m)^- (.+)$')\n"
        "def find_candidates(answer):\n"
        "    for match in BULLET.finditer(answer):\n"
        "        yield match.span(1)\n"
    )

    @cache
    def make(name, thoughts, turns):
        format, options = OPTIONS[name]
        if format == "function":
            options = {"path": str(file)}
        everything = dict.fromkeys(("truncated", "empty", "duplicate", "surplus"), "score")
        return CandidateRules(
            format, dict(options), thoughts, turns, max_candidates=None, **everything
        )

    return make


def test_every_format_is_fuzzed():
    assert {format for format, _ in OPTIONS.values()} == set(FORMATS)
    assert OPTIONS.keys() == FRAGMENTS.keys() == PARSERS.keys() | {"json", "keyed"}


@pytest.mark.parametrize("name", RESPONSES)
def test_garbage_is_parsed_and_located(name, rules_of):
    rng = random.Random(f"{name} 0")
    tokenizer = CodePoints() if name == "code_points" else KINDS[name]()
    if name == "byte_level_bpe_with_tag_tokens":
        tokenizer.add_tokens(SHARED)
    if name != "code_points":
        special = [*TURNS, *MARKS]
        if name == "metaspace_bpe_with_byte_fallback":
            special += TAGS
        added = [AddedToken(token, normalized=False, special=True) for token in special]
        tokenizer.add_tokens(added, special_tokens=True)
    responses, silent = Responses(name, tokenizer, rng), Silent(tokenizer)
    seen = dict.fromkeys(["whole", "cut", "empty", "several", "special"], 0)
    if name == "code_points":
        del seen["special"]  # it has none
    compared = dict.fromkeys(filter(responses.can_write, OPTIONS), 0)
    for number in range(RESPONSES[name]):
        format = rng.choice(list(OPTIONS))
        ids, prompt = responses.draw(format), responses.draw_prompt()
        cut, thoughts = rng.random() < 0.3, rng.choice(["auto", "auto", "none", PAIR])
        turns, which = responses.draw_turns(len(ids)), rng.choice(["last", "all"])
        if format in ("json", "keyed"):  # not always compared, and then one turn says whose each is
            which = "last"
        rules = rules_of(format, thoughts, which)
        arguments = {"cut": cut, "prompt_ids": prompt, "turns": turns}
        found = find_candidates(tokenizer, ids, rules, **arguments)
        if number % 20 == 0:
            assert find_candidates(tokenizer, ids, rules, **arguments) == found
        assert found.texts == [c.text for c in found.candidates]
        assert len(found.spans) == len(found.candidates) == len(found.checked)
        left = list(zip(found.candidates, found.spans, strict=True))
        written = [(0, len(ids))] if turns is None else turns
        opened = ""
        for step, (first, last) in enumerate(written):
            turn = Turn(tokenizer, ids[first:last])
            between = ids[written[step - 1][1] if step else 0 : first] if first else prompt
            opening = silent.turn_start(between, thoughts, opened)
            opened = left_open(turn.text, opening, thoughts)
            if which == "last" and step < len(written) - 1:
                continue
            expected = turn.candidates(
                format,
                opening,
                thoughts,
                cut and last == len(ids),
                rules.answer_format.tags(),
            )
            begin, stop = plain_answer(turn.text, opening, thoughts)
            place, free, own = begin, first, []
            # Candidates of a turn are in its answer, and their tokens in its tokens.
            about = format, thoughts, ascii(opening), ascii(turn.text)
            assert expected is None or len(left) >= len(expected), about
            for _ in range(len(left) if expected is None else len(expected)):
                candidate, (start, end) = left.pop(0)
                own.append((candidate.text, candidate.closed))
                assert place <= candidate.start <= candidate.end <= stop
                assert free <= start <= end <= last
                raw = turn.plain(candidate.start, candidate.end).strip()
                assert (start == end) >= (not raw)
                if raw and start < end:
                    assert_covered(tokenizer, ids, raw, start, end, free if free > first else 0)
                    token = tokenizer.convert_ids_to_tokens(ids[start])
                    assert token not in (None, *SPECIAL, *TURNS, *MARKS)
                for special in (*TURNS, *MARKS):
                    assert special not in candidate.text or special in raw
                place, free = candidate.end, end
                seen["whole" if candidate.closed else "cut"] += 1
                seen["empty"] += not candidate.text
                if turn.hidden and not turn.hidden.isdisjoint(
                    range(candidate.start, candidate.end)
                ):
                    seen["special"] += 1
            if expected is not None:
                assert own == expected, about
                if format in compared:
                    compared[format] += bool(expected)
            seen["several"] += len(own) > 1
        assert not left, about
    assert min(seen.values()) > RESPONSES[name] / 200, seen
    assert min(compared.values()) > RESPONSES[name] / 300, compared


# --- cases that were found, or that break a parser written in haste ---


def corpus(name):
    cases = json.loads(Path(__file__).with_name("corpus").joinpath(f"{name}.json").read_text())
    return [pytest.param(case, id=case["why"]) for case in cases]


@pytest.mark.parametrize("case", corpus("texts"))
def test_text_of_the_corpus(case):
    """As of a response that its length limit cut."""
    found = parse_candidates(case["text"], format=case["format"], truncated=True)
    assert [[c.text, c.closed] for c in found] == case["candidates"]
    plain = plain_parse(case["text"], case["format"], cut=True)
    assert list(map(list, plain)) == case["candidates"]
    ids = CodePoints().encode(case["text"])
    assert token_spans(CodePoints(), ids, found) == [(c.start, c.end) for c in found]


@pytest.mark.parametrize("case", corpus("tokens"))
def test_tokens_of_the_corpus(case):
    """A token of the name null is an id beyond the tokenizer."""
    tokenizer = make_tokenizer(case["tokenizer"])
    known = tokenizer.get_vocab() | {None: len(tokenizer) + 7}
    ids = [known[token] for token in case["tokens"]]
    found = find_candidates(tokenizer, ids, CandidateRules(empty="score"), cut=False)
    assert found.texts == case["candidates"]
    assert found.spans == list(map(tuple, case["spans"]))
