import io
import json

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


def written(run, outputs, records):
    """The outputs of step 1 are replaced; the records are of the candidates with these rewards."""
    write_rollouts(run, 1, records)
    file = run / "rollouts/1.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    pairs = zip(lines, outputs, strict=True)
    file.write_text("".join(json.dumps({**line, "output": out}) + "\n" for line, out in pairs))


def test_numbered_lists_are_read_by_the_rules_of_the_run(tmp_path):
    run = write_run(tmp_path / "run", [0.0], shape_grpo={"format": "numbered"})
    outputs = ["1. film 0\n2. film 1", "1. film 0\n2. film 2\n3. film 0", "1. film 1\n2. film 0"]
    written(run, outputs, [[5.0, 4.0], [3.0, 1.0, 2.0], [4.0, 4.0]])
    assert printed_rows(run) == [
        ["1", "3", "4.000", "2", "14%", "film 0 3; film 1 2; film 2 1"],
    ]


def test_the_rules_are_those_of_the_run_that_was_begun(tmp_path):
    run = write_run(tmp_path / "run", [0.0], shape_grpo={"format": "numbered"})
    written(run, ["1. film 0\n2. film 1"], [[5.0, 4.0]])
    (run / "settings.json").rename(run / "begun.json")
    assert printed_rows(run)[0][4:] == ["0%", "film 0 1; film 1 1"]


def test_the_last_item_of_a_list_that_was_cut_off_is_not_counted_as_right(tmp_path):
    run = write_run(tmp_path / "run", [0.0], shape_grpo={"format": "numbered"})
    written(run, ["1. film 0\n2. film 1\n3. fil", "1. film 2"], [[1.0, 0.0], [1.0]])
    assert printed_rows(run)[0][5:8] == ["67%", "1.00", "2"]


def test_case_and_white_space_make_no_other_candidate(tmp_path):
    """As in training, whose rule for duplicates folds them."""
    run = write_run(tmp_path / "run", [0.0])
    write_rollouts(run, 1, [[1.0, 1.0], [1.0, 0.0]])
    file = run / "rollouts/1.jsonl"
    first, second = file.read_text().splitlines()
    file.write_text(f"{first.replace('film 1', 'FILM  0')}\n{second.replace('film 0', 'Film 0')}\n")
    # The sets are {film 0} and {film 0, film 1}; right are film 0 in both.
    (row,) = printed_rows(run)
    assert row[3:8] == ["2", "25%", "75%", "1.00", "1"]
    assert row[8] == "film 0 2; film 1 1"


def test_repeats_are_counted_where_training_drops_them(tmp_path):
    run = write_run(tmp_path / "run", [0.0], shape_grpo={"duplicate": "drop"})
    write_rollouts(run, 1, [[5.0, 4.0]])
    file = run / "rollouts/1.jsonl"
    file.write_text(file.read_text().replace("film 1", "film 0"))
    assert printed_rows(run)[0][3:] == ["1", "50%", "film 0 1"]


def test_a_run_without_rollouts_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no STEP\.jsonl"):
        print_sets(tmp_path, Console())
