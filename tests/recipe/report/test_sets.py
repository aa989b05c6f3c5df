import io

import pytest
from rich.console import Console
from run_folders import write_rollouts, write_run

from recipe.shape_grpo.report.sets import print_sets


def test_sets_repeats_and_the_most_frequent_candidates_are_counted(tmp_path):
    run = write_run(tmp_path / "run", [0.0])
    # Candidates are "film 0", "film 1", ... by their place, then all alike.
    write_rollouts(run, 1, [[5.0, 4.0], [3.0, 1.0, 2.0], [4.0, 4.0]])
    write_rollouts(run, 2, [[5.0, 4.0], [3.0, 1.0]])
    lines = (run / "rollouts/2.jsonl").read_text().replace("film 1", "film 0")
    (run / "rollouts/2.jsonl").write_text(lines)
    console = Console(record=True, width=200, file=io.StringIO())
    print_sets(run, console)
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in console.export_text().splitlines()
        if "film" in line
    ]
    assert rows == [
        ["1", "3", "4.000", "2", "0%", "film 0 3; film 1 3; film 2 1"],
        ["2", "2", "4.000", "1", "50%", "film 0 2"],
    ]


def test_a_run_without_rollouts_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no STEP\.jsonl"):
        print_sets(tmp_path, Console())
