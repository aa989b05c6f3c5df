"""No link within the project is dead: files exist, and anchors are headings of theirs."""

import json
import re
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "recipe").glob("**/notebooks/*.ipynb"))
PAGES = [
    *(ROOT / path for path in ("README.md", ".github/CONTRIBUTING.md")),
    *(path for room in ("recipe", "shape_grpo") for path in sorted((ROOT / room).rglob("*.md"))),
    *NOTEBOOKS,
]


@cache
def tokens(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return MarkdownIt("commonmark").enable("table").parse(text)


def links(path):
    children = (child for token in tokens(path) for child in token.children or [])
    found = (child.attrs.get("href", child.attrs.get("src")) for child in children)
    return [link for link in found if link]


@cache
def anchors(path):
    """As GitHub makes them of headings."""
    seen = {}
    for before, inline in pairwise(tokens(path)):
        if before.type == "heading_open":
            words = "".join(c.content for c in inline.children if c.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            number = seen[slug] = seen.get(slug, -1) + 1
            name = f"{slug}-{number}" if number else slug
            seen.setdefault(name, 0)
    return set(seen)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), f"{link} leaves the project"
        inside = str(target.relative_to(ROOT))
        assert any(f == inside or f.startswith(f"{inside}/") for f in tracked), f"{link} is dead"
        if anchor:
            assert anchor in anchors(target), f"{link}: {target.name} has {sorted(anchors(target))}"


def test_the_check_sees_links():
    found = {link for page in PAGES for link in links(page)}
    assert len(found) > 40 and len([link for link in found if "#" in link]) > 5


def test_every_document_can_be_reached_from_the_readme():
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        todo += [target for target in targets & set(PAGES) if target not in reached]
    assert set(PAGES) - reached == set()


def test_the_readme_takes_five_minutes():
    """At 240 words a minute, commands and programs left out."""
    prose = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    shown = re.sub(r"\]\([^)]*\)", "]", prose)
    assert len(re.findall(r"\w[\w'.-]*", shown)) < 1200
