"""Reward of one solution to a DS-1000 problem: 1 if it passes the problem's tests, else 0.

Written as every verl reward function is, and called once per candidate. Point verl at it with

    reward.custom_reward_function.path=reward_fns/ds1000.py

`python -m recipe.shape_grpo.prepare_ds1000` writes the prompts. Needs a sandbox
(`shape_grpo.sandbox`).

A problem's `code_context` holds its tests, and with them the answers: it runs in a sandbox of its
own, the judge. Where it calls `exec` on the program with the candidate inserted, that program runs
in another sandbox, which gets the test's input and gives back the variable `result` as plain data.
So the candidate's code never shares a process with answers, comparison or verdict.

What a candidate cannot give back as plain data (a figure, a fitted model, a generator) is wrong.
Matplotlib's problems test the interpreter's own state and cannot be split so; they run whole in one
sandbox, where a candidate could patch its tests, and only if the keyword `together` names them.
"""

import ast
import json
import re
from typing import Any

from shape_grpo.sandbox import Limits, Outcome, Sandbox, SandboxError, shared_sandbox

# DS-1000's problems come from 2022: what they import in 9 of 10 cases, for the warm pool.
WARM = ("numpy", "pandas", "scipy.stats", "scipy.sparse", "scipy.optimize", "scipy.interpolate")
WARM += ("sklearn.linear_model", "sklearn.preprocessing", "sklearn.feature_extraction.text")
FENCE = re.compile(r"\A\s*```[ \t]*\w*[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)

JUDGE = """
import pickle, sys
import values

passed = tests = 0
stop = object()

def run_apart(program, variables):
    global tests
    tests += 1
    reply = ask(pickle.dumps((program, variables)))
    try:
        variables["result"] = values.decode(pickle.loads(reply))
    except ValueError:
        variables["result"] = stop

def compare(result, answer):
    global passed
    try:
        right = result is not stop and bool(original(result, answer))
    except Exception:
        right = False
    passed += right
    if not right and not share:
        raise AssertionError("a test failed")
    return 1

namespace = {"__name__": "judge"}
exec(compile(code_context, "<code_context>", "exec"), namespace)
test_execution = namespace["test_execution"]
if not together:
    original = namespace["exec_test"]
    namespace.update(exec=run_apart, exec_test=compare)
failure = ""
try:
    test_execution(solution)
    if together:
        passed = tests = 1
except BaseException as error:
    failure = f"{type(error).__name__}: {error}"
    tests = max(tests, 1)
started = bool(tests)
if "test_string" in namespace and (share or not failure):
    tests += 1
    try:
        namespace["test_string"](solution)
        passed += 1
    except Exception as error:
        failure = failure or f"{type(error).__name__}: {error}"
"""
