import io

import pytest
from rich.console import Console
from scipy.stats import ttest_1samp

from recipe.shape_grpo.quickstart import draw_curves, reward_table
from recipe.shape_grpo.report.results import read_results
from tests.recipe.report.run_folders import write_run, write_runs


@pytest.fixture
def results(tmp_path):
    """Training rewards that rise by 1 and by 2 per step, to 16 and 32."""
    steps = range(1, 17)
    held_out = {0: 0.5, 8: 16.5, 16: 32.5}
    sparse = [held_out.get(step) for step in range(17)]
    write_run(tmp_path / "s", sparse, [2.0 * n for n in steps], method="shape_grpo")
    write_run(tmp_path / "g", [0.25, *[None] * 15, 16.25], [1.0 * n for n in steps])
    return read_results([tmp_path / "s", tmp_path / "g"])


@pytest.fixture
def study(tmp_path):
    return read_results([write_runs(tmp_path / "study", {"shape_grpo": {1: 30.0, 2: 31.0}})])


def test_the_table_says_when_grpos_final_value_is_reached(results):
    rows = reward_table(results).rows.set_index("method")
    # 2 * mean(n - 7 .. n) >= 12.5 first at n = 10: 2 * 6.5 = 13.
    assert rows.loc["shape_grpo"].to_dict() == {
        "task": "films",
        "held-out, start": "0.500",
        "held-out, midway": "16.500",
        "held-out, end": "32.500",
        "training: steps to GRPO's final value": "10",
    }
    assert rows.loc["grpo", "training: steps to GRPO's final value"] == "16"


def test_without_grpo_there_is_no_column_of_its_value(results, tmp_path):
    rows = reward_table(read_results([tmp_path / "s"])).rows
    assert list(rows)[2:] == ["held-out, start", "held-out, midway", "held-out, end"]


def test_the_table_is_read_with_what_seeds_and_fixed_sets_give(results, study):
    table = reward_table(results, study, {"random": 3.92, "fixed": 4.63})
    low, high = ttest_1samp([30.0, 31.0], 0).confidence_interval(0.95)
    bands = table.rows.set_index("method")["end over seeds, 95%"].to_dict()
    assert bands == {"grpo": "-", "shape_grpo": f"{low:.2f} to {high:.2f}"}
    console = Console(record=True, width=80, file=io.StringIO())
    table.print(console)
    text = " ".join(console.export_text().split())
    assert "random 3.92, fixed 4.63" in text
    assert "scatter by 0.71 (standard deviation over 2 seeds)" in text
    assert "32.500" in text


def test_the_picture_is_a_png_with_the_bands_of_the_study(results, study, tmp_path):
    with_bands = draw_curves(results, tmp_path, study).read_bytes()
    assert with_bands.startswith(b"\x89PNG")
    assert with_bands != draw_curves(results, tmp_path).read_bytes()
