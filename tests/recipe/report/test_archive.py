"""An archive of runs gives the report that the runs give, to four digits."""

import gzip

import pandas as pd
import pytest

from recipe.shape_grpo.report.__main__ import main
from recipe.shape_grpo.report.archive import FACTS
from recipe.shape_grpo.report.results import read_results
from tests.recipe.report.run_folders import write_run, write_runs


def test_an_archive_stands_for_its_runs(tmp_path, capsys):
    finals = {"grpo": {1: 4.12345, 2: 4.2}, "praise": {1: 4.4, 2: 0.0}}
    write_runs(tmp_path / "runs", finals)
    main(["archive", str(tmp_path / "runs"), "--output", str(tmp_path / "archive")])
    assert "4 runs in" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "archive").iterdir())
    assert names == ["runs.jsonl.gz", "steps.parquet"]
    before, after = read_results([tmp_path / "runs"]), read_results([tmp_path / "archive"])
    same = [name for name in before.runs if name not in ("folder", "over_training")]
    pd.testing.assert_frame_equal(before.runs[same], after.runs[same])
    assert after.runs["over_training"].tolist() == pytest.approx(
        before.runs["over_training"].tolist(), rel=6e-4
    )
    figures = before.steps.select_dtypes("number").columns
    pd.testing.assert_frame_equal(before.steps[figures], after.steps[figures], rtol=6e-4)
    assert after.steps["held_out"].max() == pytest.approx(4.4)
    assert (after.steps["held_out"] == 4.123).any()


def test_an_archive_can_be_added_to_and_thinned(tmp_path):
    for name, seed in (("old", 1), ("new", 2)):
        write_run(tmp_path / name, [0.0, 4.0 + seed / 10], training=[1.0] * 20, seed=seed)
    first, both = str(tmp_path / "first"), str(tmp_path / "both")
    main(["archive", str(tmp_path / "old"), "--output", first])
    main(["archive", first, str(tmp_path / "new"), "--output", both, "--every", "7"])
    main(["archive", both, "--output", first])
    before = read_results([tmp_path / "old", tmp_path / "new"])
    after = read_results([tmp_path / "first"])
    assert len(after.runs) == 2 and after.runs["folder"].str.count(": ").eq(1).all()
    # Where the runs were on the machine is not for whoever reads the archive.
    assert str(tmp_path) not in gzip.decompress((tmp_path / "first" / FACTS).read_bytes()).decode()
    kept = before.steps[(before.steps["step"] % 7 == 0) | before.steps["held_out"].notna()]
    assert len(before.steps) > len(after.steps) == len(kept)
    assert sorted(after.steps["held_out"].dropna()) == sorted(before.steps["held_out"].dropna())


def test_a_run_that_is_given_twice_is_one_run(tmp_path, capsys):
    write_runs(tmp_path / "runs", {"grpo": {1: 4.1}, "praise": {1: 4.4}})
    runs, archive = str(tmp_path / "runs"), str(tmp_path / "archive")
    main(["archive", runs, "--output", archive])
    write_run(tmp_path / "runs" / "later", [0.0, 4.1], training=[1.0] * 20, seed=2)
    main(["archive", archive, runs, "--output", archive])
    assert "3 runs in" in (said := capsys.readouterr().out) and "2 given twice" in said
    results = read_results([tmp_path / "archive"])
    assert sorted(results.runs["final"]) == [4.1, 4.1, 4.4]
    assert results.steps.groupby("run")["step"].apply(lambda steps: steps.is_unique).all()


def test_nothing_to_archive_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="no whole run below"):
        main(["archive", str(tmp_path), "--output", str(tmp_path / "archive")])
