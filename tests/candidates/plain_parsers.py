"""Parsers that share nothing with the package's but its table of marks.

They go through a text by characters, by lines, or from tag to tag. Each yields the offsets
(start, end) of what a candidate is written in, white space around it included, and whether it is
closed.
"""

import json
import re
from collections import defaultdict
from html import unescape
from itertools import pairwise

from shape_grpo.candidates import FAMILIES

# --- xml ---


def tagged(answer, cut):
    """Without options: the pieces between opening tags."""
    at, pieces = 0, answer.split("<candidate>")
    for number, piece in enumerate(pieces):
        text, closing, _ = piece.partition("</candidate>")
        if number == 0:
            pass
        elif closing:
            yield at, at + len(text), True
        elif number == len(pieces) - 1:
            before, bracket, rest = text.rpartition("<")
            is_half = bracket and "</candidate>".startswith(bracket + rest)
            yield at, at + len(before if is_half else text), False
        at += len(piece) + len("<candidate>")


def tagged_with_options(answer, tag):
    """With attributes and numbers: from bracket to bracket."""
    start = None
    brackets = [n for n, character in enumerate(answer) if character in "<>"]
    for left, right in pairwise(brackets):
        if answer[left] + answer[right] != "<>":
            continue
        inside = answer[left + 1 : right]
        if inside[:1] == "/":
            if start is not None and is_tag(inside[1:], tag):
                yield start, left, True
                start = None
        elif is_tag(re.split(r"\s", inside)[0], tag):
            start = right + 1
    if start is not None:
        left = answer.rfind("<", start)
        half = answer[left:] if left >= 0 else ""
        whole = f"</{tag}"
        is_half = half and (whole.startswith(half) or (half[:2] == "</" and is_tag(half[2:], tag)))
        yield start, left if is_half else len(answer), False


def is_tag(name, tag):
    return name[: len(tag)] == tag and all(digit in "0123456789" for digit in name[len(tag) :])


# --- lines and code blocks ---


def lines_of(text):
    """(start, line) of each line."""
    at = 0
    for line in text.split("\n"):
        yield at, line
        at += len(line) + 1


def run_of(text, characters):
    return text[: len(text) - len(text.lstrip(characters))]


def fence_of(line):
    """(has a bullet, marks, info) of a line that has a fence; None of another one."""
    body = line.lstrip()
    digits = run_of(body, "0123456789")
    bullet = 1 if body[:1] in tuple("-*+") else 0
    if 1 <= len(digits) <= 9 and body[len(digits) :][:1] in tuple(".)"):
        bullet = len(digits) + 1
    if bullet and body[bullet:][:1].isspace():
        body = body[bullet:].lstrip()
    else:
        bullet = 0
    marks = run_of(body, "`") if body[:1] == "`" else run_of(body, "~")
    return (bool(bullet), marks, body[len(marks) :].strip()) if len(marks) >= 3 else None


def blocks_of(text):
    """(opening line, first line of the content, its end, last line, language, is closed)."""
    lines = text.split("\n")
    opening = None
    for number, line in enumerate(lines):
        fence = fence_of(line)
        if fence is None:
            continue
        bullet, marks, info = fence
        if opening is None:
            if marks[0] == "~" or "`" not in info:
                opening = number, marks, (info.split() or [""])[0]
        elif marks.startswith(opening[1]) and not info and not bullet:
            yield opening[0], opening[0] + 1, number, number, opening[2], True
            opening = None
    if opening is not None:
        number, marks, language = opening
        last = lines[-1].strip()
        is_half = last and set(last) == {marks[0]} and len(lines) - 1 > number
        end = len(lines) - bool(is_half)
        yield number, number + 1, end, len(lines) - 1, language, False


def lines(answer, cut, marker=""):
    fences = set()
    for opening, _, end, last, _, _ in blocks_of(answer):
        fences |= {opening} | ({last} if end <= last else set())
    for number, (at, line) in enumerate(lines_of(answer)):
        body = line.lstrip()
        if number not in fences and body and body.startswith(marker):
            end = at + len(line)
            yield end - len(body) + len(marker), end, not (cut and end == len(answer))


