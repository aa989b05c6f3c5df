"""Every key of a sweep, every metric and every row of the closing table is documented."""

import ast
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from recipe.shape_grpo.report.results import COLUMNS
from recipe.shape_grpo.runs.summary import MEANS
from recipe.shape_grpo.sweep.cells import Sweep, read_sweep
from shape_grpo.advantage import CandidateRecord
from tests.advantage.methods import candidate_metrics
from tests.docs.documented_metrics import METRICS_PAGE, undocumented

ROOT = Path(__file__).parents[2]
SWEEPS_PAGE = METRICS_PAGE.with_name("sweeps.md")


def rows(page, heading):
    table = page.read_text().partition(f"| {heading} |")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_key_of_a_sweep_has_a_row_with_its_default():
    defaults = {}
    for field in fields(Sweep):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        defaults[field.name] = default
    found = {}
    for name, default, meaning in rows(SWEEPS_PAGE, "key"):
        assert meaning
        value = MISSING if default == "required" else yaml.safe_load(default.strip("`"))
        found[name.strip("`")] = value
    assert found == defaults


def test_the_smallest_sweep_is_one(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", SWEEPS_PAGE.read_text(), flags=re.DOTALL)
    (tmp_path / "my_sweep.yaml").write_text(text)
    assert read_sweep(str(tmp_path / "my_sweep.yaml")).trainer == "trl"


def test_every_row_of_the_closing_table_is_there_with_its_metric():
    found = {metric.strip("`"): row for row, metric, _ in rows(METRICS_PAGE, "row")}
    assert found.pop("val-aux/SOURCE/reward/mean@N") == "held-out reward"
    assert found == MEANS


def test_the_two_numbers_of_the_best_candidate_differ_by_empty_responses():
    """As the table says: one counts responses without candidates, the other leaves them out."""
    records = [CandidateRecord([0.5], [0], [2]), CandidateRecord()]
    metrics = candidate_metrics(records, [4, 4])
    assert metrics["shape_grpo/best_candidate_reward"] == 0.5
    assert metrics["shape_grpo/responses_without_candidates"] == 0.5


def metrics_named_in(folder):
    """The names in the code that are metrics of this package, in full."""
    for path in Path(ROOT, folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r"shape_grpo/[a-z_]+", text):
                yield text


def test_every_metric_of_this_package_is_there():
    records = [
        CandidateRecord([1.0, 2.0], [0, 3], [2, 5], parts={"length": [1.0, 2.0]}),
        CandidateRecord(),
    ]
    names = {*candidate_metrics(records, [6, 4]), *metrics_named_in("shape_grpo")}
    assert {"shape_grpo/responses", "shape_grpo/reward/length/best"} <= names
    assert undocumented(names) == []


@pytest.mark.parametrize("names", [MEANS, COLUMNS], ids=["summary", "report"])
def test_every_metric_that_the_recipe_reads_is_there(names):
    assert undocumented(names) == []


def test_a_metric_that_is_not_documented_is_found():
    assert undocumented(["shape_grpo/new", "actor/entropy", "new/x"]) == ["new/x", "shape_grpo/new"]
