"""Every cell of the paper's tables composes to a configuration that the installed verl accepts."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from recipe.shape_grpo.common.files import write_stamp
from recipe.shape_grpo.runs.check import check_config, check_run, compose_config, main
from shape_grpo.credit.utilities import UTILITIES
from shape_grpo.methods import METHODS, method_options
from shape_grpo.rewards import check_reward_function
from shape_grpo.verl.files import missing_files

ROOT = Path(__file__).parents[3]
JUDGE = "reward.custom_reward_function.reward_kwargs.base_url=http://localhost:8000/v1"
BLOCK = "algorithm.shape_grpo"
COMPONENTS = f"{BLOCK}.utility_options.components=3"
TASKS = [
    *("movielens", "movielens_group_mean", "netflix", "netflix_history", "ds1000"),
    *("aclsum", "aclsum_listwise", "aclsum_rouge"),
]
VECTORS = "movielens_group"
JUDGED = ("aclsum", "aclsum_listwise")
CPU = {"VERL_PLATFORM": "cpu"}
SCALES = {"quickstart": "movielens", "smoke": "aclsum_rouge"}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Reward functions are named by paths from there."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def made_up_data(tmp_path):
    """make(rows) -> a folder with as many prompts, for a reward that wants some words."""

    def make(rows):
        row = {
            "data_source": "slogans",
            "prompt": [{"role": "user", "content": "Slogans, please."}],
            "reward_model": {"style": "rule", "ground_truth": "fresh bread"},
            "extra_info": {"shop": "a bakery"},
        }
        for split in ("train", "test"):
            pd.DataFrame([row] * rows).to_parquet(tmp_path / f"{split}.parquet")
        return tmp_path

    return make


def of_method(method):
    """Its flags: a method of vectors is told their length."""
    vectors = "components" in method_options(method).get("utility_options", {})
    return [f"+method={method}", *[COMPONENTS] * vectors]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_every_cell_is_valid(task, method):
    judge = [JUDGE] if task in JUDGED else []
    config = compose_config([f"+task={task}", *of_method(method), *judge])
    check_config(config)
    estimators = {"grpo": "grpo", "best_of_k": "shape_grpo_rollouts"}
    assert config.algorithm.adv_estimator == estimators.get(method, "shape_grpo")
    for name, value in ({} if method == "grpo" else method_options(method)).items():
        told = {"components": 3} if value == {"components": "???"} else value
        assert config.algorithm.shape_grpo[name] == told
    assert config.trainer.experiment_name.endswith(method)
    assert config.algorithm.shape_grpo.max_candidates == config.dataset.candidates


def test_a_method_of_vectors_says_that_it_needs_their_length():
    with pytest.raises(ValueError, match=r"utility_options.components=\?\?\?: .* write its value"):
        check_config(compose_config(["+task=movielens", "+method=vpo"]))


def test_what_external_modules_register_may_be_configured(monkeypatch, tmp_path):
    """The checks of the recipe's commands come before verl imports these modules."""
    (tmp_path / "registers_longest.py").write_text(
        "from shape_grpo.credit import TextUtility, register_utility\n\n"
        "@register_utility('longest')\n"
        "class Longest(TextUtility):\n"
        "    def value(self, rewards, mask, texts=()):\n"
        "        return rewards.sum(dim=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = compose_config(
        ["+task=movielens", "+method=praise", "algorithm.shape_grpo.utility=longest"]
    )
    monkeypatch.delenv("VERL_USE_EXTERNAL_MODULES", raising=False)
    with pytest.raises(ValueError, match="registered by a file or module that extensions names"):
        check_config(config)
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "registers_longest")
    try:
        check_config(config)
    finally:
        UTILITIES.pop("longest", None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("order", "size"), [(1, 2), (-1, 5)])
def test_a_task_of_vectors_tells_each_method_their_length(method, size, order):
    overrides = [f"+task={VECTORS}", f"+method={method}"][::order]
    if method == "best_of_k":  # A response must be one candidate there.
        overrides += ["dataset.candidates=1", f"{BLOCK}.format=whole"]
    config = compose_config([*overrides, f"dataset.viewers_per_prompt={size}"])
    check_config(config)
    credit = config.algorithm.shape_grpo
    assert (credit.utility, credit.utility_options) == ("weightings", {"components": size})
    chosen = {} if method == "grpo" else method_options(method)
    for name in ("allocator", "advantage"):
        assert name not in chosen or credit[name] == chosen[name]


