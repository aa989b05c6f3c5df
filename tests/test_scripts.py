"""Scripts in a clone that holds a user's files too."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from recipe.shape_grpo.runs.check import compose_config

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "run_scripts"
RECORDS_CALLS = """\
#!/bin/sh
echo "$@" >>calls
"""


@pytest.fixture
def clone(tmp_path):
    """A clone whose installed programs only write down what they are called with."""
    shutil.copytree(SCRIPTS, tmp_path / "run_scripts")
    for name in ("pyproject.toml", "requirements-cpu.lock"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("python", "lint-imports"):
        (programs / name).write_text(RECORDS_CALLS)
        (programs / name).chmod(0o755)
    digest = "cat pyproject.toml requirements-cpu.lock run_scripts/environment.sh | sha256sum"
    shown = subprocess.run(digest, shell=True, cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / ".venv/installed").write_bytes(shown.stdout)
    return tmp_path


def run(clone, script, *arguments, **environment):
    return subprocess.run(
        [clone / "run_scripts" / script, *arguments],
        env={**os.environ, "VENV": ".venv", **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_checks_look_at_the_projects_own_files(clone):
    run(clone, "check.sh")
    calls = (clone / "calls").read_text().splitlines()
    checked = [call for call in calls if call.startswith("-m ruff")]
    assert len(checked) == 2
    for call in checked:
        folders = call.split("check")[-1].split()
        assert set(folders) >= {"recipe", "reward_fns", "shape_grpo", "tests"}
        # A task of the user's own in the clone.
        assert not {".", "my_task"} & set(folders)


@pytest.mark.parametrize("arguments", [[], ["my docs"]])
def test_the_reference_says_where_it_is(clone, arguments):
    folder = arguments[0] if arguments else "outputs/docs"
    said = run(clone, "build_docs.sh", *arguments)
    assert said.splitlines()[-1] == f"API reference: {folder}/index.html"
    assert f"--output-directory {folder}" in (clone / "calls").read_text()


@pytest.mark.parametrize("model", ["/tmp/mein Ordner ü/policy", "/tmp/it's", "/tmp/a=b,[c]"])
def test_a_model_in_a_folder_of_any_name(model):
    shown = subprocess.run(
        [SCRIPTS / "run_netflix.sh", "grpo"],
        env={**os.environ, "PYTHON": "echo", "MODEL": model},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    override = shown.partition("actor_rollout_ref.model.path=")[2].strip()
    config = compose_config([f"actor_rollout_ref.model.path={override}"])
    assert config.actor_rollout_ref.model.path == model
