"""DS-1000 for multi-candidate training: prompts that ask for K solutions.

    python -m recipe.shape_grpo.tasks ds1000

writes `train.parquet` and `test.parquet` (verl's columns), `programs.json` and `summary.json`. The
problems are downloaded from the hub (`xlangai/DS-1000`), or read from `--problems FILE.jsonl[.gz]`.
Their authors ask others not to republish them, so do not publish the files. `--problems small` are
eight problems of this project (`small_problems.py`).

`programs.json` holds right programs per training prompt, which the warm start of a tiny policy
imitates: those of all prompts, or those of the prompt and its neighbours (`--neighbours`).

DS-1000 has no training part. This project splits it at random, with all variants of one original
problem on the same side; the paper's split is unknown.

Each problem's reference solution is run first, in the sandbox with the libraries installed here, or
on the Sandbox Fusion server that will run the solutions (`--sandbox_fusion_url`). A problem whose
reference fails (because it needs older libraries, or its result is not plain data) could never give
a reward and is left out; the summary counts these. Matplotlib's problems are left out unless
`--libraries` names them (`reward_fns/ds1000.py` says why).

    Yuhang Lai et al. 2023. DS-1000: A Natural and Reliable Benchmark for Data Science Code
    Generation. ICML 2023. https://ds1000-code-gen.github.io
"""

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from recipe.shape_grpo.common.files import begin
from recipe.shape_grpo.tasks.common import (
    Examples,
    Messages,
    answers_to_prompts,
    is_prepared,
    read_task,
    task_stamp,
    verl_row,
    write_task,
)
from recipe.shape_grpo.tasks.problem_files import SMALL, read_problems, right_programs
from reward_fns.ds1000 import compute_score

PROGRAMS = "programs.json"
FILES = ("train.parquet", "test.parquet", PROGRAMS, "summary.json")
LIBRARIES = ("Numpy", "Pandas", "Pytorch", "Scipy", "Sklearn", "Tensorflow")
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TEMPLATE = """\
{problem}

Write {count} solutions to this problem, as different from each other as you can. Each is run \
against hidden tests; the answer is as good as the best of the {count}.
A solution is the Python code that stands where the problem says "BEGIN SOLUTION": no Markdown, \
and nothing that the problem's own code has defined already. Write each solution between \
<candidate> and </candidate>, and write exactly {count}. For another problem (put the sum of the \
squares of the NumPy array x into result), an answer is:

{example}"""
SUMS = (
    "result = (x ** 2).sum()",
    "result = np.dot(x, x)",
    "result = np.sum(np.square(x))",
    "result = x @ x",
    "result = np.linalg.norm(x) ** 2",
    'result = np.einsum("i,i->", x, x)',
    "result = sum(value * value for value in x)",
    "result = np.inner(x, x)",
    "result = 0\nfor value in x:\n    result += value ** 2",
    "result = np.multiply(x, x).sum()",
)


@dataclass(frozen=True)
class TaskSettings:
    """Settings of the task; the same settings give the same files.

    Attributes:
        problems: a jsonl or jsonl.gz file in DS-1000's schema, "small" for this project's problems,
            or None for the hub's. A line may have a list "other_solutions" of further right
            programs.
        candidates: K, the number of solutions that a prompt asks for, at most ten.
        libraries: libraries whose problems are included, as [Numpy, Pandas].
        test_share: share of the original problems that become test prompts.
        check: leave out problems whose reference solution fails.
        seconds: time limit per test of a reference solution.
        sandbox_fusion_url: server that will run the solutions, if any; it runs the references too,
            with its libraries.
        neighbours: number of following prompts whose right programs, with the prompt's own, are the
            candidates of a warm start, so that the policy learns to read the prompt roughly. None:
            programs of all prompts, so that it learns programs only.
        seed: seed of the split.
    """

    problems: str | None = None
    candidates: int = 3
    libraries: tuple[str, ...] = LIBRARIES
    test_share: float = 0.2
    check: bool = True
    seconds: float = 60.0
    sandbox_fusion_url: str | None = None
    neighbours: int | None = None
    seed: int = 0

    @property
    def dataset(self) -> str:
        """Name of the dataset; this project's problems are a separate one."""
        return "ds1000_small" if self.problems == SMALL else "ds1000"


def prompt_messages(problem: str, candidates: int) -> Messages:
    """Return the prompt as chat messages.

    Raises:
        ValueError: `candidates` is not from 1 to 10.
    """
    if not 1 <= candidates <= len(SUMS):
        raise ValueError(
            f"candidates is {candidates}: use 1 to {len(SUMS)}, as many as the prompt has examples"
        )
    # The benchmark's own prompts end where a base model would continue.
    problem = problem.rstrip().removesuffix("<code>").rstrip()
    example = "\n".join(f"<candidate>\n{code}\n</candidate>" for code in SUMS[:candidates])
    content = TEMPLATE.format(problem=problem, count=NUMBERS[candidates - 1], example=example)
    return [{"role": "user", "content": content}]


