"""Names that a user's own file registers hold in every command and in every process."""

import builtins
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from recipe.shape_grpo.runs.check import check_config, compose_config
from shape_grpo.__main__ import main
from shape_grpo.advantage import ADVANTAGES, candidate_advantages
from shape_grpo.candidates.formats import FORMATS
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import ALLOCATORS, UTILITIES
from shape_grpo.modules import load_module
from shape_grpo.verl.checks import check_before_ray
from tests.explain.test_one_set import rows

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "recipe/shape_grpo/docs/configuration.md").read_text()
SECTION = DOCUMENT.partition("### Registering your own")[2].partition("\n## ")[0]
EXAMPLE, COMMANDS = re.findall(r"```(?:python|bash)\n(.*?)```", SECTION, flags=re.DOTALL)

ALL_FOUR = """
from shape_grpo.advantage import register_advantage
from shape_grpo.candidates import register_format
from shape_grpo.candidates.formats import Numbered
from shape_grpo.credit import Max, Uniform, register_allocator, register_utility

register_utility("my_max")(type("MyMax", (Max,), {}))
register_allocator("my_uniform")(type("MyUniform", (Uniform,), {}))
register_format("my_numbers")(type("MyNumbers", (Numbered,), {}))

@register_advantage("my_advantage")
def mine(credit):
    return credit.advantages.unsqueeze(1).expand_as(credit.mask)
"""
NAMES = {
    "utility": "my_max",
    "allocator": "my_uniform",
    "advantage": "my_advantage",
    "format": "my_numbers",
}
OVERRIDES = [f"algorithm.shape_grpo.{key}={name}" for key, name in NAMES.items()]


