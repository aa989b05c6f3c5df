"""A full disk is one line that names the folder and its free space."""

import errno
from collections import namedtuple
from pathlib import Path

import pytest

from recipe.shape_grpo.common import disk
from recipe.shape_grpo.common.command import failing_in_one_line
from recipe.shape_grpo.common.disk import full_disks
from recipe.shape_grpo.common.files import read_stamp, write_stamp

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """free(**bytes): the free bytes of the disks of folders with such names."""

    def has(**names):
        def usage(folder):
            return Usage(10**9, 0, names.get(Path(folder).name, 10**9))

        monkeypatch.setattr(disk.shutil, "disk_usage", usage)

    return has


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        # torch, safetensors
        RuntimeError("basic_ios::clear: iostream error"),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
        type("SafetensorError", (Exception,), {})(
            "I/O error: No space left on device (os error 28)"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_error_of_a_full_disk_is_one_line(error, tmp_path, free):
    (tmp_path / "run").mkdir()
    free(run=300_000)
    with pytest.raises(SystemExit) as ended, failing_in_one_line("runs", tmp_path / "run" / "deep"):
        raise error
    assert str(ended.value).startswith(
        f"runs: the disk of {tmp_path}/run/deep is full (0.3 MB free): free some space"
    )


def test_the_file_that_did_not_fit_is_named(tmp_path, free):
    free()
    with pytest.raises(SystemExit, match="the disk of /far/file is full"), failing_in_one_line("x"):
        raise OSError(errno.ENOSPC, "No space left on device", "/far/file")


def test_other_errors_keep_their_words(tmp_path):
    with pytest.raises(SystemExit, match=r"^x: .*No such file"), failing_in_one_line("x"):
        (tmp_path / "nothing").read_text()
    with pytest.raises(KeyError), failing_in_one_line("x"):
        raise KeyError("a bug")


def test_disks_after_a_failure(tmp_path, free):
    folders = [tmp_path / name for name in ("run", "tmp", "gone")]
    for folder in folders[:2]:
        folder.mkdir()
    free(run=5 * 10**8, tmp=10**5)
    (sentence,) = full_disks("a log", *folders)
    assert sentence.startswith(f"the disk of {tmp_path}/tmp is full (0.1 MB free)")
    free(run=5 * 10**8)
    assert full_disks("a log", *folders) == []
    # What did not fit is gone already.
    (sentence,) = full_disks("...: iostream error", *folders)
    assert sentence.startswith(f"the disk of {tmp_path}/run is full (500.0 MB free)")


def test_settings_that_do_not_fit_leave_the_earlier_ones(tmp_path, monkeypatch):
    write_stamp(tmp_path, {"seed": 0})

    def full(path, text):
        path.open("w").write(text[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_stamp(tmp_path, {"seed": 1})
    assert read_stamp(tmp_path) == {"seed": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("text", ["", '{"seed": ', "[1]", "3"])
def test_settings_that_were_cut_off_are_named(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=r"settings.json is not a JSON object: remove the file"):
        read_stamp(tmp_path)
