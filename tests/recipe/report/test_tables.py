import io

import numpy as np
import pytest
from rich.console import Console
from rliable import metrics
from scipy.stats import ttest_1samp, ttest_rel

from recipe.shape_grpo.report.results import read_results
from recipe.shape_grpo.report.statistics import probability_of_improvement
from recipe.shape_grpo.report.tables import (
    ablation_table,
    all_tables,
    cost_table,
    main_table,
    overall_table,
    rate_table,
)
from tests.recipe.report.run_folders import write_run, write_runs

FINALS = {
    "grpo": {1: 1.0, 2: 2.0, 3: 3.0},
    "praise": {1: 2.5, 2: 2.25, 3: 4.0},
}


def t_interval(values):
    interval = ttest_1samp(values, 0).confidence_interval(0.95)
    return interval.low, interval.high


def numbers(text):
    """'1.0 [0.5, 1.5]' -> [1.0, 0.5, 1.5]"""
    return [float(part) for part in text.replace("[", "").replace("]", "").replace(",", "").split()]


def rows_of(table):
    return {row["method"]: row for row in table.rows.to_dict("records")}


def test_means_and_paired_differences_with_their_intervals(tmp_path):
    rows = rows_of(main_table(read_results([write_runs(tmp_path, FINALS)])))
    assert rows["grpo"]["seeds"] == "3"
    for method, finals in FINALS.items():
        mean, *interval = numbers(rows[method]["held-out reward"])
        assert mean == pytest.approx(np.mean(list(finals.values())), abs=5e-4)
        assert interval == pytest.approx(t_interval(list(finals.values())), abs=5e-4)
    # By seed: 1.5, 0.25, 1.0.
    difference, *interval = numbers(rows["praise"]["minus grpo, same seeds"])
    assert difference == pytest.approx(2.75 / 3, abs=5e-4)
    assert interval == pytest.approx(t_interval([1.5, 0.25, 1.0]), abs=5e-4)
    ours, theirs = (list(FINALS[method].values()) for method in ("praise", "grpo"))
    paired = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert interval == pytest.approx([paired.low, paired.high], abs=5e-4)
    # Better in 2 + 2 + 3 of 9 pairs.
    assert numbers(rows["praise"]["P(better than grpo)"])[0] == pytest.approx(7 / 9, abs=5e-3)
    assert rows["grpo"]["P(better than grpo)"] == "-"


def test_differences_are_over_common_seeds_only(tmp_path):
    finals = {"grpo": {1: 1.0, 2: 2.0, 9: 50.0}, "praise": {1: 2.0, 2: 4.0, 8: -50.0}}
    rows = rows_of(main_table(read_results([write_runs(tmp_path, finals)])))
    assert numbers(rows["praise"]["minus grpo, same seeds"])[0] == 1.5


def test_no_common_seed_is_said(tmp_path):
    finals = {"grpo": {1: 1.0, 2: 2.0}, "praise": {3: 2.0, 4: 4.0}}
    rows = rows_of(main_table(read_results([write_runs(tmp_path, finals)])))
    assert rows["praise"]["minus grpo, same seeds"] == "no seed in common"


def test_one_seed_has_no_interval(tmp_path):
    finals = {"grpo": {1: 1.0}, "praise": {1: 2.0}}
    rows = rows_of(main_table(read_results([write_runs(tmp_path, finals)])))
    assert rows["grpo"]["held-out reward"] == "1.000 (one seed: an anecdote)"
    assert rows["praise"]["minus grpo, same seeds"] == "+1.000 (one seed: an anecdote)"
    assert rows["praise"]["P(better than grpo)"] == "1.00 (one seed: an anecdote)"


def test_a_missing_baseline_is_said(tmp_path):
    results = read_results([write_runs(tmp_path, {"praise": FINALS["praise"]})])
    table = main_table(results)
    assert rows_of(table)["praise"]["minus grpo, same seeds"] == "-"
    assert "There is no run of grpo to compare with for: films." in table.caption
    assert overall_table(results).rows.empty


@pytest.mark.parametrize("ties", [False, True])
def test_the_probability_of_improvement_is_rliables(ties):
    generator = np.random.default_rng(0)
    for _ in range(20):
        ours, theirs = generator.normal(size=5), generator.normal(size=4)
        if ties:
            ours, theirs = ours.round(), theirs.round()
        expected = metrics.probability_of_improvement(ours[:, None], theirs[:, None])
        estimate = probability_of_improvement(ours, theirs)
        assert estimate.value == pytest.approx(expected)
        assert estimate.low <= expected <= estimate.high


