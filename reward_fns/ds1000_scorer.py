"""What runs in the judge's sandbox (`reward_fns/ds1000.py`): a problem's own tests, counted.

Its code runs there under the names of the sandbox: `values` is `shape_grpo/sandbox/inside`'s.

A problem's comparison may be vacuous: `np.allclose` holds for anything beside an empty array, and
`abs(result - answer) > tolerance` is false of NaN. So a result must first be like the answer: of
its shape, with as many missing values.
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
    """The items of one of Python's own containers, None for any other value."""
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, set, frozenset, range)) else None


def shape(value: Any) -> tuple[Any, ...] | None:
    """Sides of an array, a table or a nested list, () for a scalar, None if it is none of them.

    Where the items of a container differ, their shapes stand at the end, in an order of their own:
    a test may sort before it compares.
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
    """The number of its NaN, NA, NaT and None."""
    inside = items(value)
    if inside is not None:
        return sum(map(missing, inside))
    if hasattr(value, "isnan"):  # a tensor
        return int(value.isnan().sum())
    entries = value.tocoo().data if hasattr(value, "tocoo") else value
    return int(pd.isna(np.asarray(entries)).sum())


def is_like(result: Any, answer: Any) -> bool:
    """Whether their comparison would mean something.

    One entry is as good as another, alone or in an array: DS-1000's tests take 5.0 for [5.0].
    """
    try:
        wanted, holes = shape(answer), missing(answer)
    except Exception:  # an answer of a kind that is not known here
        return True
    if wanted is None:
        return True
    found = shape(result)
    single = found is not None and {*found, *wanted} <= {1}
    return (found == wanted or single) and missing(result) == holes


def compiles(program: str) -> bool:
    """Whether it is Python."""
    try:
        compile(program, "", "exec")
    except Exception:
        return False
    return True


def indented(solution: str, template: str) -> str:
    """The solution as it fits: where it is a function's body, some indent it, others do not."""
    forms = [solution, "    " + solution, textwrap.indent(textwrap.dedent(solution), "    ")]
    fitting = (form for form in forms if compiles(template.replace("[insert]", form)))
    return next(fitting, solution)


def judge(code_context: str, solution: str, together: bool, share: bool, ask: Ask) -> int:
    """The number of a problem's tests that a solution passes.

    Its tests are counted before the solution is looked at, and the count is told by `ask`: what
    fails from then on is the solution's doing. A test is a comparison, or the check of the
    program's text that some problems have.

    Args:
        code_context: DS-1000's field of that name.
        solution: The code in the place of `[insert]`.
        together: Run the program here; else `ask` has it run, and returns the result as JSON.
        share: Go on after a test that fails.
        ask: Sends bytes to the caller, returns its answer.

    Raises:
        ValueError: There are no tests.
        Exception: Whatever they raise without a solution.
    """
    scope: dict[str, Any] = {"__name__": "judge"}
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
            right = result is not NOTHING and is_like(result, answer)
            right = right and bool(exec_test(result, answer))
        except Exception:
            right = False
        if not right and not share:
            raise AssertionError("a test failed")
        passed += right
        return 1

    scope.update(exec=leave_empty, exec_test=count)
    test_execution("")
    if tests == 0:
        raise ValueError("test_execution calls exec_test not once, and there is no test_string")
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