def fenced(answer, languages):
    starts = [at for at, _ in lines_of(answer)]
    for _, first, end, last, language, closed in blocks_of(answer):
        if languages and language.lower() not in languages:
            continue
        if closed:
            closing = answer.split("\n")[last]
            indentation = len(closing) - len(closing.lstrip())
            yield starts[first], starts[last] + indentation, True
        else:
            start = starts[first] if first < len(starts) else len(answer)
            stop = starts[end] - 1 if end < len(starts) else len(answer)
            stop = max(start, stop)
            yield start, start + len(answer[start:stop].rstrip()), False


def read_fenced(raw, closed):
    """The code less the indentation of the closing fence, which ``raw`` ends with."""
    *content, last = raw.split("\n")
    margin = len(last) if not last.strip() else 0
    if last.strip():
        content.append(last)
    while content and not content[-1].strip():
        content.pop()
    while content and not content[0].strip():
        del content[0]
    for number, line in enumerate(content):
        white = len(line) - len(line.lstrip()) if line.strip() else len(line)
        content[number] = line[min(white, margin) :]
    return "\n".join(content).rstrip()


# --- numbered ---


def marker_of(line):
    """(indentation, punctuation), number and the marker's length, if the line starts with such."""
    body = line.lstrip(" ")
    number = run_of(body, "0123456789")
    rest = body[len(number) :]
    indentation = len(line) - len(body)
    whole = indentation <= 3 and 1 <= len(number) <= 9 and rest[:1] in (".", ")")
    if not whole or not (len(rest) == 1 or rest[1].isspace()):
        return None
    return (indentation, rest[0]), number, indentation + len(number) + 1


def numbered(answer, cut):
    all_lines = list(lines_of(answer))
    last = len(all_lines)
    closed = [block for block in blocks_of(answer) if block[-1]]
    in_block = {n for _, first, end, _, _, _ in closed for n in range(first, end)}
    items, style, is_open = [], None, False  # an item is [start, end, lines]
    list_in_block = None
    for number, (at, line) in enumerate(all_lines):
        if number >= last:
            cut = False
            break
        found = marker_of(line)
        hidden = list_in_block is False and number in in_block
        if found and not hidden and (style is None or found[0] == style):
            if found[1] == str(len(items) + 1):
                if style is None:
                    list_in_block = end_of_block(answer, number, -1) >= 0
                    last = end_of_block(answer, number, last)
                style, is_open = found[0], True
                items.append([at + found[2], at + len(line), 1])
                continue
            if found[1] == "1":
                cut = False
                break
        if not is_open:
            continue
        body = line.lstrip(" ")
        outside = body and not body[0].isspace() and len(line) - len(body) <= style[0]
        start, end, count = items[-1]
        is_blank = not answer[answer.rfind("\n", 0, end) + 1 : end].strip()
        is_code = list_in_block is False and number - 1 in in_block
        if outside and count > 1 and is_blank and not is_code:
            is_open = False
        else:
            items[-1] = [start, at + len(line), count + 1]
    for number, (start, end, _) in enumerate(items, start=1):
        yield start, end, number < len(items) or not is_open or not cut


def end_of_block(text, line, default):
    for _, first, end, _, _, _ in blocks_of(text):
        if first <= line < end:
            return end
    return default


# --- the other formats ---


def json_array(answer, key):
    """What the standard library reads; None where that says nothing.

    It is asked only if the first bracket of the answer begins a whole array.
    """
    start = next((n for n, character in enumerate(answer) if character in "[{"), None)
    if start is None:
        return []
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(answer, start)
    except ValueError:
        return None
    if not isinstance(value, list) or answer[end : end + 1] == "(":
        return None
    if key is not None:
        if not all(isinstance(item, dict) for item in value):
            return None
        value = [item.get(key) for item in value]
    items = [item.strip() for item in value if isinstance(item, str)]
    # A half of a character beyond U+FFFF is read as it can be.
    return items if items and not re.search("[\ud800-\udfff]", "".join(items)) else None


def bullets(answer, cut):
    """What the pattern ``(?m)^- (.+)$`` finds."""
    for at, line in lines_of(answer):
        if line.startswith("- ") and len(line) > 2:
            end = at + len(line)
            yield at + 2, end, not (cut and end == len(answer))


# --- thoughts ---

OPENING, CLOSING, BY_FIRST = {}, defaultdict(set), defaultdict(set)
for family in FAMILIES:
    OPENING[family.open] = family
    CLOSING[family.open].add(family.close)
    for string in (family.open, family.close):
        BY_FIRST[string[0]].add(string)
CLOSING_ALONE = {family.close for family in FAMILIES if family.closes_alone}
ENDS_OF_MESSAGE = ("<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>")