def test_the_baseline_on_the_mean_reads_the_same_prompts():
    vectors, mean = (compose_config([f"+task={VECTORS}{end}"]) for end in ("", "_mean"))
    assert mean.data == vectors.data
    arguments = [config.reward.custom_reward_function.reward_kwargs for config in (vectors, mean)]
    assert arguments[1] == {**arguments[0], "combine": "mean"}
    assert (mean.algorithm.shape_grpo.utility, mean.algorithm.adv_estimator) == (
        "max",
        "shape_grpo",
    )
    assert mean.trainer.experiment_name != vectors.trainer.experiment_name


@pytest.mark.parametrize("task", [VECTORS, "movielens_group_mean"])
def test_prompts_about_another_number_of_viewers_are_refused(task, tmp_path):
    write_stamp(tmp_path, {"candidates": 3, "viewers_per_prompt": 4})
    overrides = [f"+task={task}", f"dataset.folder={tmp_path}"]
    check_config(compose_config([*overrides, "dataset.viewers_per_prompt=4"]))
    says = r"viewers_per_prompt=2, .*are about 4: .*--viewers_per_prompt 2"
    with pytest.raises(ValueError, match=says):
        check_config(compose_config(overrides))
    with pytest.raises(ValueError, match=r"viewers_per_prompt=1, .*are about 4"):
        check_config(compose_config(["+task=movielens", *overrides[1:]]))
    write_stamp(tmp_path, {"candidates": 3})  # For one viewer.
    with pytest.raises(ValueError, match=r"viewers_per_prompt=2, .*are about 1"):
        check_config(compose_config(overrides))


def keys_of(block, prefix=""):
    """Dotted paths of all keys."""
    for key, value in block.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")


@pytest.mark.parametrize("task", [*TASKS, VECTORS])
def test_a_task_sets_no_key_that_verl_does_not_know(task):
    """Hydra takes any key from a file, and only checks those of the command line."""
    task_config, plain = (
        set(keys_of(OmegaConf.to_container(compose_config(overrides))))
        for overrides in ([f"+task={task}"], [])
    )
    own = ("dataset", "reward.custom_reward_function.reward_kwargs", f"{BLOCK}.utility_options")
    added = {key for key in task_config - plain if not key.startswith(own)}
    assert added == {"data.apply_chat_template_kwargs.enable_thinking"}


@pytest.mark.parametrize("task", TASKS)
def test_every_cell_has_a_twin_without_a_gpu(task):
    overrides = [f"+task={task}", "+method=shape_grpo", "+backend=cpu", "+scale=tiny"]
    overrides += [JUDGE] if task in JUDGED else []
    config = compose_config(overrides)
    check_config(config, CPU)
    assert config.trainer.device == "cpu"
    assert config.actor_rollout_ref.model.path == f"{config.dataset.folder}/policy"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", SCALES)
def test_the_quickstart_and_the_smoke_test_take_any_method(scale, method):
    overrides = [f"+task={SCALES[scale]}", f"+scale={scale}", *of_method(method), "+backend=cpu"]
    config = compose_config(overrides)
    check_config(config, CPU)
    assert config.trainer.experiment_name == f"{config.dataset.name}-k3-{method}"
    assert config.algorithm.shape_grpo.duplicate == "floor"
    assert config.algorithm.shape_grpo.max_candidates == 3


def test_one_seed_is_every_seed():
    config = compose_config(["+task=netflix", "data.seed=7"])
    assert config.actor_rollout_ref.rollout.seed == 7
    assert config.actor_rollout_ref.actor.data_loader_seed == 7


REFUSED = {
    # overrides, what the message must say
    "a key verl does not have": (
        ["data.train_batch=8"],
        "no such key. Did you mean data.train_batch_size",
    ),
    "a task there is none of": (["+task=chess"], "there is no chess. There are: aclsum, "),
    "mini-batches that leave a rest": (
        ["actor_rollout_ref.actor.ppo_mini_batch_size=48"],
        "train_batch_size=64 is not a multiple of .*48",
    ),
    "responses that do not divide": (["trainer.n_gpus_per_node=3"], "divi"),
    "micro-batches that leave a rest": (
        [
            "actor_rollout_ref.actor.use_dynamic_bsz=false",
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=24",
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8",
        ],
        "256 responses per GPU and update are not a multiple of .*24",
    ),
    "a reward function elsewhere": (
        ["reward.custom_reward_function.path=no/such.py"],
        "no/such.py: there is no such file",
    ),
    "a reward function in a package there is none of": (
        ["reward.custom_reward_function.path=pkg://reward_fns.chess"],
        "reward_fns.chess: it cannot be imported .*No module named 'reward_fns.chess'",
    ),
    "a reward function of another name": (
        ["reward.custom_reward_function.name=score"],
        "it has no function score",
    ),
    "a keyword misspelt": (
        ["+reward.custom_reward_function.reward_kwargs.treshold=80"],
        "reward_kwargs.treshold: .*Did you mean threshold",
    ),
    "a trainer of nothing": (["trainer=null"], "trainer=null: verl needs this block"),
    "an allocator there is none of": (
        ["algorithm.shape_grpo.allocator=shapely"],
        "Did you mean shapley",
    ),
}


