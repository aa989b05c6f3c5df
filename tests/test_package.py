"""The package itself, before any of its rooms is imported."""

import tomllib
from pathlib import Path

import pytest

import shape_grpo


def test_the_version_is_that_of_the_installed_package():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert shape_grpo.__version__ == project["version"]


def test_an_unknown_attribute_is_an_error():
    with pytest.raises(AttributeError, match="'shape_grpo' has no attribute 'shapley'"):
        _ = shape_grpo.shapley