def fails(problem: dict[str, Any], settings: TaskSettings) -> str | None:
    """Return why the problem's reference solution scores 0; None if it is right."""
    library = problem["metadata"]["library"]
    try:
        result = compute_score(
            "ds1000",
            problem["reference_code"],
            problem["code_context"],
            {"library": library},
            together=("Matplotlib",),
            seconds=settings.seconds,
            sandbox_fusion_url=settings.sandbox_fusion_url,
        )
    except ValueError as error:
        return str(error)
    return None if result["score"] == 1 else "the reference solution fails the tests"


def check_references(
    problems: list[dict[str, Any]], settings: TaskSettings
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return problems whose reference solution is right, and the number of others by library."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda problem: fails(problem, settings), problems)
        reasons = list(track(found, "running the reference solutions", total=len(problems)))
    kept = [problem for problem, reason in zip(problems, reasons, strict=True) if reason is None]
    left_out = Counter(
        problem["metadata"]["library"]
        for problem, reason in zip(problems, reasons, strict=True)
        if reason is not None
    )
    return kept, left_out


def origin(problem: dict[str, Any]) -> tuple[str, Any]:
    """Return the key of the original problem of which this is a variant."""
    metadata = problem["metadata"]
    problem_id = metadata.get("library_problem_id", metadata.get("problem_id"))
    return metadata["library"], metadata.get("perturbation_origin_id", problem_id)


def split(
    problems: list[dict[str, Any]], settings: TaskSettings
) -> dict[str, list[dict[str, Any]]]:
    """Split into training and test problems, with the same share of each library's originals."""
    rng = np.random.default_rng(settings.seed)
    test: set[tuple[str, Any]] = set()
    for library in sorted({problem["metadata"]["library"] for problem in problems}):
        found = {origin(p) for p in problems if p["metadata"]["library"] == library}
        origins = sorted(found, key=str)
        count = round(settings.test_share * len(origins))
        test |= {origins[i] for i in rng.permutation(len(origins))[:count]}
    return {
        "train": [problem for problem in problems if origin(problem) not in test],
        "test": [problem for problem in problems if origin(problem) in test],
    }


def programs_to_show(programs: list[list[str]], neighbours: int | None) -> list[list[str]]:
    """Return the programs with which a warm start answers each prompt.

    Args:
        programs: Right programs per prompt.
        neighbours: As in `TaskSettings`.
    """
    if neighbours is None:
        return [list(dict.fromkeys([*SUMS, *itertools.chain(*programs)]))] * len(programs)
    around = [*programs, *programs[:neighbours]]
    return [
        list(dict.fromkeys(itertools.chain(*around[row : row + neighbours + 1])))
        for row in range(len(programs))
    ]


def make_rows(
    problems: Iterable[dict[str, Any]], name: str, candidates: int
) -> list[dict[str, Any]]:
    """Return rows in verl's columns."""
    return [
        verl_row(
            "ds1000",
            "code",
            prompt_messages(problem["prompt"], candidates),
            problem["code_context"],
            split=name,
            index=index,
            problem=str(problem["metadata"].get("problem_id", index)),
            library=problem["metadata"]["library"],
        )
        for index, problem in enumerate(problems)
    ]


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, unless `output` holds the same task.

    Raises:
        ValueError: K is not from 1 to 10; no problem is left for training or for testing; a prompt
            and its neighbours have fewer than K programs; or `read_problems` fails.
    """
    stamp = task_stamp("ds1000", settings, prompt_messages("A problem.", settings.candidates))
    if is_prepared(output, stamp, FILES):
        return
    every = read_problems(settings.problems)
    problems = [p for p in every if p["metadata"]["library"] in settings.libraries]
    left_out: Counter[str] = Counter()
    if settings.check:
        problems, left_out = check_references(problems, settings)
    parts = split(problems, settings)
    if not parts["train"] or not parts["test"]:
        raise ValueError(
            f"{len(every)} problems, {len(problems)} of them usable, leave {len(parts['train'])} "
            f"for training and {len(parts['test'])} for testing: check --libraries and --test_share"
        )
    programs = [right_programs(problem) for problem in parts["train"]]
    shown = programs_to_show(programs, settings.neighbours)
    if min(map(len, shown)) < settings.candidates:
        raise ValueError(
            f"neighbours is {settings.neighbours}: some prompt and its neighbours have fewer than "
            f"{settings.candidates} right programs; use more, or null for those of all prompts"
        )
    begin(output)
    summary = {
        "read": len(every),
        "other_libraries": len(every) - len(problems) - left_out.total(),
        "reference_fails": dict(left_out),
        **{name: len(part) for name, part in parts.items()},
    }
    (output / PROGRAMS).write_text(json.dumps(programs, indent=2) + "\n")
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    rows = {name: make_rows(part, name, settings.candidates) for name, part in parts.items()}
    write_task(output, stamp, **rows)
    failing = ", ".join(f"{library} {count}" for library, count in left_out.items()) or "none"
    print(
        f"task: {summary['train']} training and {summary['test']} test prompts of {len(every)} "
        f"problems -> {output}\n  of other libraries: {summary['other_libraries']}; left out "
        f"because their reference solution fails here: {failing}"
    )


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Return examples from the task in `folder`: right programs, mostly of other problems."""
    programs = json.loads((folder / PROGRAMS).read_text())
    shown = programs_to_show(programs, read_task(folder)["neighbours"])
    texts = list(dict.fromkeys(itertools.chain(*shown)))
    return answers_to_prompts(folder, texts, rng, shown)