@pytest.mark.parametrize(("overrides", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(overrides, says):
    if not any(override.startswith("+task") for override in overrides):
        overrides = ["+task=netflix", "+method=shape_grpo", *overrides]
    with pytest.raises(ValueError, match=says):
        check_config(compose_config(overrides))


@pytest.mark.parametrize("path", ["pkg://reward_fns.films", f"file://{ROOT}/reward_fns/films.py"])
def test_reward_functions_are_found_as_verl_finds_them(path):
    override = f"reward.custom_reward_function.path={path}"
    check_config(compose_config(["+task=netflix", override]))


def test_the_check_reads_a_configuration_as_hydra_hands_it_over():
    """Its interpolations not yet resolved."""
    config = OmegaConf.create(
        {
            "dataset": {"folder": "here", "candidates": 3},
            "reward": {
                "reward_model": {"enable": False},
                "custom_reward_function": {
                    "path": "reward_fns/films.py",
                    "reward_kwargs": {"ratings": "${dataset.folder}/ratings.npz"},
                },
            },
        }
    )
    check_reward_function(config)
    config.reward.custom_reward_function.reward_kwargs.rating = "${dataset.folder}"
    with pytest.raises(ValueError, match=r"rating: .*Did you mean ratings"):
        check_reward_function(config)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "def compute_score(solution_strs): ...",
            r"Write compute_score\(data_source, solution_strs,",
        ),
        ("def compute_score(solutions, /): ...", r"Write compute_score\(data_source, solutions,"),
        (
            "from functools import partial\ncompute_score = partial(lambda a, solutions, /: 0, 1)",
            "positional only",
        ),
        ("compute_score = 3", "it has no function compute_score"),
    ],
    ids=["of the set", "of subsets", "without a name", "no function"],
)
def test_a_function_that_cannot_be_called_is_told_how_its_kind_is_written(tmp_path, code, says):
    (tmp_path / "reward.py").write_text(code)
    function = {"path": str(tmp_path / "reward.py")}
    reward = {"reward_model": {"enable": False}, "custom_reward_function": function}
    with pytest.raises(ValueError, match=says):
        check_reward_function(OmegaConf.create({"reward": reward}))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("class Judge:\n    def __call__(self, solution_str): ...\njudge = Judge()", "judge"),
        ("from reward_fns.films import compute_score as stars\ndef helper(x): ...", "stars"),
        ("async def reward(data_source, solution_str, ground_truth, extra_info): ...", "reward"),
        ("from functools import lru_cache\n@lru_cache\ndef cached(solution_str): ...", "cached"),
        (
            "def logged(f):\n    return lambda *args, **more: f(*args, **more)\n"
            "@logged\ndef score(solution_str): ...",
            "logged, score",
        ),
        ("from functools import partial\npart = partial(lambda a, solution_str: 1, 2)", "part"),
        ("def utility(solutions): ...\ndef stars(text): ...", "utility"),
    ],
)
def test_functions_of_another_name_are_listed(tmp_path, code, found):
    """Imported and decorated ones, and objects that are called, too."""
    (tmp_path / "reward.py").write_text(code)
    function = {"path": str(tmp_path / "reward.py")}
    reward = {"reward_model": {"enable": False}, "custom_reward_function": function}
    with pytest.raises(
        ValueError, match=rf"no function compute_score. .*\.name=NAME; it has: {found}\.$"
    ):
        check_reward_function(OmegaConf.create({"reward": reward}))


@pytest.mark.parametrize("task", TASKS)
def test_prompts_for_another_number_of_candidates_are_refused(task, tmp_path):
    viewers = {"viewers_per_prompt": 2} if task == "movielens_group_mean" else {}
    write_stamp(tmp_path, {"candidates": 4, **viewers})
    overrides = [f"+task={task}", f"dataset.folder={tmp_path}"]
    overrides += [JUDGE] if task in JUDGED else []
    check_config(compose_config([*overrides, "dataset.candidates=4"]))
    with pytest.raises(ValueError, match=r"candidates=2, .*ask for 4: .*--candidates 2"):
        check_config(compose_config([*overrides, "dataset.candidates=2"]))


