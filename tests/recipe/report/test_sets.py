import io

import pytest
from rich.console import Console

from recipe.shape_grpo.report.sets import print_sets
from tests.recipe.report.run_folders import write_rollouts, write_run


def printed_rows(run):
    console = Console(record=True, width=200, file=io.StringIO())
    print_sets(run, console)
    return [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in console.export_text().splitlines()
        if "film" in line
    ]


def test_sets_repeats_and_the_most_frequent_candidates_are_counted(tmp_path):
    run = write_run(tmp_path / "run", [0.0])
    # Candidates are "film 0", "film 1", ... by their place, then all alike.
    write_rollouts(run, 1, [[5.0, 4.0], [3.0, 1.0, 2.0], [4.0, 4.0]])
    write_rollouts(run, 2, [[5.0, 4.0], [3.0, 1.0]])
    lines = (run / "rollouts/2.jsonl").read_text().replace("film 1", "film 0")
    (run / "rollouts/2.jsonl").write_text(lines)
    assert printed_rows(run) == [
        ["1", "3", "4.000", "2", "0%", "film 0 3; film 1 3; film 2 1"],
        ["2", "2", "4.000", "1", "50%", "film 0 2"],
    ]


def test_right_candidates_are_counted_where_each_is_right_or_wrong(tmp_path):
    """Repeats cost nothing here, but count once; the rewards say which candidate is which."""
    run = write_run(tmp_path / "run", [0.0])
    write_rollouts(run, 1, [[1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, None], [1.0, 1.0]])
    lines = (run / "rollouts/1.jsonl").read_text().split("\n")
    lines[3] = lines[3].replace("film 1", "film 0")
    (run / "rollouts/1.jsonl").write_text("\n".join(lines))
    # Right are {0}, {1, 2}, {}, {0}: 5 of 9 candidates with a reward; 4 in 4 responses; 0, 1, 2.
    (row,) = printed_rows(run)
    assert row[5:8] == ["56%", "1.00", "3"]


def test_right_texts_are_not_guessed_before_the_runs_rules_are_known(tmp_path):
    """A fourth candidate was surplus: the record has three, as the rules of the whole run say."""
    run = write_run(tmp_path / "run", [0.0], shape_grpo={"max_candidates": 3})
    write_rollouts(run, 1, [[1.0, 0.0, 1.0]])
    lines = (run / "rollouts/1.jsonl").read_text()
    more = "<candidate>film 2</candidate> <candidate>film 3</candidate>"
    (run / "rollouts/1.jsonl").write_text(lines.replace("<candidate>film 2</candidate>", more))
    assert printed_rows(run)[0][5:8] == ["67%", "2.00", "2"]
    (run / "settings.json").unlink()
    assert printed_rows(run)[0][5:8] == ["67%", "-", "-"]


def test_a_run_without_rollouts_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no STEP\.jsonl"):
        print_sets(tmp_path, Console())
