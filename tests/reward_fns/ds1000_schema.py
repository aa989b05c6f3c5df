"""DS-1000's schema: a problem's tests as the benchmark frames them."""

from dataclasses import dataclass, field
from typing import Any

FRAME = '''
import copy
{imports}

def generate_test_case(test_case_id):
    def define_test_input(test_case_id):
{cases}
        return test_input

    def generate_ans(data):
        {unpack} = copy.deepcopy(data)
{answer}

    test_input = define_test_input(test_case_id)
    expected_result = generate_ans(copy.deepcopy(test_input))
    return test_input, expected_result

def exec_test(result, ans):
{compare}

exec_context = r"""
{imports}
{unpack} = test_input
{body}
"""

def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    for i in range({count}):
        test_input, expected_result = generate_test_case(i + 1)
        test_env = {{"test_input": test_input}}
        exec(code, test_env)
        assert exec_test(test_env["result"], expected_result)
{strings}
'''

COMPARISONS = {
    "array": """
    try:
        np.testing.assert_allclose(result, ans)
        return 1
    except AssertionError:
        return 0
""",
    "frame": """
    try:
        pd.testing.assert_frame_equal(result, ans)
        return 1
    except AssertionError:
        return 0
""",
    "series": """
    try:
        pd.testing.assert_series_equal(result, ans, check_names=False)
        return 1
    except AssertionError:
        return 0
""",
    # The following also accept results that are not answers: empty, broadcast, or missing.
    "allclose": """
    return int(np.allclose(result, ans))
""",
    "all equal": """
    return int((result == ans).all())
""",
    "within a tolerance": """
    return 0 if np.max(np.abs(result - ans)) > 0.01 else 1
""",
    "scalars too": """
    np.testing.assert_allclose(result, ans)
    return 1
""",
    "pair by pair": """
    return int(all(np.allclose(one, other) for one, other in zip(result, ans)))
""",
    "equal": """
    try:
        assert result == ans
        return 1
    except Exception:
        return 0
""",
    "sparse": """
    assert scipy.sparse.issparse(result)
    assert result.shape == ans.shape
    assert (result != ans).nnz == 0
    return 1
""",
}


def indent(code: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line if line else line for line in code.strip().split("\n"))


@dataclass
class Problem:
    name: str
    library: str
    prompt: str
    cases: list[str]
    reference: str
    compare: str
    wrong: dict[str, str]
    unpack: str = "df"
    imports: str = "import numpy as np\nimport pandas as pd"
    body: str = "[insert]"
    reference_answer: str | None = None
    strings: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def code_context(self) -> str:
        lines = []
        for number, case in enumerate(self.cases, 1):
            lines += [f"if test_case_id == {number}:", indent(f"test_input = {case}", 4)]
        answer = self.reference_answer or self.reference + "\nreturn result"
        return FRAME.format(
            imports=self.imports,
            cases=indent("\n".join(lines), 8),
            unpack=self.unpack,
            answer=indent(answer, 8),
            compare=COMPARISONS[self.compare].strip("\n"),
            body=self.body,
            count=len(self.cases),
            strings=self.strings,
        )

    def row(self, number: int) -> dict[str, Any]:
        metadata = {
            "problem_id": number,
            "library_problem_id": number,
            "library": self.library,
            "test_case_cnt": len(self.cases),
            "perturbation_type": "Origin",
            "perturbation_origin_id": number,
        }
        return {
            "prompt": self.prompt,
            "reference_code": self.reference,
            "metadata": metadata,
            "code_context": self.code_context,
        }


def prompt(question: str, setup: str, target: str = "result") -> str:
    return (
        f"Problem:\n{question}\n\nA:\n<code>\n{setup}\n</code>\n"
        f"{target} = ... # put solution in this variable\nBEGIN SOLUTION\n<code>\n"
    )
