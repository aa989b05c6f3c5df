"""Reward of one solution to a DS-1000 problem: 1 if it passes the problem's tests, else 0.

Written as every verl reward function is, and called once per candidate. Point verl at it with

    reward.custom_reward_function.path=reward_fns/ds1000.py

`python -m recipe.shape_grpo.tasks ds1000` writes the prompts. Needs a sandbox
(`shape_grpo.sandbox`).

A problem's `code_context` holds its tests, and with them the answers: it runs in a sandbox of its
own, the judge. Where it calls `exec` on the program with the candidate inserted, that program runs
in another sandbox, which gets the test's input and gives back the variable `result` as plain data.
So the candidate's code never shares a process with answers, comparison or verdict.

What cannot be given back as plain data (a figure, a fitted model, a generator) is wrong. Tests of
Matplotlib problems look at the interpreter's state, which cannot be split so: such problems run
whole in one sandbox, where a candidate could patch its tests, and only if `together` names their
library.
"""

import re
from collections.abc import Sequence
from typing import Any

from shape_grpo.sandbox import Limits, Sandbox, shared_sandbox

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

# Runs with: code_context, solution, together, share, ask.
JUDGE = """
import json, pickle, textwrap
import values

passed = tests = 0
failure = ""
nothing = object()
judge = {"__name__": "judge"}
exec(compile(code_context, "<code_context>", "exec"), judge)
test_execution, exec_test = judge["test_execution"], judge["exec_test"]
ask(b"")  # what fails from here on is the candidate's doing

def run_apart(program, variables):
    global tests
    question = pickle.dumps({"program": program, "variables": variables})
    tests += 1
    reply = ask(question)
    try:
        variables["result"] = values.decode(json.loads(reply)["result"])
    except (ValueError, KeyError):
        variables["result"] = nothing

def compare(result, answer):
    global passed
    try:
        right = result is not nothing and bool(exec_test(result, answer))
    except Exception:
        right = False
    passed += right
    if not right and not share:
        raise AssertionError("a test failed")
    return 1

def compiles(program):
    try:
        compile(program, "", "exec")
    except Exception:
        return False
    return True

# Where the solution is the body of a function, some indent it and others do not.
forms = [solution, "    " + solution, textwrap.indent(textwrap.dedent(solution), "    ")]
template = judge.get("exec_context", "[insert]")
fitting = (form for form in forms if compiles(template.replace("[insert]", form)))
solution = next(fitting, solution)

if not together:
    judge.update(exec=run_apart, exec_test=compare)
try:
    test_execution(solution)
    if together:
        passed = tests = 1
except BaseException as error:
    failure = f"{type(error).__name__}: {error}"
broken = failure if tests == 0 and not together else ""
if "test_string" in judge and (share or not failure):
    tests += 1
    try:
        judge["test_string"](solution)
        passed += 1
    except Exception as error:
        failure = failure or f"{type(error).__name__}: {error}"
if failure and passed == tests:
    tests += 1
"""


def strip_fence(solution: str) -> str:
    """The code of a solution that is one fenced block, any other solution as it is."""
    fenced = FENCE.match(solution)
    return fenced[1] if fenced else solution


def run_tests(
    sandbox: Sandbox,
    code_context: str,
    solution: str,
    *,
    together: bool = False,
    share: bool = False,
) -> float:
    """The share of a problem's tests that a solution passes; without `share`, 1.0 or 0.0.

    Args:
        sandbox: where both the judge and the candidate's program run.
        code_context: DS-1000's field of that name.
        solution: code to be put in the place of `[insert]`; indented where that needs it.
        together: the judge runs the candidate's program itself, unprotected from it.
        share: go on after a test that fails.

    Raises:
        SandboxError: the sandbox did not start.
        ValueError: the tests fail before they have run the solution.
    """
    loaded = False

    def answer(question: bytes) -> bytes:
        nonlocal loaded
        loaded = True
        if not question:
            return b""
        # The pickle comes from the judge, and is opened only in the candidate's sandbox.
        return sandbox.run(CANDIDATE, inputs=question, outputs=["result"]).reply

    inputs = {
        "code_context": code_context,
        "solution": solution,
        "together": together,
        "share": share,
    }
    outputs = ["passed", "tests", "broken"]
    judged = sandbox.run(JUDGE, inputs=inputs, outputs=outputs, answer=answer)
    if not loaded:
        raise ValueError(f"the problem's code_context does not run: {judged.detail[-500:]}")
    if judged.status != "done":
        return 0.0
    verdict = judged.values()
    if verdict["broken"]:
        raise ValueError(f"the problem's tests fail without any solution: {verdict['broken']}")
    passed, tests = verdict["passed"], verdict["tests"]
    return passed / tests if share else float(passed == tests)


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
        **kwargs: not used; verl may pass more.

    Raises:
        SandboxError: no backend works, or the sandbox did not start.
        ValueError: the problem's tests do not run, or belong to Matplotlib and not to `together`.
    """
    library = str((extra_info or {}).get("library", ""))
    if library == "Matplotlib" and library not in together:
        raise ValueError(
            "the tests of a Matplotlib problem look into the interpreter that ran the solution: "
            "leave such problems out (`tasks ds1000` does), or, where a solution may be trusted "
            "not to patch its tests, set reward_kwargs.together=[Matplotlib]"
        )
    sandbox = shared_sandbox(
        backend=backend,
        warm=WARM if warm else (),
        limits=Limits(seconds=float(seconds), memory=int(float(memory_gb) * (1 << 30))),
        unsafe=unsafe,
    )
    solution = strip_fence(solution_str)
    return run_tests(sandbox, ground_truth, solution, together=library in together, share=share)
