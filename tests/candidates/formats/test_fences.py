import random

import pytest
from markdown_it import MarkdownIt

from shape_grpo.candidates.formats.fences import code_blocks


def blocks(text):
    return [(b.language, text[slice(*b.content)], b.closed) for b in code_blocks(text)]


CASES = [
    ("```\na\n```", [("", "a", True)], "backticks"),
    ("~~~\na\n~~~", [("", "a", True)], "tildes"),
    ("x\n```python\na\nb\n```\ny", [("python", "a\nb", True)], "language, in prose"),
    ("``` python title=x\na\n```", [("python", "a", True)], "first word of the line"),
    ("````\n```\n````", [("", "```", True)], "a longer fence"),
    ("```\na\n`````  ", [("", "a", True)], "closed by a longer one, spaces behind"),
    ("```\n~~~\n```", [("", "~~~", True)], "other marks are content"),
    ("```\n``` python\n```", [("", "``` python", True)], "a fence with a language closes nothing"),
    ("```\n```", [("", "", True)], "no lines"),
    ("```\n\n```", [("", "", True)], "one blank line"),
    ("```\r\na\r\n```\r\n", [("", "a\r", True)], "Windows line ends"),
    ("   ```\n   a\n   ```", [("", "   a", True)], "indented"),
    ("          ```\na\n\t```", [("", "a", True)], "indented by any amount"),
    ("1. ```python\n   a\n   ```\n2. b", [("python", "   a", True)], "behind a list's number"),
    ("- ```\n  a\n  ```\n* ```\n  b\n  ```", [("", "  a", True), ("", "  b", True)], "bullets"),
    ("```\n- ```\n```", [("", "- ```", True)], "a bullet closes nothing"),
    ("```a```\nb", [], "code in a sentence"),
    ("a ```\nb", [], "not at the start of a line"),
    ("``\na\n``", [], "two backticks"),
    ("```\na", [("", "a", False)], "unclosed"),
    ("```\na\n", [("", "a\n", False)], "unclosed, with its line break"),
    ("```\na\n``", [("", "a", False)], "half a fence"),
    ("````\na\n  ``` ", [("", "a", False)], "half of a longer fence"),
    ("~~~\na\n``", [("", "a\n``", False)], "half of another fence"),
    ("```\n`", [("", "", False)], "half a fence and no lines"),
    ("```pyt", [("pyt", "", False)], "cut in the first line"),
    ("```", [("", "", False)], "cut behind the first fence"),
    ("", [], "nothing"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), CASES, ids=[case[2] for case in CASES])
def test_blocks(text, expected, reason):
    assert blocks(text) == expected


def test_a_block_covers_its_fences():
    text = "a\n  ```\nb\n  ```\nc"
    (block,) = code_blocks(text)
    assert text[block.start : block.end] == "  ```\nb\n  ```"


LINES = [
    "```",
    "~~~",
    "````",
    "~~~~~ ",
    "```py",
    "~~~ py x",
    "``` a`b",
    "``",
    "a",
    "",
    "  b",
    "a```",
]


def test_as_markdown_it_finds_them():
    rng, markdown, count = random.Random(0), MarkdownIt(), 0
    for _ in range(3000):
        # A last line that is no half of a fence, which Markdown takes for content.
        text = "\n".join([*rng.choices(LINES, k=rng.randrange(12)), "a"])
        fences = [token for token in markdown.parse(text) if token.type == "fence"]
        expected = [((f.info.split() or [""])[0], f.content.rstrip("\n")) for f in fences]
        got = [(language, content.rstrip("\n")) for language, content, _ in blocks(text)]
        assert got == expected
        count += len(got)
    assert count > 3000
