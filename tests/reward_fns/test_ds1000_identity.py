"""Which programs count as one: those of one syntax tree, else those of one text."""

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from reward_fns.ds1000 import identity, strip_fence
from tests.reward_fns.ds1000_problems import PROBLEMS

ROOT = Path(__file__).parents[2]
LOOP = "for x in X.T:\n    total += f(x, 'a')"
SAME = {
    "a comment at the end of a line": "for x in X.T:  # columns\n    total += f(x, 'a')",
    "a comment on its own line": "# columns\nfor x in X.T:\n# add\n    total += f(x, 'a')",
    "blank lines": "\n\nfor x in X.T:\n\n    total += f(x, 'a')\n\n",
    "another indent": "for x in X.T:\n  total += f(x, 'a')",
    "one line": "for x in X.T: total += f(x, 'a')",
    "spaces": "for x in X . T :\n    total+=f( x,'a' )   ",
    "tabs and other line ends": "for x in X.T:\r\n\ttotal += f(x, 'a')\r\n",
    "double quotes": 'for x in X.T:\n    total += f(x, "a")',
    "three quotes": "for x in X.T:\n    total += f(x, '''a''')",
    "a prefix": "for x in X.T:\n    total += f(x, u'a')",
    "an escape": "for x in X.T:\n    total += f(x, '\\x61')",
    "strings side by side": "for x in X.T:\n    total += f(x, 'a' '')",
    "parentheses": "for x in (X.T):\n    total += (f(x, ('a')))",
    "a comma more": "for x in X.T:\n    total += f(x, 'a',)",
    "line breaks": "for x in \\\n X.T:\n    total += f(\n  x,\n'a'\n)",
    "a semicolon": "for x in X.T:\n    total += f(x, 'a');",
    "a fence": f"```python\n{LOOP}\n```\n",
    "indented": "    for x in X.T:\n        total += f(x, 'a')",
    "indented, the first line's lost": "for x in X.T:\n        total += f(x, 'a')",
}
OTHER = {
    "case of an attribute": "for x in X.t:\n    total += f(x, 'a')",
    "case of names": "for x in x.T:\n    total += f(x, 'a')",
    "case of a string": "for x in X.T:\n    total += f(x, 'A')",
    "a space in a string": "for x in X.T:\n    total += f(x, 'a ')",
    "a string of a comment": "for x in X.T:\n    total += f(x, '# a')",
    "bytes": "for x in X.T:\n    total += f(x, b'a')",
    "another operator": "for x in X.T:\n    total -= f(x, 'a')",
    "a statement more": "for x in X.T:\n    total += f(x, 'a')\n    pass",
    "a statement moved out": "for x in X.T:\n    pass\ntotal += f(x, 'a')",
    "another name": "for y in X.T:\n    total += f(y, 'a')",
    "a tuple": "for x in (X.T,):\n    total += f(x, 'a')",
}
BODY = "s = (a ** 2).sum(axis=1)\nreturn a[s <= 1]"


@pytest.mark.parametrize("what", SAME)
def test_layout_comments_and_quotes_do_not_matter(what):
    assert identity(SAME[what]) == identity(LOOP)


def test_what_the_program_does_matters():
    programs = [LOOP, *OTHER.values()]
    assert len(set(map(identity, programs))) == len(programs)


def test_a_functions_body_may_be_indented_as_the_scorer_accepts_it():
    indented = BODY.replace("return", "    return")
    assert identity(f"    {indented}") == identity(indented) == identity(BODY)
    assert identity(f"if True:\n    {indented}") != identity(BODY)


def test_numbers_are_their_values():
    assert identity("x = 1_000") == identity("x = 0x3e8") == identity("x = 1000")
    assert len(set(map(identity, ["x = 1", "x = 1.0", "x = True", "x = 1j", "x = '1'"]))) == 5


def test_programs_of_the_problems_are_all_different_and_survive_another_layout():
    codes = {strip_fence(code) for p in PROBLEMS for code in (p.reference, *p.wrong.values())}
    trees = {}
    for code in codes:
        try:
            layout = ast.unparse(ast.parse(code))
        except SyntaxError:
            continue
        trees.setdefault(layout, []).append(code)
        commented = "\n".join(f"{line}  # {n}" for n, line in enumerate(layout.split("\n")))
        assert identity(code) == identity(layout) == identity(commented), code
    assert len(trees) > 30
    for one, other in itertools.combinations(trees, 2):
        assert identity(one) != identity(other)


