import itertools

import numpy as np
import pytest

from recipe.shape_grpo.report.convergence import (
    convergence_rows,
    share_of_baselines_steps,
    steps_to_baseline,
)
from recipe.shape_grpo.report.curves import WINDOW
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
    assert grpo["share of grpo's steps"].startswith("1.00")


def first_step(curves, level):
    """By hand: the first step at which the median of the smoothed curves is at the level; else the
    last."""
    for step in range(WINDOW, len(curves[0]) + 1):
        if np.median([smooth(curve, step) for curve in curves]) >= level - 1e-12:
            return step
    return len(curves[0])


def smooth(curve, step):
    return np.mean(curve[step - WINDOW : step])


def test_the_share_of_grpos_steps_is_of_median_curves_with_an_interval_over_seeds(tmp_path):
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for seed in range(3):
        theirs.append([n + rng.normal() for n in RISING])
        ours.append([min(1.6 * n, 16) + rng.normal() for n in RISING])
        write_run(tmp_path / f"g{seed}", [0.0], theirs[-1], seed=seed)
        write_run(tmp_path / f"p{seed}", [0.0], ours[-1], method="praise", seed=seed)

    def share(places):
        baseline = [theirs[place] for place in places]
        level = np.median([smooth(curve, len(curve)) for curve in baseline])
        return first_step([ours[place] for place in places], level) / first_step(baseline, level)

    shares = [share(places) for places in itertools.product(range(3), repeat=3)]
    estimate = share_of_baselines_steps(read_results([tmp_path]), "films", "praise")
    assert estimate.value == pytest.approx(share(range(3)))
    assert estimate.value < 1
    low, high = np.percentile(shares, [2.5, 97.5], method="inverted_cdf")
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_a_curve_that_never_gets_there_counts_with_its_last_step(tmp_path):
    write_run(tmp_path / "g", [0.0], [1.0] * 8 + [9.0] * 4 + [5.0] * 4)
    write_run(tmp_path / "p", [0.0], [0.0] * 16, method="praise")
    estimate = share_of_baselines_steps(read_results([tmp_path]), "films", "praise")
    # The mean of eight is 7 after 16 steps, and was above it at none before.
    assert (estimate.value, estimate.low) == (1.0, None)


def test_what_is_ahead_on_the_way_is_seen_though_the_end_is_the_same(tmp_path):
    for seed, ahead in ((1, 1.0), (2, 2.0)):
        write_run(tmp_path / f"g{seed}", [0.0, 1.0, 1.0, 3.0], RISING, seed=seed)
        held_out = [9.0, 1.0 + ahead, 1.0, 3.0]
        write_run(tmp_path / f"p{seed}", held_out, RISING, method="praise", seed=seed)
    grpo, praise = convergence_rows(read_results([tmp_path]))
    assert praise["over training, minus grpo"].startswith("+0.500 [+0.333, +0.667]")
    assert grpo["over training, minus grpo"] == "-"


def test_without_grpo_or_a_common_seed_there_is_no_share(tmp_path):
    write_run(tmp_path / "p", [0.0], RISING, method="praise", seed=1)
    assert share_of_baselines_steps(read_results([tmp_path]), "films", "praise") is None
    write_run(tmp_path / "g", [0.0], RISING, seed=2)
    results = read_results([tmp_path])
    assert share_of_baselines_steps(results, "films", "praise") is None
    assert convergence_rows(results)[1]["share of grpo's steps"] == "-"
