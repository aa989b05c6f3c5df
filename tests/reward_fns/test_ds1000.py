"""The reward of a solution, with real sandboxes, on problems in DS-1000's schema."""

import os
import struct

import pytest

from reward_fns import ds1000
from reward_fns.ds1000 import compute_score, identity, run_tests, strip_fence
from shape_grpo.sandbox import Limits, Outcome, Sandbox, SandboxError
from tests.reward_fns.ds1000_problems import PROBLEMS

BY_NAME = {problem.name: problem for problem in PROBLEMS}
MAXIMA = BY_NAME["numpy_row_maxima"]
FRAME = BY_NAME["pandas_last_of_group"]


@pytest.fixture(scope="module", autouse=True)
def sandbox_holds():
    try:
        compute_score("ds1000", "", MAXIMA.code_context)
    except SandboxError as error:
        pytest.skip(str(error))


def score(problem, solution, **options):
    extra_info = {"library": problem.library, "candidate_index": 0, "num_candidates": 3}
    return compute_score("ds1000", solution, problem.code_context, extra_info, **options)["score"]


def test_a_solution_that_is_remembered_runs_once(monkeypatch):
    runs = []
    run = Sandbox.run

    def counted(sandbox, code, **options):
        runs.append(code)
        return run(sandbox, code, **options)

    monkeypatch.setattr(Sandbox, "run", counted)
    right, wrong = MAXIMA.reference, MAXIMA.wrong["by columns"]
    assert [score(MAXIMA, code, remember=True) for code in (right, wrong)] == [1.0, 0.0]
    before = len(runs)
    assert before > 0
    assert [score(MAXIMA, code, remember=True) for code in (right, wrong)] == [1.0, 0.0]
    assert len(runs) == before
    # It runs again for another problem, for another reward, and without `remember`.
    assert score(FRAME, right, remember=True) == 0.0
    assert score(MAXIMA, wrong, remember=True, share=True) == 0.0
    assert score(MAXIMA, right) == 1.0
    assert len(runs) >= before + 3


def test_the_result_says_which_program_it_is():
    """In a fence or not, and whether its score was remembered or not."""
    for share, remember in [(False, False), (True, True), (True, True)]:
        for code in (MAXIMA.reference, f"```python\n{MAXIMA.reference}  # right\n```"):
            found = compute_score(
                "ds1000", code, MAXIMA.code_context, share=share, remember=remember
            )
            assert found == {"score": 1.0, "identity": identity(MAXIMA.reference)}


def test_errors_are_not_remembered(monkeypatch):
    def not_started(*arguments, **options):
        raise SandboxError("not started")

    with monkeypatch.context() as broken:
        broken.setattr(Sandbox, "run", not_started)
        with pytest.raises(SandboxError, match="not started"):
            score(FRAME, FRAME.reference, remember=True)
    assert score(FRAME, FRAME.reference, remember=True) == 1.0


def test_enough_problems_of_each_library():
    libraries = [problem.library for problem in PROBLEMS]
    assert len(libraries) >= 12
    assert set(libraries) == {"Numpy", "Pandas", "Scipy", "Sklearn"}


@pytest.mark.parametrize("problem", PROBLEMS, ids=BY_NAME)
def test_reference_solution_passes(problem):
    assert score(problem, problem.reference) == 1.0
    assert score(problem, problem.reference, share=True) == 1.0