def mark_at(text, at, pair):
    """The longest mark that stands there."""
    marks = pair or BY_FIRST.get(text[at], ())
    return max((mark for mark in marks if text.startswith(mark, at)), key=len, default="")


def plain_answer(text, prompt="", thoughts="auto"):
    """(start, end) of the answer in a text, of whose turn the prompt has the beginning."""
    if thoughts == "none":
        return 0, len(text)
    pair = None if thoughts == "auto" else thoughts
    whole = prompt + text
    if pair is None and has_channel(whole):
        begin, end = final_message(whole)
    else:
        begin, end, _ = after_thoughts(whole, len(prompt), pair)
    begin = max(begin - len(prompt), 0)
    return begin, max(begin, end - len(prompt))


def after_thoughts(whole, turn, pair):
    words = turn  # where the words of the turn begin
    while words < len(whole) and whole[words].isspace():
        words += 1
    begin, opened, opened_at, at = 0, None, 0, 0
    seen = set()  # opening marks, or closing ones that stand alone
    while at < len(whole):
        mark = mark_at(whole, at, pair)
        if not mark:
            at += 1
            continue
        if opened is not None:
            if mark in ({pair[1]} if pair else CLOSING[opened]):
                begin, opened = at + len(mark), None
        elif mark in ({pair[1]} if pair else CLOSING_ALONE):
            # Of another family than the last one it is a word of the answer.
            if not seen or mark in seen:
                begin = at + len(mark)
                seen = {mark}
        elif pair or (mark in OPENING and not (OPENING[mark].at_start and at > words)):
            opened, opened_at = mark, at
            seen = {pair[1]} if pair else CLOSING[mark] & CLOSING_ALONE or {mark}
        at += len(mark)
    return begin, len(whole) if opened is None else opened_at, opened or ""


def left_open(text, prompt, thoughts):
    """The mark of the thought that a turn leaves open."""
    pair = None if thoughts == "auto" else thoughts
    return "" if thoughts == "none" else after_thoughts(prompt + text, len(prompt), pair)[2]


def has_channel(whole):
    if whole.lstrip().startswith("<|channel|>"):
        return True
    messages = whole.split("<|start|>")[1:]
    return any(m[m.index("<") :].startswith("<|channel|>") for m in messages if "<" in m)


def final_message(whole):
    begin = at = None
    for number, piece in enumerate(whole.split("<|channel|>")):
        at = 0 if number == 0 else at + len("<|channel|>")
        header, message, _ = piece.partition("<|message|>")
        words = header.split("<|constrain|>")
        name = words[0].lstrip()
        is_final = name.startswith("final") and not (name[5:6].isalnum() or name[5:6] == "_")
        if number and message and is_final and len(words) <= 2 and "<" not in "".join(words):
            begin = at + len(header + message)
        at += len(piece)
    if begin is None:
        return len(whole), len(whole)
    ends = [whole.find(mark, begin) for mark in ENDS_OF_MESSAGE]
    return begin, min((end for end in ends if end >= 0), default=len(whole))


# --- all of it ---

PARSERS = {
    "xml": tagged,
    "film": lambda answer, cut: tagged_with_options(answer, "film"),
    "numbered": numbered,
    "lines": lines,
    "marked": lambda answer, cut: lines(answer, cut, "- "),
    "fenced": lambda answer, cut: fenced(answer, ()),
    "python": lambda answer, cut: fenced(answer, ("python", "py")),
    "regex": bullets,
    "function": bullets,
    "whole": lambda answer, cut: [(0, len(answer), not cut)],
}
READERS = {
    "film": lambda raw, closed: unescape(raw).strip(),
    "fenced": read_fenced,
    "python": read_fenced,
}


def read(name, raw, closed):
    """The text of a candidate that is written so."""
    return READERS[name](raw, closed) if name in READERS else raw.strip()


def after_byte_order_marks(text, begin, end):
    while begin < end and text[begin] == "\ufeff":
        begin += 1
    return begin


def plain_parse(text, name="xml", cut=True, prompt="", thoughts="auto"):
    """(text, is closed) of each candidate of a text without special tokens."""
    begin, end = plain_answer(text, prompt, thoughts)
    begin = after_byte_order_marks(text, begin, end)
    answer = text[begin:end]
    found = PARSERS[name](answer, cut and end == len(text))
    return [(read(name, answer[start:stop], closed), closed) for start, stop, closed in found]
