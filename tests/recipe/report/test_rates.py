import pytest

from recipe.shape_grpo.report.results import read_results
from tests.recipe.report.run_folders import write_run


def write_rates(root, curves, method="praise", seed=1):
    for rate, held_out in curves.items():
        write_run(
            root / f"{method}-{rate}-{seed}", held_out, method=method, seed=seed, learning_rate=rate
        )


def compared(root, *split_by):
    results = read_results([root], split_by)
    return results, sorted(zip(results.runs["method"], results.runs["learning_rate"], strict=True))


def test_every_method_is_compared_at_its_own_best_rate(tmp_path):
    write_rates(tmp_path, {1e-3: [0.0, 1.0, 2.0], 1e-2: [0.0, 2.0, 3.0]}, method="grpo")
    write_rates(tmp_path, {1e-3: [0.0, 4.0, 4.0], 1e-2: [0.0, 2.0, 3.0]})
    results, kept = compared(tmp_path)
    assert kept == [("grpo", 1e-2), ("praise", 1e-3)]
    assert results.setups == ["films"]
    assert set(results.steps["held_out"]) == {0.0, 2.0, 3.0, 4.0}
    assert results.rates["best"].tolist() == [False, True, True, False]


def test_a_rate_that_collapses_in_the_end_or_starts_slowly_loses(tmp_path):
    write_rates(tmp_path, {1e-2: [0.0, 3.0, 0.0], 1e-3: [0.0, 2.0, 2.0], 1e-4: [0.0, 0.0, 2.5]})
    assert compared(tmp_path)[1] == [("praise", 1e-3)]


def test_the_level_before_training_does_not_count(tmp_path):
    write_rates(tmp_path, {1e-3: [9.0, 1.0], 1e-2: [0.0, 2.0]})
    assert compared(tmp_path)[1] == [("praise", 1e-2)]


def test_rates_are_chosen_by_the_seeds_that_all_of_them_have(tmp_path):
    write_rates(tmp_path, {1e-3: [0.0, 1.0], 1e-2: [0.0, 2.0]}, seed=1)
    write_rates(tmp_path, {1e-3: [0.0, 9.0]}, seed=2)
    results, kept = compared(tmp_path)
    assert kept == [("praise", 1e-2)]
    assert results.rates["over_training"].tolist() == [5.0, 2.0]


def test_all_at_one_rate_on_request(tmp_path):
    write_rates(tmp_path, {1e-3: [0.0, 1.0], 1e-2: [0.0, 2.0]})
    results, kept = compared(tmp_path, "learning_rate")
    assert kept == [("praise", 1e-3), ("praise", 1e-2)]
    assert results.setups == ["films, learning rate 0.001", "films, learning rate 0.01"]


def test_one_seed_twice_at_one_rate_is_refused_and_at_two_is_not(tmp_path):
    write_rates(tmp_path, {1e-3: [0.0, 1.0]})
    write_rates(tmp_path / "again", {1e-3: [0.0, 1.0], 1e-2: [0.0, 1.0]})
    with pytest.raises(ValueError, match="leave one of them out"):
        compared(tmp_path)
