"""Wrong programs score 0, and right programs in any form that the tests accept score 1."""

import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from reward_fns.ds1000 import compute_score
from shape_grpo.sandbox import SandboxError
from shape_grpo.sandbox.inside import values
from tests.reward_fns.ds1000_mutants import ATTACKS, VALUES, mutant
from tests.reward_fns.ds1000_problems import PROBLEMS
from tests.reward_fns.ds1000_schema import Problem

sys.modules.setdefault("values", values)
from reward_fns.ds1000_scorer import count_passed  # noqa: E402

BY_NAME = {problem.name: problem for problem in PROBLEMS}


def passed_here(problem, solution):
    """Return the tests passed and their number; the program runs in this process."""
    tests = []

    def ask(question):
        if not tests:
            tests.append(int(question))
            return b""
        job = pickle.loads(question)
        try:
            exec(job["program"], job["variables"])
            return json.dumps({"result": values.encode(job["variables"]["result"])}).encode()
        except BaseException:
            return b"{}"

    return count_passed(problem.code_context, solution, False, True, ask), tests[0]


def accepts(problem, solution):
    """Return whether the problem's own tests, as the benchmark runs them, accept a solution."""
    scope = {}
    exec(problem.code_context, scope)
    try:
        scope["test_execution"](solution)
        if "test_string" in scope:
            scope["test_string"](solution)
    except Exception:
        return False
    return True


def test_there_are_enough_wrong_programs():
    assert len(PROBLEMS) >= 12
    assert len(VALUES) + len(ATTACKS) >= 30


@pytest.mark.parametrize("problem", PROBLEMS, ids=BY_NAME)
def test_wrong_values_pass_no_comparison(problem):
    comparisons = len(problem.cases)
    passed, _ = passed_here(problem, mutant(problem, ""))
    assert passed >= comparisons, "the programs that are changed must be right"
    for what, change in VALUES.items():
        passed, tests = passed_here(problem, mutant(problem, change))
        assert passed < tests, what


@pytest.mark.parametrize("name", ["numpy_function_body", "pandas_resample", "sklearn_vocabulary"])
def test_attacks_in_the_sandbox_earn_nothing(name):
    problem = BY_NAME[name]

    def score(change):
        solution = mutant(problem, change)
        return compute_score("ds1000", solution, problem.code_context, seconds=60)["score"]

    try:
        assert score("") == 1.0
    except SandboxError as error:
        pytest.skip(str(error))
    with ThreadPoolExecutor(2) as pool:
        scores = dict(zip(ATTACKS, pool.map(score, ATTACKS.values()), strict=True))
    assert scores == dict.fromkeys(ATTACKS, 0.0)


FORMS = {
    "as it is": "",
    "with the noise of another order of sums": "result = result * (1 + 1e-12)",
    "as a list": "result = np.asarray(result).tolist()",
    "in Fortran's order": "result = np.asfortranarray(result)",
    "as floats": "result = result.astype('float64')",
    "as short integers": "result = result.astype('int32')",
    "in single precision": "result = result.astype('float32')",
    "as a tuple": "result = tuple(result)",
    "alone in an array": "result = np.asarray([result])",
    "as one of NumPy's scalars": "result = np.float64(result)",
    "as one of Python's": "result = float(result)",
    "with another index type": "result.index = result.index.astype('int32')",
    "as a sparse array": "result = scipy.sparse.coo_array(result)",
}


@pytest.mark.parametrize("problem", PROBLEMS, ids=BY_NAME)
def test_right_programs_score_as_in_the_benchmark(problem):
    verdicts = []
    for what, change in FORMS.items():
        solution = mutant(problem, change)
        expected = accepts(problem, solution)
        passed, tests = passed_here(problem, solution)
        assert (passed == tests) == expected, what
        verdicts.append(expected)
    assert verdicts[0] or problem.strings


THREE = "np.array([1.0, 2.0, 3.0])"
RESULTS = {
    "an empty list": "result = []",
    "an empty column": "result = np.empty((0, 1))",
    "a column": "result = a[:, None] * 0 + 1",
    "NaN": "result = a * np.nan",
    "NA": "result = pd.array([pd.NA] * 3, 'Int64')",
    "one of three": "result = a[:1]",
    "a scalar": "result = a[0]",
}


@pytest.mark.parametrize("what", RESULTS)
@pytest.mark.parametrize(
    ("compare", "reference"),
    [
        ("allclose", "result = a"),
        ("allclose", "result = a * 0 + 1"),
        ("all equal", "result = a * 0 + 1"),
        ("within a tolerance", "result = a"),
        ("within a tolerance", "result = a * 0 + 1"),
        ("scalars too", "result = a * 0 + 1"),
        ("pair by pair", "result = [a[:1], a[1:], a[:0]]"),
    ],
)
def test_a_vacuous_comparison_is_not_passed(compare, reference, what):
    problem = Problem("", "Numpy", "", [THREE], reference, compare, {}, unpack="a")
    assert passed_here(problem, reference) == (1, 1)
    assert passed_here(problem, RESULTS[what]) == (0, 1)


def test_the_benchmarks_own_comparison_accepts_each_of_them():
    """Otherwise the test above would show nothing."""
    fooled = set()
    for compare in ("allclose", "all equal", "within a tolerance", "scalars too", "pair by pair"):
        problem = Problem("", "Numpy", "", [THREE], "result = a * 0 + 1", compare, {}, unpack="a")
        fooled |= {what for what, code in RESULTS.items() if accepts(problem, code)}
    assert fooled == set(RESULTS)


ANSWERS = {
    "lists in another order": ("result = [[1, 2], [3]]", "result = [[3], [1, 2]]", "sorted"),
    "a set for a set": ("result = {(1, 2), (3, 4)}", "result = {(3, 4), (1, 2)}", "set"),
    "lists for tuples": ("result = ((1, 2), (3, 4))", "result = [(1, 2), (3, 4)]", "list"),
    "a list for a set": ("result = {1, 2}", "result = [2, 1]", "set"),
    "a list for a range": ("result = range(3)", "result = [0, 1, 2]", "list"),
    "NaN for None": ("result = [1.0, None]", "result = [1.0, float('nan')]", "len"),
    "an object that nothing is known of": ("result = slice(3)", "result = slice(3)", "str"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_right_results_of_other_containers_still_pass(what):
    reference, solution, by = ANSWERS[what]
    problem = Problem("", "Numpy", "", ["1"], reference, "equal", {}, unpack="a")
    context = problem.code_context.replace("result == ans", f"{by}(result) == {by}(ans)")
    problem = type("Given", (), {"code_context": context})
    assert accepts(problem, solution)
    assert passed_here(problem, solution) == (1, 1)