@pytest.fixture(autouse=True)
def registries_as_before():
    registries = (UTILITIES, ALLOCATORS, ADVANTAGES, FORMATS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a file that registers a name in each registry."""
    (tmp_path / "mine.py").write_text(ALL_FOUR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VERL_USE_EXTERNAL_MODULES", raising=False)
    return tmp_path


def run_config(*overrides):
    """The configuration of a run of a task whose reward function is found from any folder."""
    reward = f"reward.custom_reward_function.path={ROOT}/reward_fns/films.py"
    return compose_config(["+task=movielens", reward, *overrides])


def fresh(code, *arguments, cwd, **environment):
    """Last line of the output of `code` in a fresh interpreter in the folder `cwd`."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()[-1]


def test_the_documents_example_does_what_it_says(folder, capsys):
    (folder / "my_credit.py").write_text(EXAMPLE)
    explain, check = COMMANDS.replace("\\\n", " ").strip().splitlines()
    main(shlex.split(explain)[3:])
    # The best of 5, 4, 3 has the share 5, the others 2.5: weights 3 * share / 5, of 2 at most.
    assert rows(capsys.readouterr().out) == [
        [5, 5, 5, 5, 2, -2],
        [4, 2.5, 5, 0, 1.5, -1.5],
        [3, 2.5, 5, 0, 1.5, -1.5],
    ]
    assert shlex.split(check)[2] == "recipe.shape_grpo.runs.check"
    check_config(run_config(*shlex.split(check)[4:]))


def test_names_of_each_registry_may_be_configured(folder):
    check_config(run_config("algorithm.shape_grpo.extensions=[mine.py]", *OVERRIDES))
    with pytest.raises(ValueError, match=r"names, as in extensions=\[my_credit.py\]"):
        check_config(run_config("algorithm.shape_grpo.allocator=nobodys"))


def test_one_file_may_be_written_without_brackets_and_is_imported_once(folder):
    (folder / "counts.py").write_text("import builtins\nbuiltins.imports_of_counts += 1\n")
    builtins.imports_of_counts = 0
    try:
        for name in ("counts.py", "./counts.py", str(folder / "counts.py")):
            config = ShapeGRPOConfig(extensions=name)
            assert config.extensions == [str(folder / "counts.py")]
        # A reward function may lie in the same file.
        load_module(str(folder / "counts.py"))
        assert builtins.imports_of_counts == 1
    finally:
        del builtins.imports_of_counts


def test_with_trl_the_names_hold_without_verl_or_an_environment_variable(folder):
    code = (
        "import json, sys\nfrom shape_grpo.config import ShapeGRPOConfig\n"
        "config = ShapeGRPOConfig(extensions=['mine.py'], **json.loads(sys.argv[1]))\n"
        "print(type(config.method.allocator).__name__, 'verl' in sys.modules)"
    )
    assert fresh(code, json.dumps(NAMES), cwd=folder) == "MyUniform False"


def test_rays_processes_have_the_names_in_another_working_directory(folder, tmp_path_factory):
    """Before Ray starts, the paths become absolute in the configuration that its processes get."""
    row = {"prompt": [{"role": "user", "content": "x"}], "data_source": "films"}
    row |= {"reward_model": {"style": "rule", "ground_truth": "x"}, "extra_info": {"index": 0}}
    pd.DataFrame([row]).to_parquet("rows.parquet")
    config = run_config(
        *("algorithm.shape_grpo.extensions=[mine.py]", *OVERRIDES),
        *("data.train_files=rows.parquet", "data.val_files=rows.parquet"),
        *("data.train_batch_size=1", "actor_rollout_ref.rollout.n=8"),
    )
    check_before_ray(config)
    code = """
import json, sys
from omegaconf import OmegaConf
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from shape_grpo.config import ShapeGRPOConfig
algorithm = OmegaConf.create(json.loads(sys.argv[1]))
get_reward_manager_cls("multi_candidate")
print(type(ShapeGRPOConfig.from_algorithm(algorithm).method.utility).__name__)
"""
    algorithm = json.dumps(OmegaConf.to_container(config.algorithm, resolve=True))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert fresh(code, algorithm, cwd=elsewhere) == "MyMax"


def test_explain_reads_them_from_a_runs_configuration(folder, capsys):
    (folder / "run.yaml").write_text(
        "algorithm:\n  shape_grpo:\n    extensions: [mine.py]\n    allocator: my_uniform\n"
    )
    main(["explain", "4", "2", "--config", "run.yaml"])
    assert "my_uniform" in capsys.readouterr().out


def test_modules_of_the_environment_hold_in_the_same_places(folder):
    code = (
        "import json, sys\nfrom shape_grpo.config import ShapeGRPOConfig\n"
        "ShapeGRPOConfig(**json.loads(sys.argv[1]))\nprint('built')"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{folder}", "VERL_USE_EXTERNAL_MODULES": "mine"}
    assert fresh(code, json.dumps(NAMES), cwd="/", **environment) == "built"


BROKEN = {
    "no_such.py": (None, r"there is no file .*/no_such.py. Write its path, from the folder"),
    "no_such_module": (None, r"ModuleNotFoundError.*For a file write its path, as in"),
    "no_such.module": (None, r"ModuleNotFoundError.*For a file write its path, as in"),
    "raises.py": ("x = 1\n{}['price']\n", r"cannot be imported \(KeyError in line 2: 'price'\)"),
    "syntax.py": ("def f(:\n", r"cannot be imported \(SyntaxError: .*line 1"),
    "leaves.py": ("import sys\nsys.exit('usage')\n", r"\(SystemExit in line 2: usage\)"),
    "needs.py": ("import no_such_package\n", r"in line 1: No module named 'no_such_package'\)\.$"),
    "taken.py": (
        "from shape_grpo.credit import Max, register_utility\n"
        "@register_utility('max')\nclass Better(Max): pass\n",
        r"ValueError in line 2: utility 'max' is already registered: .*; take another name",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_extension_says_what_is_wrong_where(folder, name, capsys):
    code, says = BROKEN[name]
    if code is not None:
        (folder / name).write_text(code)
    with pytest.raises(ValueError, match=rf"^extensions={re.escape(name)}: .*{says}"):
        ShapeGRPOConfig(extensions=[name])
    config = run_config(f"algorithm.shape_grpo.extensions=[{name}]")
    with pytest.raises(ValueError, match=rf"^algorithm.shape_grpo.extensions=.*{says}"):
        check_config(config)
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "5", "4", "--extensions", name])
    assert "extensions=" in capsys.readouterr().err


def test_a_path_may_begin_at_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "at_home.py").write_text("x = 1\n")
    assert ShapeGRPOConfig(extensions=["~/at_home.py"]).extensions == [f"{folder}/at_home.py"]


def test_a_module_of_the_environment_that_fails_is_named(folder, monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "no_such_module")
    message = r"^VERL_USE_EXTERNAL_MODULES: no_such_module cannot be imported \(ModuleNotFound"
    for build in (ShapeGRPOConfig, lambda: ShapeGRPOConfig.from_algorithm({})):
        with pytest.raises(ValueError, match=message):
            build()


def test_a_file_that_was_mended_may_be_imported_again(folder):
    """As in a notebook: what it had registered before it failed is no other's name."""
    (folder / "mine.py").write_text(ALL_FOUR + "\nraise KeyError('not yet')\n")
    with pytest.raises(ValueError, match="not yet"):
        ShapeGRPOConfig(extensions=["mine.py"])
    (folder / "mine.py").write_text(ALL_FOUR)
    assert type(ShapeGRPOConfig(extensions=["mine.py"], **NAMES).method.utility).__name__ == "MyMax"


def test_the_same_file_under_its_modules_name_is_no_other(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    config = ShapeGRPOConfig(extensions=["mine", "mine.py"], **NAMES)
    assert config.extensions == ["mine", str(folder / "mine.py")]


def test_an_advantage_of_ones_own_trains(folder):
    method = ShapeGRPOConfig(extensions=["mine.py"], **NAMES).method
    rewards = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    everywhere = torch.ones(2, 2, dtype=torch.bool)
    candidate, response = candidate_advantages(
        rewards, everywhere, everywhere.long(), [0, 0], method
    )
    assert torch.equal(candidate, response.unsqueeze(1).expand(2, 2))
