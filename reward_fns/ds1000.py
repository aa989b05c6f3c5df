"""Reward of one solution to a DS-1000 problem: 1 if it passes the problem's tests, else 0.

A verl reward function, called once per candidate. Set it with

    reward.custom_reward_function.path=reward_fns/ds1000.py

`python -m recipe.shape_grpo.tasks ds1000` writes the prompts. Needs a sandbox
(`shape_grpo.sandbox`).

A problem's `code_context` holds its tests and thus the answers: it runs in a separate sandbox, the
scorer's. Where it calls `exec` on the program with the candidate inserted, that program runs in
another sandbox, which gets the test's input and returns the variable `result` as plain data. So the
candidate's code never shares a process with answers, comparison or verdict. This other sandbox may
be a Sandbox Fusion server (`reward_fns/sandbox_fusion.py`), set by `reward.sandbox_fusion.url`.

Failures that the solution causes score 0: an early end, no result, or a result unlike the answer.
Failures of the machine or the problem are errors: a sandbox or server that runs no program, tests
that fail or do not end even without a solution (see `algorithm.shape_grpo.on_error`).

A result that is not plain data (a figure, a fitted model, a generator) is wrong. Tests of
Matplotlib problems read the interpreter's state, which cannot be split in this way: such problems
run whole in one sandbox, where a candidate could patch its tests, and only if `together` names
their library.

The solution's syntax tree is its `identity`: a response whose programs differ in comments, layout
or quotes alone repeats a candidate (`algorithm.shape_grpo.duplicate`).
"""

import ast
import hashlib
import json
import logging
import textwrap
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from reward_fns.sandbox_fusion import SandboxFusion
from shape_grpo.sandbox import Limits, Outcome, Sandbox, SandboxError, shared_sandbox

logger = logging.getLogger(__name__)
_lock = threading.Lock()
_announced: list[Sandbox] = []

# Modules that most problems import; warm sandboxes import them once per process.
WARM = (
    *("numpy", "pandas", "scipy.stats", "scipy.sparse", "scipy.optimize", "scipy.interpolate"),
    *("sklearn.linear_model", "sklearn.preprocessing", "sklearn.feature_extraction.text"),
)
MOST_PARSED = 10_000
"""Characters of the longest program that is parsed; DS-1000's have a few hundred.

The parser's recursion is limited in C by Python's recursion limit, which a process may have raised.
A tree of so few characters fits on a thread's stack of 1 MiB even then.
"""

# What the parser warns about, such as the escape in "\d", is no concern of the training's log.
# `warnings.catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module="<candidate>")

CANDIDATE = """
exec(compile(program, "<solution>", "exec"), variables)
result = variables["result"]
"""

SCORER = (
    Path(__file__).with_name("ds1000_scorer.py").read_text()
    + """
passed = count_passed(code_context, solution, together, share, ask)
"""
)


def strip_fence(solution: str) -> str:
    """Return the code of a solution that is one fenced block; any other solution unchanged."""
    opening, _, rest = solution.strip().partition("\n")
    if opening.startswith("```") and "`" not in opening[3:] and rest.endswith("```"):
        return rest[:-3].rstrip(" \t").removesuffix("\n")
    return solution


def identity(solution: str) -> str:
    """Return a hash that is equal for solutions of one syntax tree; else that of the text.

    A tree has no comments, layout, redundant parentheses or quotes. The text decides, white space
    around it aside, if the solution is not valid Python, is nested too deeply or is longer than
    `MOST_PARSED`.
    """
    code = strip_fence(solution)
    kept = "text: " + code.strip()
    if len(code) <= MOST_PARSED:
        # The scorer accepts a function's body with its indent, also if the first line's is lost.
        forms = [code, textwrap.dedent(code), textwrap.dedent("    " + code)]
        kept = next(filter(None, map(dump_tree, forms)), kept)
    return hashlib.sha256(kept.encode(errors="backslashreplace")).hexdigest()[:16]


def dump_tree(code: str) -> str | None:
    """Return a program's syntax tree, without line numbers, as text; None if there is none."""
    try:
        tree = ast.parse(code, "<candidate>")
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant):
                node.kind = None  # u"" is ""
        return ast.dump(tree)
    except Exception:  # SyntaxError, ValueError, RecursionError, MemoryError of the parser's stack
        return None


def run_untrusted(sandbox: Sandbox | SandboxFusion, code: str, **options: Any) -> Outcome:
    """Run code as `sandbox.run` does; "died" also if the sandbox fails with this code alone.

    Raises:
        SandboxError: the sandbox did not start.
    """
    try:
        return sandbox.run(code, **options)
    except SandboxError:
        raise
    except Exception as error:
        try:
            sandbox.run("")
        except Exception as again:
            raise SandboxError(f"the sandbox fails with every program: {again!r}") from error
        return Outcome("died", f"the sandbox failed with this program, not with others: {error!r}")


