"""Reward of one solution to a DS-1000 problem: 1 if it passes the problem's tests, else 0.

Written as every verl reward function is, and called once per candidate. Point verl at it with

    reward.custom_reward_function.path=reward_fns/ds1000.py

`python -m recipe.shape_grpo.tasks ds1000` writes the prompts. Needs a sandbox
(`shape_grpo.sandbox`).

A problem's `code_context` holds its tests, and with them the answers: it runs in a sandbox of its
own, the judge. Where it calls `exec` on the program with the candidate inserted, that program runs
in another sandbox, which gets the test's input and gives back the variable `result` as plain data.
So the candidate's code never shares a process with answers, comparison or verdict. That other
sandbox may be a Sandbox Fusion server (`reward_fns/sandbox_fusion.py`), by
`reward.sandbox_fusion.url`.

What a solution causes is a 0: an end of any kind, a result that is none or unlike the answer. What
the machine or the problem causes is an error: a sandbox or server that runs nothing, tests that
fail or do not end without any solution (`algorithm.shape_grpo.on_error` says what an error costs).

What cannot be given back as plain data (a figure, a fitted model, a generator) is wrong. Tests of
Matplotlib problems look at the interpreter's state, which cannot be split so: such problems run
whole in one sandbox, where a candidate could patch its tests, and only if `together` names their
library.
"""

import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from reward_fns.sandbox_fusion import SandboxFusion
from shape_grpo.sandbox import Limits, Outcome, Sandbox, SandboxError, shared_sandbox

logger = logging.getLogger(__name__)
_lock = threading.Lock()
_announced: list[Sandbox] = []

