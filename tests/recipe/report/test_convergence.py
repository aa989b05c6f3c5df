import numpy as np
from scipy.stats import ttest_1samp

from recipe.shape_grpo.report.convergence import convergence_rows, steps_to_baseline
from recipe.shape_grpo.report.results import read_results
from tests.recipe.report.run_folders import write_run

RISING = [float(n) for n in range(1, 17)]


def test_steps_to_grpos_final_reward(tmp_path):
    write_run(tmp_path / "g1", [0.0], RISING, seed=1)
    write_run(tmp_path / "g2", [0.0], [n + 2 for n in RISING], seed=2)
    write_run(tmp_path / "p1", [0.0], [2 * n for n in RISING], method="praise", seed=1)
    write_run(tmp_path / "p2", [0.0], [0.0] * 16, method="praise", seed=2)
    results = read_results([tmp_path])
    # GRPO ends at 12.5 and 14.5; 2 * mean(n - 7 .. n) is 13 at n = 10.
    assert steps_to_baseline(results, "films", "praise").tolist() == [11, np.inf]
    assert steps_to_baseline(results, "films", "grpo").tolist() == [np.inf, 15]
    (grpo, praise) = convergence_rows(results)
    assert praise["steps to grpo's final reward"] == "not reached (1 of 2 runs)"
    assert grpo["steps to grpo's final reward"] == "not reached (1 of 2 runs)"


def test_what_is_ahead_on_the_way_is_seen_though_the_end_is_the_same(tmp_path):
    for seed, ahead in ((1, 1.0), (2, 2.0)):
        write_run(tmp_path / f"g{seed}", [0.0, 1.0, 1.0, 3.0], RISING, seed=seed)
        held_out = [9.0, 1.0 + ahead, 1.0, 3.0]
        write_run(tmp_path / f"p{seed}", held_out, RISING, method="praise", seed=seed)
    grpo, praise = convergence_rows(read_results([tmp_path]))
    # The differences are 1/3 and 2/3.
    interval = ttest_1samp([1 / 3, 2 / 3], 0).confidence_interval(0.95)
    expected = f"+0.500 [{interval.low:+.3f}, {interval.high:+.3f}]"
    assert praise["over training, minus grpo"] == expected
    assert grpo["over training, minus grpo"] == "-"


def test_without_grpo_there_are_no_steps_to_it(tmp_path):
    write_run(tmp_path / "p", [0.0], RISING, method="praise", seed=1)
    results = read_results([tmp_path])
    assert len(steps_to_baseline(results, "films", "praise")) == 0
    assert convergence_rows(results)[0]["steps to grpo's final reward"] == "-"
    write_run(tmp_path / "g", [0.0], RISING, seed=2)
    row = convergence_rows(read_results([tmp_path]))[1]
    assert row["steps to grpo's final reward"] == "16 (1 of 1 runs)"
    assert row["over training, minus grpo"] == "-"