def test_a_run_refuses_data_that_are_not_there(tmp_path, made_up_data):
    overrides = ["+task=netflix", f"dataset.folder={tmp_path}"]
    with pytest.raises(ValueError, match=r"there is no .*train.parquet.*config/task"):
        check_run(compose_config(overrides))
    made_up_data(64)
    check_run(compose_config(overrides))


REWARD = "reward.custom_reward_function"
TRIED = {
    # code of a reward function, exit code, what the dry run says
    "a number": ("return 0.5", 0, "The reward function gave 0.5 for a made-up candidate"),
    "a dict": ("return {'score': len(extra_info['shop'])}", 0, "gave 8.0 for"),
    "a column that is not there": ("return extra_info['price']", 1, "KeyError: 'price'"),
    "no number": ("return None", 1, r"failed for the first row .* TypeError.*numbers\. A run"),
}


@pytest.mark.parametrize(("code", "exit_code", "says"), TRIED.values(), ids=TRIED)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_dry_run_tries_the_reward_function(made_up_data, capsys, kind, code, exit_code, says):
    folder = made_up_data(64)
    (folder / "reward.py").write_text(
        f"{kind} compute_score(data_source, solution_str, ground_truth, extra_info):\n    {code}\n"
    )
    overrides = [f"dataset.folder={folder}", f"{REWARD}.path={folder}/reward.py"]
    overrides.append(f"actor_rollout_ref.model.path={folder}")
    said = ""
    try:
        main(["+task=aclsum_rouge", "+method=shape_grpo", *overrides])
    except SystemExit as error:
        assert exit_code == 1
        said = str(error)
    else:
        assert exit_code == 0
    assert re.search(says, said + capsys.readouterr().out)


def test_the_dry_run_shows_a_vector_as_the_function_returned_it(made_up_data, capsys):
    """Not the weighted sums that are kept of it."""
    folder = made_up_data(64)
    (folder / "reward.py").write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info):\n"
        "    return [7.0, 0.0, 2.5]\n"
    )
    overrides = [f"dataset.folder={folder}", f"{REWARD}.path={folder}/reward.py", COMPONENTS]
    overrides.append(f"actor_rollout_ref.model.path={folder}")
    main(["+task=aclsum_rouge", "+method=vpo", *overrides])
    assert "The reward function gave [7.0, 0.0, 2.5] for" in capsys.readouterr().out


def test_prompts_that_are_too_long_are_left_out():
    """vLLM would cut the responses short, and verl end after the rollout."""
    for task in (*TASKS, "own"):
        assert compose_config([f"+task={task}"]).data.filter_overlong_prompts


def test_what_only_verl_knows_to_be_wrong_is_one_sentence():
    wrong = ["+task=netflix", "actor_rollout_ref.actor.loss_agg_mode=token_mean"]
    with pytest.raises(ValueError, match=r"^verl refuses it: Invalid loss_agg_mode: token_mean"):
        check_config(compose_config(wrong), {})