@pytest.mark.parametrize(
    ("problem", "reason"),
    [(problem, reason) for problem in PROBLEMS for reason in problem.wrong],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_wrong_solution_fails(problem, reason):
    assert score(problem, problem.wrong[reason]) == 0.0


@pytest.mark.parametrize(
    ("problem", "solution", "share"),
    [
        (MAXIMA, "result = a / a.max(axis=0)", 0.0),
        (BY_NAME["numpy_runs"], "result = np.array([2, 3, 1])", 1 / 3),
        (BY_NAME["numpy_no_loops"], BY_NAME["numpy_no_loops"].wrong["right, with a loop"], 2 / 3),
        (BY_NAME["pandas_category"], "1 / 0", 0.0),
    ],
)
def test_share_counts_the_tests_passed(problem, solution, share):
    assert score(problem, solution, share=True) == pytest.approx(share)
    assert score(problem, solution) == 0.0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\ny = 2\n```", "x = 1\ny = 2"),
        ("```\nx = 1\n```\n", "x = 1"),
        ("\n ```py \n  x = 1\n ```", "  x = 1"),
        ("```python\n```", ""),
        ("x = '```'", "x = '```'"),
        ("x = 1", "x = 1"),
        ("```python\nx = 1\n``` ```\n ", "x = 1\n```"),
        ("```python`\nx = 1\n```", "```python`\nx = 1\n```"),
        ("```python\nx = 1", "```python\nx = 1"),
        ("Here it is:\n```python\nx = 1\n```", "Here it is:\n```python\nx = 1\n```"),
    ],
)
def test_fence_is_stripped(text, code):
    assert strip_fence(text) == code


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        ("    s = (a ** 2).sum(axis=1)\n    return a[s <= 1]", "indented as in the problem"),
        ("s = (a ** 2).sum(axis=1)\n    return a[s <= 1]", "the first line's indent was stripped"),
        ("s = (a ** 2).sum(axis=1)\nreturn a[s <= 1]", "not indented"),
        ("```python\ns = (a ** 2).sum(axis=1)\nreturn a[s <= 1]\n```", "fenced, not indented"),
        ("if True:\n    s = (a ** 2).sum(axis=1)\nreturn a[s <= 1]", "blocks of its own"),
    ],
)
def test_function_bodies_may_be_indented_or_not(solution, reason):
    assert score(BY_NAME["numpy_function_body"], solution) == 1.0, reason


PATCHES = {
    "numpy's comparison": "np.testing.assert_allclose = lambda *a, **k: None\nresult = a",
    "deep inside numpy": "import numpy.testing._private.utils as u\n"
    "u.assert_array_compare = lambda *a, **k: None\nresult = a",
    "equality of arrays": "np.allclose = np.array_equal = lambda *a, **k: True\nresult = a",
    "assert itself": "import builtins\nbuiltins.AssertionError = ValueError\nresult = a",
    "an array that equals everything": "class A(np.ndarray):\n"
    "    def __eq__(self, other): return np.array(True)\n"
    "    def __array_ufunc__(self, *a, **k): return np.array(True)\n"
    "    def __array_function__(self, *a, **k): return None\n"
    "result = a.view(A)",
    "masked entries": "result = np.ma.masked_all(a.shape)",
    "a result that answers everything": "from unittest.mock import MagicMock\nresult = MagicMock()",
    "import hooks": "import sys\nsys.modules['numpy.testing'] = None\nresult = a",
    "sys.exit": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "exit at the end": "import atexit, os\natexit.register(os._exit, 0)\nresult = a",
    "the tests' code": "import sys\nfor depth in range(20):\n"
    "    try: frame = sys._getframe(depth)\n    except ValueError: break\n"
    "    frame.f_globals.update(passed=2, tests=2, is_like=lambda *a: True)\n"
    "    if 'exec_test' in frame.f_locals:\n"
    "        frame.f_locals['exec_test'].__code__ = (lambda *a: 1).__code__\nresult = a",
    "the answers, from frames": "import sys, gc\nfound = [f for o in gc.get_objects() "
    "if isinstance(o, dict) for f in [o.get('generate_test_case') or o.get('expected_result')] "
    "if f is not None]\nresult = found[0](1)[1] if found else a",
    "the judge, by name": "import glob\nfor path in glob.glob('/proc/*/mem'):\n"
    "    open(path, 'r+b')\nresult = a",
}


@pytest.mark.parametrize("what", PATCHES)
def test_patching_and_leaving_early_score_zero(what):
    assert score(MAXIMA, PATCHES[what]) == 0.0
    assert score(MAXIMA, PATCHES[what], share=True) == 0.0


def test_the_patches_are_real_attacks():
    """They succeed where tests and solution share a process, as with `together`."""
    for what in ("numpy's comparison", "the tests' code"):
        assert score(MAXIMA, PATCHES[what], together=["Numpy"]) == 1.0, what


@pytest.mark.parametrize("method", ["equals", "shape", "dtypes", "columns"])
def test_a_frame_with_its_own_methods_earns_nothing(method):
    solution = f"class F(pd.DataFrame):\n    {method} = property(lambda self: lambda *a: True)\n"
    assert score(FRAME, solution + "result = F(df)") == 0.0
    assert score(FRAME, f"result = df\nobject.__setattr__(result, '{method}_', set)") == 0.0


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"values": {"passed": 2, "tests": 2, "broken": ""}}', "the judge's verdict"),
        (b'{"values": {"result": 1}}', "a number"),
        (b'{"values": {"result": {"is": "nothing"}}}', "no value"),
        (b'{"values": {}}', "no result"),
        (b'{"values": 3}', "no variables"),
        (b"\xff", "no JSON"),
    ],
)
def test_forged_replies_earn_nothing(payload, reason):
    frame = struct.pack(">cQ", b"=", len(payload)) + payload
    solution = f"import os, time\nfor fd in range(3, 200):\n    try: os.write(fd, {frame!r})\n"
    solution += "    except OSError: pass\ntime.sleep(1)\nresult = a"
    assert score(MAXIMA, solution) == 0.0, reason


@pytest.mark.parametrize("name", ["scipy_root", "scipy_test"])
@pytest.mark.parametrize("empty", ["[]", "np.empty((0, 1))", "np.empty((2, 0))"])
def test_an_empty_result_earns_nothing(name, empty):
    assert score(BY_NAME[name], f"result = {empty}", share=True) == 0.0


WRITE_REPLY = (
    "import os, struct\npayload = {payload}\n"
    "frame = struct.pack('>cQ', b'=', len(payload)) + payload\n"
    "for fd in range(3, 200):\n    try: os.write(fd, frame)\n    except OSError: pass\n"
    "os._exit(0)"
)
NESTED = """b'{"values": {"result": ' + b"[" * 600 + b"]" * 600 + b"}}\""""


def test_a_reply_too_deep_to_decode_is_one_test_failed_and_shortens_nothing():
    attack = WRITE_REPLY.format(payload=NESTED).replace("\n", "\n    ")
    solution = f"result = np.array([2, 3, 1])\nif len(a) == 1:\n    {attack}"
    assert score(BY_NAME["numpy_runs"], solution, share=True) == pytest.approx(1 / 3)


CLAIMS = ["NaN", "Infinity", "null", "true", "-1", "3", "2.0", "1e3", '"2"', "[2]", "{}", "1" * 99]


@pytest.mark.parametrize("share", [False, True])
def test_a_forged_verdict_that_is_no_number_of_tests_earns_nothing(share):
    payloads = [f'{{"values": {{"passed": {claim}}}}}' for claim in CLAIMS]
    payloads += ['{"values": {}}', '{"values": []}', '{"values": {"tests": 0}}', "[" * 10_000]
    for payload in payloads:
        attack = WRITE_REPLY.format(payload=payload.encode())
        assert score(MAXIMA, attack, together=["Numpy"], share=share) == 0.0, payload


class Brittle:
    """Sandbox that fails with some programs, and not by a SandboxError.

    Args:
        breaks: Function of a run's code and inputs that says whether it fails.
    """

    def __init__(self, breaks):
        self.sandbox = Sandbox("none", unsafe=True)
        self.breaks = breaks

    def run(self, code, *, inputs=b"", **options):
        if self.breaks(code, inputs):
            raise RecursionError("in the clean-up")
        return self.sandbox.run(code, inputs=inputs, **options)


def test_code_that_crashes_the_sandbox_scores_zero():
    brittle = Brittle(lambda code, inputs: b"crash" in inputs if type(inputs) is bytes else False)
    right = f"crash = 0\n{MAXIMA.reference}"
    assert run_tests(brittle, MAXIMA.code_context, right, share=True) == 0.0
    assert run_tests(brittle, MAXIMA.code_context, MAXIMA.reference) == 1.0


def test_code_that_crashes_the_scorers_sandbox_scores_zero_too():
    brittle = Brittle(lambda code, inputs: "crash" in str(inputs))
    right = f"crash = 0\n{MAXIMA.reference}"
    assert run_tests(brittle, MAXIMA.code_context, right, together=True) == 0.0
    assert run_tests(brittle, MAXIMA.code_context, MAXIMA.reference, together=True) == 1.0


def test_a_sandbox_that_crashes_with_every_program_is_an_error():
    brittle = Brittle(lambda code, inputs: "def count_passed(" not in code)
    with pytest.raises(SandboxError, match="fails with every program"):
        run_tests(brittle, MAXIMA.code_context, MAXIMA.reference)


class Short:
    """Sandbox whose scorer times out in the comparison.

    Args:
        ends: Function of the solution that says whether it does.
    """

    def __init__(self, ends):
        self.ends = ends

    def run(self, code, *, inputs, answer, **options):
        answer(b"2")
        if self.ends(inputs["solution"]):
            return Outcome("timeout", "it did not finish in time")
        return Outcome("done", reply=b'{"passed": 2}')


def test_tests_that_time_out_score_zero_only_if_they_end_without_the_solution():
    assert run_tests(Short(lambda solution: solution != ""), "", "slow to compare") == 0.0
    assert run_tests(Short(lambda solution: False), "", "right") == 1.0
    with pytest.raises(SandboxError, match="short of time or memory"):
        run_tests(Short(lambda solution: True), "", "right")


def test_the_log_says_which_sandbox_it_is(caplog, monkeypatch):
    monkeypatch.setattr(ds1000, "_announced", [])
    with caplog.at_level("WARNING"):
        score(MAXIMA, "")
        score(MAXIMA, "")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("DS-1000: programs run in ")


def test_an_endless_solution_is_wrong():
    assert score(MAXIMA, "while True: pass", seconds=2) == 0.0


def test_solutions_do_not_see_the_environment(monkeypatch):
    monkeypatch.setenv("ANSWER", "0.5")
    assert "ANSWER" in os.environ
    solution = "import os\nif 'ANSWER' in os.environ: result = a / a.max(axis=1, keepdims=True)"
    assert score(MAXIMA, solution + "s") == 0.0


@pytest.mark.parametrize(
    ("context", "what"),
    [
        ("import nowhere", "do not run: .*nowhere"),
        ("def test_execution(solution): pass", "do not run: .*exec_test"),
        (
            MAXIMA.code_context.replace("copy.deepcopy(test_input)", "1 / 0"),
            "do not run: .*ZeroDivisionError",
        ),
        (
            MAXIMA.code_context.replace("def generate_test_case", "def other"),
            "do not run: .*generate_test_case",
        ),
        ("x = (", "do not run: .*SyntaxError"),
        (MAXIMA.code_context.replace("range(2)", "range(0)"), "never calls exec_test"),
    ],
)
def test_a_broken_problem_is_an_error(context, what):
    with pytest.raises(ValueError, match=f"(?s){what}"):
        compute_score("ds1000", "result = 1", context)


def test_a_missing_sandbox_is_an_error():
    with pytest.raises(SandboxError, match="isolates nothing"):
        score(MAXIMA, MAXIMA.reference, backend="none")


PLOT = """
import numpy as np
import matplotlib.pyplot as plt
def generate_test_case(test_case_id):
    return None, None
def exec_test(result, ans):
    line, = plt.gca().get_lines()
    return int(line.get_linestyle() == "--")
exec_context = "import matplotlib.pyplot as plt\\n[insert]\\nresult = None"
def test_execution(solution: str):
    test_env = {"test_input": None}
    exec(exec_context.replace("[insert]", solution), test_env)
    assert exec_test(test_env["result"], None)
"""


def test_matplotlib_is_refused_unless_it_may_run_with_its_tests():
    plot = {"solution_str": "plt.plot([1, 2], '--')", "ground_truth": PLOT}
    plot |= {"data_source": "ds1000", "extra_info": {"library": "Matplotlib"}}
    with pytest.raises(ValueError, match="together"):
        compute_score(**plot)
    pytest.importorskip("matplotlib")
    assert compute_score(**plot, together=["Matplotlib"], seconds=60)["score"] == 1.0
    wrong = {**plot, "solution_str": "plt.plot([1, 2], '-')"}
    assert compute_score(**wrong, together=["Matplotlib"], seconds=60)["score"] == 0.0


def test_without_the_warm_pool_too():
    try:
        sandbox = Sandbox("bubblewrap", limits=Limits(seconds=60))
    except SandboxError as error:
        pytest.skip(str(error))
    problem = BY_NAME["numpy_runs"]
    wrong = problem.wrong["right for the first case only"]
    assert run_tests(sandbox, problem.code_context, wrong, share=True) == pytest.approx(1 / 3)