# What most problems import, once for all runs of a process.
WARM = (
    *("numpy", "pandas", "scipy.stats", "scipy.sparse", "scipy.optimize", "scipy.interpolate"),
    *("sklearn.linear_model", "sklearn.preprocessing", "sklearn.feature_extraction.text"),
)
FENCE = re.compile(r"\A\s*```[^\n`]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)

CANDIDATE = """
exec(compile(program, "<solution>", "exec"), variables)
result = variables["result"]
"""

JUDGE = (
    Path(__file__).with_name("ds1000_judge.py").read_text()
    + """
passed = judge(code_context, solution, together, share, ask)
"""
)


def strip_fence(solution: str) -> str:
    """The code of a solution that is one fenced block, any other solution as it is."""
    fenced = FENCE.match(solution)
    return fenced[1] if fenced else solution


def run_untrusted(sandbox: Sandbox | SandboxFusion, code: str, **options: Any) -> Outcome:
    """As `sandbox.run`; also "died" where that fails of this code, and not of another.

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
    """The share of a problem's tests that a solution passes; without `share`, 1.0 or 0.0.

    Args:
        sandbox: where the judge runs, and without `server` the candidate's program too.
        code_context: DS-1000's field of that name.
        solution: code to be put in the place of `[insert]`; indented where that needs it.
        server: where the candidate's program runs; with `together`, the judge too.
        together: the judge runs the candidate's program itself, unprotected from it.
        share: go on after a test that fails.

    Raises:
        SandboxError: the sandbox did not start, or the server ran nothing.
        ValueError: the tests fail before they have run the solution.
    """
    programs = server or sandbox
    tests = 0

    def answer(question: bytes) -> bytes:
        nonlocal tests
        if not tests:  # the first, told before the judge looks at the solution
            tests = int(question)
            return b""
        if together:
            return b""
        # The pickle comes from the judge, and is opened only in the candidate's sandbox.
        return run_untrusted(programs, CANDIDATE, inputs=question, outputs=["result"]).reply

    def answer_nothing(question: bytes) -> bytes:
        nonlocal tests
        tests = tests or int(question)
        return b"{}"

    def judge(solution: str, answer: Callable[[bytes], bytes]) -> Outcome:
        inputs = {
            "code_context": code_context,
            "solution": solution,
            "together": together,
            "share": share,
        }
        return run_untrusted(
            programs if together else sandbox,
            JUDGE,
            inputs=inputs,
            outputs=["passed"],
            answer=answer,
        )

    judged = judge(solution, answer)
    if judged.status == "done" and tests:
        passed = read_verdict(judged.reply, tests)
        return passed / tests if share else float(passed == tests)
    # Whose doing was that? Not the solution's, if the tests do not end without it either.
    idle = judge("", answer_nothing)
    if not tests:
        raise ValueError(f"the problem's tests do not run: {idle.detail[-500:]}")
    if idle.status != "done":
        raise SandboxError(
            f"the problem's tests did not end ({judged.status}: {judged.detail[-300:]}), nor "
            f"without a solution ({idle.status}: {idle.detail[-300:]}): the machine is short of "
            "time or memory; give reward_kwargs.seconds and memory_gb more"
        )
    return 0.0


remembered_tests = lru_cache(maxsize=4096)(run_tests)
"""`run_tests`, which knows a problem and solution again. What it raised it forgets."""


def read_verdict(reply: bytes, tests: int) -> int:
    """The number of tests passed, 0 if that is none: with `together`, a candidate may write it."""
    try:
        passed = json.loads(reply)["passed"] if len(reply) < 100 else 0
    except (ValueError, KeyError, TypeError):
        return 0
    return passed if type(passed) is int and 0 <= passed <= tests else 0


def find_sandbox(backend: str, warm: bool, limits: Limits, unsafe: bool) -> Sandbox:
    """The process's sandbox of these options; the first time, the log says which it is.

    Raises:
        SandboxError: no backend works.
    """
    modules = WARM if warm else ()
    sandbox = shared_sandbox(backend=backend, warm=modules, limits=limits, unsafe=unsafe)
    with _lock:
        if sandbox not in _announced:
            _announced.append(sandbox)
            # A warning, since Ray's workers show nothing less.
            logger.warning("DS-1000: programs run in %s", sandbox.description)
    return sandbox


@cache
def find_server(url: str, seconds: float, memory: int, max_concurrent: int) -> SandboxFusion:
    """The process's client of a server."""
    logger.warning("DS-1000: solutions run on %s, their results are compared here", url)
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
) -> float:
    """1.0 if the solution passes all tests, else 0.0; or the share of tests it passes.

    Args:
        data_source: not used; verl passes it.
        solution_str: one candidate, the code; a code fence around it is taken off.
        ground_truth: the problem's `code_context`.
        extra_info: the row's extra information; its "library" is compared with `together`.
        share: return the share of tests passed.
        together: libraries whose problems run whole in one sandbox (see above).
        seconds: for the solution, in each test.
        memory_gb: address space of a process.
        backend: of the sandbox.
        warm: fork runs from a process that has imported NumPy and the like, where that holds.
        unsafe: run without isolation where no backend works.
        remember: run a problem's solution once and give its score again after that: for a policy
            that writes few programs. One that draws random numbers keeps its first score.
        sandbox_fusion_url: a Sandbox Fusion server that runs the solutions. The judge still runs
            here: in a sandbox where one holds, else, since no solution's code is in it, without.
        max_concurrent: requests of a process to that server, at a time.
        memory_limit_mb: as `memory_gb`, on that server.
        **kwargs: not used; verl may pass more.

    Raises:
        SandboxError: no backend works, or the sandbox did not start, or the server ran nothing.
        ValueError: the problem's tests do not run, or belong to Matplotlib and not to `together`;
            the server's address is none.
    """
    library = str((extra_info or {}).get("library", ""))
    if library == "Matplotlib" and library not in together:
        raise ValueError(
            "the tests of a Matplotlib problem look into the interpreter that ran the solution: "
            "leave such problems out (`tasks ds1000` does), or, where a solution may be trusted "
            "not to patch its tests, set reward_kwargs.together=[Matplotlib]"
        )
    limits = Limits(seconds=float(seconds), memory=int(float(memory_gb) * (1 << 30)))
    server = None
    if sandbox_fusion_url is not None:
        with _lock:
            server = find_server(
                sandbox_fusion_url, limits.seconds, int(memory_limit_mb) << 20, int(max_concurrent)
            )
    return (remembered_tests if remember else run_tests)(
        find_sandbox(backend, warm, limits, unsafe or server is not None),
        ground_truth,
        strip_fence(solution_str),
        server=server,
        together=library in together,
        share=share,
    )