@pytest.mark.parametrize(("overrides", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_a_run_refuses_what_a_dry_run_refuses(overrides, says, monkeypatch):
    """Before verl is reached."""
    from verl.trainer import main_ppo

    from recipe.shape_grpo import main_shape_grpo

    def must_not_run(config):
        raise AssertionError("verl was started")

    monkeypatch.setattr(main_ppo, "main", must_not_run)
    if not any(override.startswith("+task") for override in overrides):
        overrides = ["+task=netflix", "+method=shape_grpo", *overrides]
    with pytest.raises((ValueError, SystemExit), match=says):
        # What hydra calls with the configuration that it has composed.
        main_shape_grpo.main.__wrapped__(compose_config(overrides))


def test_a_judge_that_is_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"no judge: write .*base_url"):
        check_config(compose_config(["+task=aclsum"]))
    with pytest.raises(ValueError, match="base_url='localhost'"):
        check_config(compose_config(["+task=aclsum", JUDGE.split("=")[0] + "=localhost"]))
    own = ["reward.reward_model.enable=true", "reward.reward_model.model_path=judge"]
    check_config(compose_config(["+task=aclsum", *own]))


def run_script(script, *arguments, **environment):
    python = {"PYTHON": os.environ.get("PYTHON", "python")}
    return subprocess.run(
        [ROOT / "run_scripts" / script, *arguments],
        env={**os.environ, **python, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("run_scripts/run_*.sh")))
def test_scripts_say_which_methods_there_are(script):
    result, helped = run_script(script), run_script(script, "--help")
    assert (result.returncode, helped.returncode) == (2, 0)
    for method in METHODS:
        assert method in result.stderr and method in helped.stdout


MACHINES = {"MODEL": "Qwen/Qwen3-0.6B", "N_GPUS": "8", "NNODES": "2"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["winner_takes_all", "--dry-run", "data.seed=7", "dataset.candidates=3"],
        ["--dry-run", "winner_takes_all", "data.seed=7", "dataset.candidates=3"],
        ["winner_takes_all", "data.seed=7", "dataset.candidates=3", "--dry-run"],
    ],
)
def test_a_script_takes_its_options_in_any_order(arguments):
    result = run_script("run_netflix_history.sh", *arguments, PYTHON="echo", **MACHINES)
    assert result.stdout.split() == [
        *("-m", "recipe.shape_grpo.runs", "--dry-run", "winner_takes_all"),
        *("outputs/netflix_history-winner_takes_all", "+task=netflix_history"),
        "actor_rollout_ref.model.path='Qwen/Qwen3-0.6B'",
        *("trainer.n_gpus_per_node=8", "trainer.nnodes=2"),
        *("data.seed=7", "dataset.candidates=3"),
    ]


def test_a_script_prints_the_command_it_would_run():
    result = run_script(
        "run_netflix_history.sh",
        *("winner_takes_all", "--dry-run", "data.seed=7", "dataset.candidates=3"),
        PYTHON=os.sys.executable,
        PYTHONPATH=str(ROOT),
        **MACHINES,
    )
    assert result.returncode == 1
    command = result.stdout.replace(" \\\n    ", " ")
    folder = "outputs/netflix_history-winner_takes_all"
    start = f"python -m recipe.shape_grpo.runs winner_takes_all {folder} +task=netflix_history"
    assert command.startswith(start)
    for override in (
        "dataset.candidates=3",
        shlex.quote("actor_rollout_ref.model.path='Qwen/Qwen3-0.6B'"),
        "trainer.n_gpus_per_node=8",
        "trainer.nnodes=2",
        "data.seed=7",
    ):
        assert f" {override}" in command
    assert "The configuration is valid." not in result.stdout
    data = "outputs/netflix_history-k3/train.parquet"
    assert f"Missing: data.train_files: there is no {data}." in result.stdout
    assert "config/task says how to make its data" in result.stderr


def test_a_script_refuses_what_cannot_run():
    result = run_script(
        "run_ds1000.sh",
        "grpo",
        "--dry-run",
        "trainer.nodes=2",
        PYTHON=os.sys.executable,
        PYTHONPATH=str(ROOT),
    )
    assert result.returncode == 1
    assert "Configuration error: " in result.stderr and "nodes" in result.stderr


def test_a_reward_function_that_takes_any_keyword_gets_any(tmp_path):
    path = tmp_path / "reward.py"
    path.write_text("def compute_score(solution_str, **settings):\n    return 1.0\n")
    function = "reward.custom_reward_function"
    kwargs = f"+{function}.reward_kwargs.threshold=3"
    check_config(compose_config(["+task=aclsum_rouge", f"{function}.path={path}", kwargs]))
    path.write_text("def compute_score(solution_str, limit=1):\n    return 1.0\n")
    with pytest.raises(ValueError, match="threshold: the reward function has no such parameter"):
        check_config(compose_config(["+task=aclsum_rouge", f"{function}.path={path}", kwargs]))


@pytest.mark.parametrize(("model", "missing"), [("dishes/policy", 1), ("Qwen/Qwen3-8B", 0)])
def test_a_policy_beside_the_data_is_no_name_on_the_hub(model, missing, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    files = ["data.train_files=dishes/train.parquet", f"actor_rollout_ref.model.path={model}"]
    problems = list(missing_files(compose_config(["+task=own", *files])))
    assert sum(f"there is no folder {model}" in problem for problem in problems) == missing


def test_a_folder_of_data_is_told_from_a_missing_one(tmp_path):
    files = [f"data.train_files={tmp_path}", "data.val_files=[]"]
    problems = list(missing_files(compose_config(["+task=own", *files])))
    assert any(f"{tmp_path} is a folder. Write its files" in problem for problem in problems)
    assert any("data.val_files names no file" in problem for problem in problems)
