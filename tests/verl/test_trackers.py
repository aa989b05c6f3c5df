"""Trackers that verl does not know, or that are not installed, are refused before Ray starts."""

import sys
from importlib.machinery import ModuleSpec

import pytest
from omegaconf import OmegaConf
from verl.utils.tracking import Tracking

from shape_grpo.verl import trackers
from shape_grpo.verl.trackers import MODULES, check_trackers, known_trackers

INSTALLED_BY_NAME = ("wandb", "mlflow", "swanlab", "tensorboard", "clearml", "trackio")


def check(logger, **options):
    check_trackers(OmegaConf.create({"trainer": {"logger": logger}}), **options)


@pytest.fixture
def installed(monkeypatch):
    """installed(names): there are these packages, and no others."""

    def give(*names):
        def find_spec(name):
            return ModuleSpec(name, None, origin="here") if name in names else None

        monkeypatch.setattr(trackers, "find_spec", find_spec)

    # Read before `find_spec` is replaced.
    known = known_trackers()
    monkeypatch.setattr(trackers, "known_trackers", lambda: known)
    return give


def test_the_names_are_verls_own():
    assert set(known_trackers()) == {*Tracking.supported_backend, "tracking"}
    assert set(MODULES) == set(known_trackers()) - {"console", "file"}


@pytest.mark.parametrize(
    ("logger", "says"),
    [
        (["mlfow"], r"trainer.logger=mlfow: unknown value. Did you mean mlflow\?"),
        (["console", "wandB"], r"Did you mean wandb\?"),
        ("tensorbord", r"Did you mean tensorboard\?"),
        ("console,file", "trainer.logger=console,file: unknown value"),
        (None, "trainer.logger=None: unknown value.* Allowed: .*console"),
    ],
)
def test_a_misspelt_tracker_is_refused(logger, says):
    with pytest.raises(ValueError, match=says):
        check(logger)


@pytest.mark.parametrize("name", INSTALLED_BY_NAME)
def test_a_tracker_that_is_not_installed_is_refused(installed, name):
    installed()
    says = rf"logger={name}: .*pip install {name}\), or write trainer.logger=\[console\]"
    with pytest.raises(ValueError, match=says):
        check(["console", name])
    # Ray's machines have their own packages.
    check(["console", name], installed_here=False)
    installed(name)
    check(["console", name])


def test_verls_older_and_rarer_names(installed):
    installed()
    with pytest.raises(ValueError, match=r"pip install wandb\), .*logger=\[console,file\]"):
        check("tracking")
    with pytest.raises(ValueError, match="no module volcengine_ml_platform"):
        check(["vemlp_wandb"])
    check(["rl_insight"], environment={})
    with pytest.raises(ValueError, match="no module rl_insight"):
        check(["rl_insight"], environment={"VERL_RL_INSIGHT_ENABLE": "1"})


def test_a_folder_of_its_runs_is_no_package(tmp_path, monkeypatch):
    """wandb and others write into a folder of their name beside the command."""
    (tmp_path / "swanlab").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "swanlab", raising=False)
    with pytest.raises(ValueError, match="pip install swanlab"):
        check(["swanlab"])


def test_what_needs_no_package_passes(installed):
    installed()
    check(["console", "file"])
    check([])
