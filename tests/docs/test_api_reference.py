"""The API reference builds, its links lead somewhere, and what docstrings refer to exists."""

import ast
import builtins
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("shape_grpo", "recipe", "reward_fns")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.anchors, self.links = set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.anchors.add(attrs["id"])
        if tag == "a" and "href" in attrs:
            self.links.add(attrs["href"])


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """What the script builds, less the installation of its environment."""
    output = tmp_path_factory.mktemp("reference")
    script = (ROOT / "run_scripts/build_docs.sh").read_text()
    _, _, command = script.partition('/environment.sh"\n')
    result = subprocess.run(
        ["bash", "-euc", command, "build_docs.sh", str(output)],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, "VERL_PLATFORM": "cpu"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Warn" not in result.stderr, result.stderr[-3000:]
    return {path: Page(path) for path in output.rglob("*.html")}


def test_every_public_room_has_its_page(pages):
    names = {path.name for path in pages}
    assert {"credit.html", "candidates.html", "advantage.html", "sandbox.html"} <= names
    (credit,) = (page for path, page in pages.items() if path.name == "credit.html")
    assert {"shapley_values", "allocate", "Utility"} <= credit.anchors


def test_no_link_is_dead(pages):
    seen = 0
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target in pages, f"{path.name}: {link}"
            # Methods without a docstring are linked to, and have no entry of their own.
            anchor = anchor if anchor in pages[target].anchors else anchor.rpartition(".")[0]
            assert not anchor or anchor in pages[target].anchors, f"{path.name}: {link}"
            seen += 1
    assert seen > 500


def names_of(tree):
    """All that a file defines or imports, attributes and arguments included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.arg):
            yield node.id if isinstance(node, ast.Name) else node.arg
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]


TITLES = {"Seven"}
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
KNOWN = {name for tree in TREES.values() for name in names_of(tree)} | set(dir(builtins)) | TITLES


def references(tree):
    """The classes, and the names within the project, in single backticks of docstrings."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        text = isinstance(node, kinds) and ast.get_docstring(node)
        yield from re.findall(
            r"(?<!`)`((?:(?:shape_grpo|recipe|reward_fns)\.|[A-Z]\w*[a-z])[\w.]*?)(?:\(\))?`(?!`)",
            text or "",
        )


def exists(reference):
    """As a name in the code, or as a module and a name in it."""
    if "." not in reference:
        return reference in KNOWN
    parts = reference.split(".")
    if parts[0] in ROOMS:
        path = ROOT / parts.pop(0)
        while parts and ((path / parts[0]).is_dir() or (path / f"{parts[0]}.py").is_file()):
            path /= parts.pop(0)
        return not parts or parts[0] in KNOWN
    return all(part in KNOWN for part in parts)


@pytest.mark.parametrize(
    "path", [p for p in FILES if any(references(TREES[p]))], ids=lambda p: str(p.relative_to(ROOT))
)
def test_what_docstrings_refer_to_exists(path):
    assert not [name for name in references(TREES[path]) if not exists(name)]