def run_tests(
    sandbox: Sandbox,
    code_context: str,
    solution: str,
    *,
    server: SandboxFusion | None = None,
    together: bool = False,
    share: bool = False,
) -> float:
    """Return the share of a problem's tests that a solution passes; without `share`, 1.0 or 0.0.

    Args:
        sandbox: sandbox of the scorer and, without `server`, of the candidate's program.
        code_context: DS-1000's field of that name.
        solution: code that replaces `[insert]`; indented if necessary.
        server: server that runs the candidate's program and, with `together`, the scorer.
        together: the scorer runs the candidate's program in its own process, unprotected.
        share: continue after a test that fails.

    Raises:
        SandboxError: the sandbox did not start, or the server ran nothing.
        ValueError: the tests fail before they have run the solution.
    """
    programs = server or sandbox
    tests = 0

    def answer(question: bytes) -> bytes:
        nonlocal tests
        if not tests:  # the first question is their number, sent before the solution runs
            tests = int(question)
            return b""
        if together:
            return b""
        # The pickle comes from the scorer, and is loaded only in the candidate's sandbox.
        return run_untrusted(programs, CANDIDATE, inputs=question, outputs=["result"]).reply

    def answer_nothing(question: bytes) -> bytes:
        nonlocal tests
        tests = tests or int(question)
        return b"{}"

    def run_scorer(solution: str, answer: Callable[[bytes], bytes]) -> Outcome:
        inputs = {
            "code_context": code_context,
            "solution": solution,
            "together": together,
            "share": share,
        }
        return run_untrusted(
            programs if together else sandbox,
            SCORER,
            inputs=inputs,
            outputs=["passed"],
            answer=answer,
        )

    outcome = run_scorer(solution, answer)
    if outcome.status == "done" and tests:
        passed = read_verdict(outcome.reply, tests)
        return passed / tests if share else float(passed == tests)
    # The solution is not the cause if the tests do not end without it either.
    idle = run_scorer("", answer_nothing)
    if not tests:
        raise ValueError(f"the problem's tests do not run: {idle.detail[-500:]}")
    if idle.status != "done":
        raise SandboxError(
            f"the problem's tests did not end ({outcome.status}: {outcome.detail[-300:]}), nor "
            f"without a solution ({idle.status}: {idle.detail[-300:]}): the machine is short of "
            "time or memory; write larger reward_kwargs.seconds and memory_gb"
        )
    return 0.0


remembered_tests = lru_cache(maxsize=4096)(run_tests)
"""`run_tests` with its results cached by problem and solution; errors are not cached."""


def read_verdict(reply: bytes, tests: int) -> int:
    """Return the number of tests passed; 0 if invalid: with `together`, code can forge it."""
    try:
        passed = json.loads(reply)["passed"] if len(reply) < 100 else 0
    except (ValueError, KeyError, TypeError):
        return 0
    return passed if type(passed) is int and 0 <= passed <= tests else 0


def find_sandbox(backend: str, warm: bool, limits: Limits, unsafe: bool) -> Sandbox:
    """Return the process's sandbox with these options; log its description the first time.

    Raises:
        SandboxError: no backend works.
    """
    modules = WARM if warm else ()
    sandbox = shared_sandbox(backend=backend, warm=modules, limits=limits, unsafe=unsafe)
    with _lock:
        if sandbox not in _announced:
            _announced.append(sandbox)
            # A warning, because Ray's workers show no lower level.
            logger.warning("DS-1000: programs run in %s", sandbox.description)
    return sandbox


@cache
def find_server(url: str, seconds: float, memory: int, max_concurrent: int) -> SandboxFusion:
    """Return the process's client of a server."""
    logger.warning("DS-1000: solutions run on %s, and their results are compared here", url)
    return SandboxFusion(url, seconds=seconds, memory=memory, max_concurrent=max_concurrent)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    share: bool = False,
    together: Sequence[str] = (),
    seconds: float = 20.0,
    memory_gb: float = 8.0,
    backend: str = "auto",
    warm: bool = True,
    unsafe: bool = False,
    remember: bool = False,
    sandbox_fusion_url: str | None = None,
    max_concurrent: int = 64,
    memory_limit_mb: int = 8192,
    **kwargs: Any,
) -> dict[str, float | str]:
    """Return whether the solution passes the tests, and which program it is.

    Args:
        data_source: not used; verl passes it.
        solution_str: one candidate, the code; a code fence around it is removed.
        ground_truth: the problem's `code_context`.
        extra_info: the row's extra information; its "library" is compared with `together`.
        share: return the share of tests passed.
        together: libraries whose problems run whole in one sandbox (see above).
        seconds: time limit of the solution in each test.
        memory_gb: address space per process.
        backend: the sandbox's backend.
        warm: fork runs from a process that has imported NumPy and the like, where that works.
        unsafe: run without isolation where no backend works.
        remember: run each solution of a problem once and reuse its score, for a policy that writes
            few programs. A program that draws random numbers keeps its first score.
        sandbox_fusion_url: a Sandbox Fusion server that runs the solutions. The scorer still runs
            here: in a sandbox if one works, else without, because it contains no solution's code.
        max_concurrent: concurrent requests per process to that server.
        memory_limit_mb: address space per process on that server.
        **kwargs: not used; verl may pass more.

    Returns:
        "score", 1.0 if the solution passes all tests, else 0.0, or with `share` the share passed;
        and "identity", as of `identity`.

    Raises:
        SandboxError: no backend works, or the sandbox did not start, or the server ran nothing.
        ValueError: the problem's tests do not run; its library is Matplotlib, which `together` does
            not name; or the server's address is invalid.
    """
    library = str((extra_info or {}).get("library", ""))
    if library == "Matplotlib" and library not in together:
        raise ValueError(
            "the tests of a Matplotlib problem read the state of the interpreter that ran the "
            "solution: leave such problems out (as `tasks ds1000` does) or, if you trust solutions "
            "not to patch their tests, set reward_kwargs.together=[Matplotlib]"
        )
    limits = Limits(seconds=float(seconds), memory=int(float(memory_gb) * (1 << 30)))
    server = None
    if sandbox_fusion_url is not None:
        with _lock:
            server = find_server(
                sandbox_fusion_url, limits.seconds, int(memory_limit_mb) << 20, int(max_concurrent)
            )
    score = (remembered_tests if remember else run_tests)(
        find_sandbox(backend, warm, limits, unsafe or server is not None),
        ground_truth,
        strip_fence(solution_str),
        server=server,
        together=library in together,
        share=share,
    )
    return {"score": score, "identity": identity(solution_str)}
