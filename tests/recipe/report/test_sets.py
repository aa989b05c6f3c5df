import io
import json

import pytest
from rich.console import Console

from recipe.shape_grpo.report.sets import print_sets
from tests.recipe.report.run_folders import write_rollouts, write_run


def printed(run):
    console = Console(record=True, width=200, file=io.StringIO())
    print_sets(run, console)
    return console.export_text()


def printed_rows(run):
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in printed(run).splitlines()]
    return [row for row in cells if row and row[0].isdecimal()]


def edit_records(run, change, step=1):
    """Call ``change`` with the number and the record of each response of a step."""
    file = run / f"rollouts/{step}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for number, line in enumerate(lines):
        record = json.loads(line["shape_grpo"])
        change(number, record)
        line["shape_grpo"] = json.dumps(record)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", [0.0])


def test_sets_repeats_and_the_most_frequent_candidates_are_counted(run):
    # Candidates are "film 0", "film 1", ... by their place, then all alike.
    write_rollouts(run, 1, [[5.0, 4.0], [3.0, 1.0, 2.0], [4.0, 4.0]])
    write_rollouts(run, 2, [[5.0, 4.0], [3.0, 1.0]], texts=[["film 0", "film 0"]] * 2)
    assert printed_rows(run) == [
        ["1", "3", "4.000", "2", "0%", "film 0 3; film 1 3; film 2 1"],
        ["2", "2", "4.000", "1", "50%", "film 0 2"],
    ]


def test_right_candidates_are_counted_where_each_is_right_or_wrong(run):
    """Repeats cost nothing here, but count once; the rewards say which candidate is which."""
    films = [f"film {n}" for n in range(3)]
    texts = [films[:2], films, films, ["film 0", "film 0"]]
    write_rollouts(run, 1, [[1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, None], [1.0, 1.0]], texts=texts)
    # Right are {0}, {1, 2}, {}, {0}: 5 of 9 candidates with a reward; 4 in 4 responses; 0, 1, 2.
    (row,) = printed_rows(run)
    assert row[5:8] == ["56%", "1.00", "3"]


@pytest.mark.parametrize("settings", ["settings.json", "begun.json"])
def test_texts_are_those_of_the_record_whatever_the_response_holds(run, settings):
    """No format is asked for, before the run has ended either: the record holds three candidates,
    and others that were surplus, cut off or an earlier turn's are none."""
    write_rollouts(run, 1, [[1.0, 0.0, 1.0]], texts=[["film 0", "film 1", "film 2"]])
    file = run / "rollouts/1.jsonl"
    line = json.loads(file.read_text())
    outputs = [
        line["output"] + " <candidate>film 3</candidate>",
        "1. film 0\n2. film 1\n3. film 2\n4. fil",
        "nothing that a format reads",
    ]
    (run / "settings.json").rename(run / settings)
    for output in outputs:
        file.write_text(json.dumps({**line, "output": output}) + "\n")
        (row,) = printed_rows(run)
        assert row[5:8] == ["67%", "2.00", "2"]
        assert row[8] == "film 0 1; film 1 1; film 2 1"


def test_rollouts_without_texts_show_what_needs_none_and_say_why(run):
    write_rollouts(run, 1, [[1.0, 0.0, 1.0]])
    write_rollouts(run, 2, [[1.0], [0.0]])
    edit_records(run, lambda number, record: record.pop("texts"))
    assert printed_rows(run) == [
        ["1", "1", "1.000", "-", "0%", "67%", "-", "-", "-"],
        ["2", "2", "0.500", "1", "0%", "50%", "0.50", "1", "film 0 2"],
    ]
    assert '"-": these rollouts are of an old version' in printed(run)
    write_rollouts(run, 1, [[1.0, 0.0, 1.0]])
    assert "old version" not in printed(run)


def test_case_and_white_space_make_no_other_candidate(run):
    """As in training, whose rule for duplicates folds them."""
    texts = [["film 0", "FILM  0"], ["Film 0", "film 1"]]
    write_rollouts(run, 1, [[1.0, 1.0], [1.0, 0.0]], texts=texts)
    # The sets are {film 0} and {film 0, film 1}; right are film 0 in both.
    (row,) = printed_rows(run)
    assert row[3:8] == ["2", "25%", "75%", "1.00", "1"]
    assert row[8] == "film 0 2; film 1 1"


@pytest.mark.parametrize("settings", ["settings.json", "begun.json"])
def test_repeats_are_counted_where_training_drops_them(tmp_path, settings):
    run = write_run(tmp_path / "run", [0.0], shape_grpo={"duplicate": "drop"})
    (run / "settings.json").rename(run / settings)
    write_rollouts(run, 1, [[5.0]], texts=[["film 0"]])
    edit_records(run, lambda number, record: record.update(problem_counts={"duplicate": 1}))
    assert printed_rows(run)[0][3:] == ["1", "50%", "film 0 1"]


def test_repeats_by_identity_are_repeats(run):
    write_rollouts(run, 1, [[5.0, 5.0]], texts=[["film 0", "the film 0"]])
    edit_records(run, lambda number, record: record.update(problem_counts={"duplicate": 1}))
    assert printed_rows(run)[0][4] == "50%"


def test_a_response_that_a_format_failed_on_names_no_candidate(run):
    write_rollouts(run, 1, [[5.0], [None]], texts=[["film 0"], [""]])
    assert printed_rows(run)[0][5] == "film 0 1"


def test_a_run_without_rollouts_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no rollouts/STEP\.jsonl: train with"):
        print_sets(tmp_path, Console())
