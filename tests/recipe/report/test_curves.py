import io
import json

import pytest
from rich.console import Console

from recipe.shape_grpo.report.bands import read_bands
from recipe.shape_grpo.report.curves import WINDOW, plot_curves, print_table, read_curve
from tests.recipe.report.run_folders import write_runs


def write_run(folder, scores, validation):
    folder.mkdir()
    lines = [{"step": 0, "data": {"val-core/films/reward/mean@4": validation[0]}}]
    for step, score in enumerate(scores, start=1):
        data = {"critic/score/mean": score}
        if step in validation:
            data["val-core/films/reward/mean@4"] = validation[step]
        lines.append({"step": step, "data": data})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    # What a reader may find while verl is writing.
    (folder / "metrics.jsonl").write_text(text + '{"step": 99, "da')
    return folder


@pytest.fixture
def curves(tmp_path):
    """Scores that rise by 1 and by 2 a step, to 16 and 32."""
    return {
        "shape_grpo": read_curve(
            write_run(tmp_path / "s", [2.0 * n for n in range(1, 17)], {0: 0.5, 8: 16.5, 16: 32.5})
        ),
        "grpo": read_curve(
            write_run(tmp_path / "g", [1.0 * n for n in range(1, 17)], {0: 0.25, 16: 16.25})
        ),
    }


def test_a_training_curve_is_a_running_mean(curves):
    assert list(curves["grpo"].training) == list(range(WINDOW, 17))
    assert curves["grpo"].training[8] == pytest.approx(4.5)
    assert curves["grpo"].training[16] == pytest.approx(12.5)


def test_the_table_says_when_grpos_final_value_is_reached(curves):
    console = Console(record=True, width=100, file=io.StringIO())
    print_table(curves, console)
    rows = {line.split()[1]: line for line in console.export_text().splitlines() if "│" in line}
    # 2 * mean(n - 7 .. n) >= 12.5 first at n = 10: 2 * 6.5 = 13.
    assert [cell.strip() for cell in rows["shape_grpo"].split("│")[1:-1]] == [
        "shape_grpo", "0.500", "16.500", "32.500", "10",
    ]  # fmt: skip
    assert rows["grpo"].split("│")[-2].strip() == "16"


def test_the_table_is_read_with_what_seeds_and_fixed_sets_give(curves, tmp_path):
    for seed, last in ((1, 30.0), (2, 31.0)):
        write_runs(tmp_path / "study", {"shape_grpo": {seed: last}})
    bands = read_bands(tmp_path / "study")
    assert bands["shape_grpo"].steps == [0, 1]
    assert (bands["shape_grpo"].low[-1], bands["shape_grpo"].high[-1]) == (30.0, 31.0)
    assert bands["shape_grpo"].spread == pytest.approx(0.5**0.5)
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(curves, console, levels={"random": 3.92, "fixed": 4.63}, bands=bands)
    text = " ".join(console.export_text().split())
    assert "30.00 to 31.00" in text
    assert "random 3.92, fixed 4.63" in text
    assert "method scatter by 0.71 (standard deviation over 2 seeds)" in text
    plot_curves(curves, tmp_path / "with.png", bands)
    plot_curves(curves, tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_the_picture_is_a_png(curves, tmp_path):
    plot_curves(curves, tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_validation_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RuntimeError, match="no validation metrics"):
        read_curve(tmp_path)
