import struct

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from recipe.shape_grpo.report.figures import Painter
from recipe.shape_grpo.report.results import read_results
from recipe.shape_grpo.report.rollouts import length_samples
from recipe.shape_grpo.report.statistics import intervals_of_means
from recipe.shape_grpo.report.style import INK, KNOWN, method_line
from tests.recipe.report.run_folders import write_rollouts, write_run, write_runs

FINALS = {"grpo": {1: 1.0, 2: 2.0}, "praise": {1: 2.0, 2: 4.0}}


def figures_of(results, folder):
    folder.mkdir(exist_ok=True)
    painter = Painter(results, folder, "4 runs, 2 seeds per method. Made by: a command")
    figures = {figure.name: figure for figure in painter.figures()}
    assert len(figures) == painter.count
    return figures


@pytest.fixture
def results(tmp_path):
    """Two methods, two seeds, two K, with everything that a figure can need."""
    for candidates in (3, 5):
        for method, seed in (("grpo", 1), ("grpo", 2), ("praise", 1), ("praise", 2)):
            run = write_run(
                tmp_path / f"runs/{method}-{candidates}-{seed}",
                [0.0, 0.1 * candidates * seed],
                [0.1 * seed * step for step in range(12)],
                method=method, seed=seed, candidates=candidates,
            )  # fmt: skip
            write_rollouts(run)
    return read_results([tmp_path])


def test_every_figure_is_a_png_and_an_svg_that_says_what_made_it(results, tmp_path):
    figures = figures_of(results, tmp_path / "out")
    assert [name for name, figure in figures.items() if figure.svg] == [
        "figure2_lengths", "figure3_curves", "figure4_candidates", "steps_to_grpo",
    ]  # fmt: skip
    for name, figure in figures.items():
        if figure.svg:
            png = (tmp_path / "out" / f"{name}.png").read_bytes()
            width, height = struct.unpack(">II", png[16:24])
            assert png.startswith(b"\x89PNG") and min(width, height) > 300
            for svg in ((tmp_path / "out" / f"{name}.svg").read_text(), figure.svg):
                assert "Made by: a command" in svg and "praise" in svg


def test_a_page_gets_figures_in_its_own_ink(results, tmp_path):
    figure = figures_of(results, tmp_path / "out")["figure3_curves"]
    assert "currentColor" in figure.svg and INK not in figure.svg
    assert INK in (tmp_path / "out/figure3_curves.svg").read_text()


def test_what_the_runs_do_not_hold_is_said_instead_of_drawn(tmp_path):
    results = read_results([write_runs(tmp_path, {"praise": {1: 1.0}})])
    figures = figures_of(results, tmp_path / "out")
    assert "several K" in figures["figure4_candidates"].caption
    assert "Needs runs of grpo" in figures["steps_to_grpo"].caption
    assert "rollouts" in figures["figure2_lengths"].caption
    assert "did not log" in figures["health"].caption
    assert not list((tmp_path / "out").glob("figure4*"))


def test_one_seed_is_called_an_anecdote(tmp_path):
    one = read_results([write_runs(tmp_path / "one", {"grpo": {1: 1.0}})])
    two = read_results([write_runs(tmp_path / "two", FINALS)])
    words = "One seed: an anecdote."
    assert words in figures_of(one, tmp_path / "out")["figure3_curves"].caption
    assert words not in figures_of(two, tmp_path / "out")["figure3_curves"].caption


def test_a_method_has_one_colour_in_all_figures(results, tmp_path):
    methods = results.methods
    colours = {method: method_line(method, methods)["color"] for method in methods}
    assert len(set(colours.values())) == 2
    for figure in figures_of(results, tmp_path / "out").values():
        if figure.svg:
            assert all(colour.lower() in figure.svg.lower() for colour in colours.values())


def test_more_methods_than_colours_differ_in_their_lines(tmp_path):
    methods = ["grpo", "praise", *(f"m{number:02}" for number in range(14))]
    lines = [method_line(method, methods) for method in methods]
    assert len({(line["color"], line["ls"]) for line in lines}) == 16


def test_a_method_has_one_colour_in_all_reports():
    every = ["grpo", *KNOWN, "mine"]
    for method in every[:-1]:
        assert method_line(method, ["grpo", method]) == method_line(method, every)


def test_lengths_are_of_single_responses_where_there_are_rollouts(tmp_path):
    run = write_run(tmp_path / "a", [0.0])
    # The second response has one candidate with a reward, the third none: no variation.
    write_rollouts(run, rewards=[[5.0, 4.0, 3.0], [None, 1.0], [], [1.0, 2.0]])
    samples, per_response = length_samples(read_results([tmp_path]))
    assert per_response
    expected = [np.std(lengths) / np.mean(lengths) for lengths in ([1, 2, 3], [1, 2])]
    assert samples["films", "grpo"] == pytest.approx(expected)


def test_a_band_is_the_t_interval_of_each_step():
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 2.0, 2.0, 2.0, 2.0], [0.0, 9.0, 1, 1, 1]])
    low, high = intervals_of_means(values)
    assert low[1] == high[1] == 2.0
    for step in (0, 2):
        expected = ttest_1samp(values[step], 0).confidence_interval(0.95)
        assert (low[step], high[step]) == pytest.approx((expected.low, expected.high))


def test_single_runs_are_drawn_with_the_bands_of_a_study(tmp_path):
    one = read_results([write_runs(tmp_path / "one", {"grpo": {9: 1.0}})])
    study = read_results([write_runs(tmp_path / "study", FINALS)])
    with_bands = Painter(one, tmp_path, "", study).rewards("with")
    without = Painter(one, tmp_path, "").rewards("without")
    assert (with_bands.svg.count("PolyCollection"), without.svg.count("PolyCollection")) == (1, 0)
