"""The scorer of DS-1000: code that runs a problem's own tests in a sandbox, and counts them.

`reward_fns/ds1000.py` sends this file into the sandbox, where the module `values` is that of
`shape_grpo/sandbox/inside`.

A problem's comparison may be vacuous: `np.allclose` accepts anything beside an empty array, and
`abs(result - answer) > tolerance` is false for NaN. So a result must first have the answer's shape
and as many missing values.
"""

import contextlib
import json
import pickle
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import values

Ask = Callable[[bytes], bytes]
NOTHING = object()


def items(value: Any) -> list[Any] | None:
    """Return the items of one of Python's own containers, None for any other value."""
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, set, frozenset, range)) else None


def shape(value: Any) -> tuple[Any, ...] | None:
    """Return the shape of an array, table or nested list; () for a scalar, None for anything else.

    If the items of a container differ, their shapes come last in sorted order, because a test may
    sort before it compares.
    """
    inside = items(value)
    if inside is None:
        known = hasattr(value, "shape")
        return tuple(value.shape) if known else () if pd.api.types.is_scalar(value) else None
    shapes = sorted((shape(item) or () for item in inside), key=repr)
    if shapes and shapes[0] != shapes[-1]:
        return (len(shapes), tuple(shapes))
    return (len(shapes), *(shapes[0] if shapes else ()))


def missing(value: Any) -> int:
    """Return the number of entries that are NaN, NA, NaT or None."""
    inside = items(value)
    if inside is not None:
        return sum(map(missing, inside))
    if hasattr(value, "isnan"):  # a tensor
        return int(value.isnan().sum())
    entries = value.tocoo().data if hasattr(value, "tocoo") else value
    return int(pd.isna(np.asarray(entries)).sum())


def is_like(result: Any, answer: Any) -> bool:
    """Return whether a comparison of result and answer would be meaningful.

    A single entry may be alone or in an array, because DS-1000's tests accept 5.0 for [5.0].
    """
    try:
        expected, holes = shape(answer), missing(answer)
    except Exception:  # an answer of an unknown type
        return True
    if expected is None:
        return True
    found = shape(result)
    single = found is not None and {*found, *expected} <= {1}
    return (found == expected or single) and missing(result) == holes


def compiles(program: str) -> bool:
    """Return whether a program is valid Python."""
    try:
        compile(program, "", "exec")
    except Exception:
        return False
    return True


def indented(solution: str, template: str) -> str:
    """Return the solution indented as the template needs it, such as for a function's body."""
    forms = [solution, "    " + solution, textwrap.indent(textwrap.dedent(solution), "    ")]
    fitting = (form for form in forms if compiles(template.replace("[insert]", form)))
    return next(fitting, solution)


def count_passed(code_context: str, solution: str, together: bool, share: bool, ask: Ask) -> int:
    """Return the number of a problem's tests that a solution passes.

    The tests are counted first without the solution, and the count is sent by `ask`: the solution
    causes every failure after that. A test is a comparison, or the check of the program's text that
    some problems have.

    Args:
        code_context: DS-1000's field of that name.
        solution: The code that replaces `[insert]`.
        together: Run the program here; else the caller runs it through `ask`, which returns JSON.
        share: Continue after a test that fails.
        ask: Function that sends bytes to the caller and returns its answer.

    Raises:
        ValueError: There are no tests.
        Exception: The tests fail without a solution.
    """
    scope: dict[str, Any] = {"__name__": "scorer"}
    exec(compile(code_context, "<code_context>", "exec"), scope)
    test_execution, exec_test = scope["test_execution"], scope["exec_test"]
    tests = int("test_string" in scope)
    passed = 0

    def leave_empty(program: str, variables: dict[str, Any]) -> None:
        variables["result"] = NOTHING

    def count(result: Any, answer: Any) -> int:
        nonlocal tests
        tests += 1
        return 1

    def run(program: str, variables: dict[str, Any]) -> None:
        variables["result"] = NOTHING
        try:
            if together:
                exec(program, variables)
            else:
                reply = ask(pickle.dumps({"program": program, "variables": variables}))
                variables["result"] = values.decode(json.loads(reply)["result"])
        except Exception:
            variables["result"] = NOTHING

    def compare(result: Any, answer: Any) -> int:
        nonlocal passed
        try:
            is_right = result is not NOTHING and is_like(result, answer)
            is_right = is_right and bool(exec_test(result, answer))
        except Exception:
            is_right = False
        if not is_right and not share:
            raise AssertionError("a test failed")
        passed += is_right
        return 1

    scope.update(exec=leave_empty, exec_test=count)
    test_execution("")
    if tests == 0:
        raise ValueError("test_execution never calls exec_test, and there is no test_string")
    ask(str(tests).encode())
    scope.update(exec=run, exec_test=compare)
    solution = indented(solution, scope.get("exec_context", "[insert]"))
    with contextlib.suppress(BaseException):  # with `together`, sys.exit of the solution
        test_execution(solution)
    if "test_string" in scope and (share or passed == tests - 1):
        with contextlib.suppress(Exception):
            scope["test_string"](solution)
            passed += 1
    return passed