@pytest.mark.parametrize(
    "code",
    ["for x in", "X.T it is", "print X.T", "x = 'X\n", "X.T\0", "X.T \ud800", "\t X\n  y"],
)
def test_the_text_decides_where_there_is_no_tree(code):
    with pytest.raises((SyntaxError, ValueError)):
        ast.parse(code)
    assert identity(f"\n {code} \n") == identity(code)
    assert identity(f"```python\n{code}\n```") == identity(code)
    assert identity(code.swapcase()) != identity(code)
    assert identity(f"{code} #") != identity(code)


HARD = [
    # Brackets, which the tokenizer counts.
    *("(" * 100_000, "(" * 9000, "(" * 199 + ")" * 199, "[" * 5000 + "]" * 5000, "{1:" * 3000),
    # Recursion of the parser.
    *("-" * 100_000 + "1", "-" * 9000 + "1", "-" * 5000 + "1", "~" * 2000 + "1"),
    *("not " * 2400 + "1", "lambda:" * 1400 + "1", "1 if 1 else " * 800 + "1"),
    *("1" + "**1" * 3300, "f'{" * 3000, "if 1:\n pass\n" + "elif 1:1\n" * 1000),
    # Loops of the parser that make deep trees.
    *("x" + "[0]" * 100_000, "x" + "[0]" * 16_600, "x" + "[0]" * 3300, "1" + "+1" * 24_000),
    *("x" + ".a" * 4990, "x" + "()" * 4990),
    *("1" + "+1" * 4990, "1<" * 4990 + "1", "x=" * 4990 + "1", "1\n" * 5000),
    # Indents and line breaks.
    *("if 1:\n" * 1000, "\n".join(" " * n + "if 1:" for n in range(139)), "\\\n" * 4990),
    # Numbers and characters.
    *("9" * 9000, "0x" + "f" * 9000, "9" * 4301, "\0" * 10, "\ud800", ""),
    # Length.
    *("x" * 10**7, " " * 10**6 + "x", "```\n" + " " * 10**6 + "x", "```\n" * 10**5 + "x"),
]
RUN = """
import json, sys, threading, time
from reward_fns.ds1000 import identity

def work():
    for code in json.loads(sys.stdin.read()):
        started = time.process_time()
        print(json.dumps([identity(code), time.process_time() - started]), flush=True)

sys.setrecursionlimit(int(sys.argv[1]))
threading.stack_size(1 << 20)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def run_python(*arguments, **options):
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_it_is_short_and_the_same_in_every_process():
    code = f"from reward_fns.ds1000 import identity\nprint(identity({LOOP!r}))"
    run = run_python("-c", code, check=True)
    assert run.stdout.strip() == identity(LOOP)
    assert len(identity(LOOP)) == 16 and int(identity(LOOP), 16) > 0


@pytest.mark.parametrize("recursion_limit", [1000, 10**6])
def test_no_program_crashes_the_process_or_takes_long(recursion_limit):
    """Not on a small stack either, nor where a library has raised the recursion limit."""
    run = run_python("-c", RUN, str(recursion_limit), input=json.dumps(HARD), timeout=300)
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert (run.returncode, run.stderr) == (0, ""), HARD[len(found)][:100]
    assert len({name for name, _ in found}) == len(HARD)
    assert max(seconds for _, seconds in found) < 2


@pytest.mark.parametrize("action", ["error", "always"])
def test_warnings_about_a_program_are_neither_errors_nor_printed(action):
    """The escape that is none means its own letters, and so does the raw string."""
    codes = ["x = '\\d'", "x = r'\\d'", "x = 1or 2", "x = 1 or 2", "assert (x, 'y')", "x is 1"]
    code = f"from reward_fns.ds1000 import identity\nprint(*map(identity, {codes}))"
    run = run_python("-W", action, "-c", code, check=True)
    names = run.stdout.split()
    assert names[0] == names[1] and names[2] == names[3] and len(set(names)) == 4
    assert run.stderr == ""