def test_over_all_tasks_each_counts_by_its_own_grpo(tmp_path):
    write_runs(tmp_path / "a", FINALS)
    tenfold = {method: {s: 10 * v for s, v in of.items()} for method, of in FINALS.items()}
    # A seed that one task lacks is left out of all.
    tenfold["praise"][4] = 100.0
    write_runs(tmp_path / "b", tenfold, task="books")
    rows = rows_of(overall_table(read_results([tmp_path])))
    assert rows["praise"]["tasks x seeds"] == "2 x 3"
    # 2.5, 2.25, 4 over a mean of 2, twice; the middle half of the six sorted values.
    value = numbers(rows["praise"]["interquartile mean, grpo = 1"])[0]
    assert value == pytest.approx(np.mean([1.125, 1.25, 1.25, 2.0]), abs=5e-4)
    assert numbers(rows["praise"]["P(better than grpo)"])[0] == pytest.approx(7 / 9, abs=5e-3)


def test_overall_numbers_are_the_same_each_time(tmp_path):
    write_runs(tmp_path / "a", FINALS)
    write_runs(tmp_path / "b", FINALS, task="books")
    results = read_results([tmp_path])
    np.random.seed(1)
    first = overall_table(results).rows
    following = np.random.random()
    np.random.seed(1)
    assert np.random.random() == following, "the caller's random numbers were touched"
    assert overall_table(results).rows.equals(first)


def test_an_ablation_changes_one_thing(tmp_path):
    choices = {
        "shape": {"advantage": "reweight", "allocator": "shapley"},
        "corrected": {"advantage": "reweight", "allocator": "shapley", "length_correction": True},
        "contrasted": {"advantage": "contrast", "allocator": "shapley"},
        "praised": {
            "advantage": "praise",
            "allocator": "beta_shapley",
            "allocator_options": {"alpha": 3},
        },
    }
    for number, (method, block) in enumerate(choices.items()):
        finals = {method: {seed: number + seed / 4 for seed in (1, 2)}}
        write_runs(tmp_path, finals, settings={"shape_grpo": block})
    # GRPO's settings may hold the block's defaults, which it does not use.
    write_runs(tmp_path, {"grpo": {1: 0.0, 2: 0.0}}, settings={"shape_grpo": choices["shape"]})
    rows = ablation_table(read_results([tmp_path])).rows
    assert rows[["varied", "value", "method"]].values.tolist() == [
        ["advantage", "reweight", "shape"],
        ["advantage", "contrast", "contrasted"],
        ["length correction", "False", "shape"],
        ["length correction", "True", "corrected"],
    ]
    assert [numbers(text)[0] for text in rows["minus the first"][[1, 3]]] == [2.0, 1.0]
    assert rows["the same"][0] == "allocator shapley, length correction False"


def test_the_cost_of_a_run(tmp_path):
    write_run(tmp_path / "p1", [0.0], [1.0] * 16, method="praise")
    row = rows_of(cost_table(read_results([tmp_path])))["praise"]
    assert row["seconds per step"].startswith("2.000")
    assert row["minutes per run"] == "0.5"


def test_learning_rates_are_listed_where_several_were_tried(tmp_path):
    write_run(tmp_path / "g", [0.0, 1.0])
    for rate, held_out in ((1e-3, [0.0, 2.0, 2.0]), (1e-2, [0.0, 3.0, 0.5])):
        write_run(tmp_path / f"p{rate}", held_out, method="praise", learning_rate=rate, steps=1)
    rows = rate_table(read_results([tmp_path])).rows
    assert rows.drop(columns=["task", "seeds"]).values.tolist() == [
        ["praise", "0.001", "2.000", "2.000", "yes"],
        ["praise", "0.01", "1.750", "0.500", ""],
    ]


def test_tables_are_written_as_markdown_and_latex_and_printed(tmp_path):
    results = read_results([write_runs(tmp_path / "runs", FINALS)])
    for table in all_tables(results):
        table.write(tmp_path)
    text = (tmp_path / "main.md").read_text()
    assert "| films | grpo | 3 | 2.000 [-0.484, 4.484] | - | - |" in text
    latex = (tmp_path / "main.tex").read_text()
    assert "\\toprule" in latex and "\\label{tab:main}" in latex and "95\\%" in latex
    # No run names an advantage, so there is no ablation.
    assert not (tmp_path / "ablation.md").exists()
    for width, has_room in ((160, True), (80, False)):
        console = Console(record=True, width=width, file=io.StringIO())
        main_table(results).print(console)
        printed = console.export_text()
        assert "praise" in printed and ("P(better than" in printed) == has_room
