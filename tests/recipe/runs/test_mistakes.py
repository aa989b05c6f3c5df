"""Every row of docs/mistakes.md: refused before Ray starts, with what to write instead."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from verl.utils.config import validate_config

from recipe.shape_grpo import main_shape_grpo
from recipe.shape_grpo.common.files import write_stamp
from recipe.shape_grpo.runs.check import compose_config
from shape_grpo.verl.cpu import ENVIRONMENT

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "recipe/shape_grpo/docs/mistakes.md"
ROWS = 6
REWARDS = {
    "reward.py": "def compute_score(data_source, solution_str, ground_truth, extra_info, limit=1, "
    "**more):\n    return len(solution_str)\n",
    "trl_reward.py": "def compute_score(completions, prompts, **columns):\n    return [1.0]\n",
    "broken_reward.py": "import no_such_package\n",
    "exits.py": "raise SystemExit(0)\n",
    "taken.py": "from shape_grpo.credit import Max, register_utility\n"
    "@register_utility('max')\nclass Better(Max): pass\n",
}
LOSS = "actor_rollout_ref.actor.policy_loss.loss_mode"
REWARD = "reward.custom_reward_function"
FILTER = "algorithm.filter_groups"
EXTENSIONS = "algorithm.shape_grpo.extensions"
ROLLOUTS = "algorithm.adv_estimator=shape_grpo_rollouts"
K = "+algorithm.shape_grpo.allocator_options.k"
# A row of the table: overrides, and what the message must say. HERE is the folder of the data.
MISTAKES = {
    "a misspelt key": (
        ["data.train_batch=8"],
        r"data.train_batch: there is no such key. Did you mean data.train_batch_size\?",
    ),
    "a misspelt key with a `+`, as Hydra advises": (
        ["+data.train_batch=8"],
        r"data.train_batch: verl has no such key. Did you mean data.train_batch_size\?",
    ),
    "a misspelt key of the block": (
        ["+algorithm.shape_grpo.allocater=uniform"],
        r"algorithm.shape_grpo.allocater: unknown key. Did you mean allocator\?",
    ),
    "a value that the block does not allow": (
        ["algorithm.shape_grpo.allocator=shapely"],
        r"allocator=shapely: .*Did you mean shapley\?",
    ),
    "a misspelt name of the estimator": (
        ["algorithm.adv_estimator=shape-grpo"],
        r"adv_estimator=shape-grpo: .*Did you mean shape_grpo\?",
    ),
    "a misspelt name of the trainer": (
        ["trainer.v1.trainer_mode=shapegrpo"],
        r"trainer_mode=shapegrpo: .*Did you mean shape_grpo\?",
    ),
    "verl's own trainer with our estimator": (
        ["trainer.v1.trainer_mode=sync"],
        "write trainer.v1.trainer_mode=shape_grpo",
    ),
    "verl's earlier trainer": (["trainer.use_v1=false"], "write trainer.use_v1=true"),
    "a reward manager that scores whole responses": (
        ["reward.reward_manager.name=naive"],
        "write reward.reward_manager.name=multi_candidate",
    ),
    "a reward model on the trainer's GPUs": (
        ["reward.reward_model.enable=true"],
        "write reward.reward_model.enable_resource_pool=true",
    ),
    "a KL penalty in the reward": (
        ["algorithm.use_kl_in_reward=true"],
        "write actor_rollout_ref.actor.use_kl_loss=true instead",
    ),
    "a set of one rollout": (
        [ROLLOUTS, "actor_rollout_ref.rollout.n=1"],
        "a set of one has nothing to compare. Write 2 or more",
    ),
    "a best-of-k of more rollouts than there are": (
        [ROLLOUTS, "algorithm.shape_grpo.allocator=best_of_k", f"{K}=9"],
        r"looks at 9 of the rollouts .*rollout.n=8. Write 8 or less",
    ),
    "vectors as rewards of rollouts of several candidates": (
        [ROLLOUTS, "algorithm.shape_grpo.utility=coverage"],
        "one candidate: write format=whole, or max_candidates=1",
    ),
    "a setting for candidates within a response, with sets of rollouts": (
        [ROLLOUTS, "algorithm.shape_grpo.advantage=praise"],
        "advantage=praise: is for candidates within a response.* leave advantage out",
    ),
    "a loss that averages the advantages": (
        [f"{LOSS}=geo_mean"],
        "would train like grpo: write one of vanilla",
    ),
    "`filter_groups` without a number to compare": (
        [f"{FILTER}.enable=true", f"{FILTER}.metric=null"],
        "write algorithm.filter_groups.metric=score",
    ),
    "a file of a reward function that does not exist": (
        [f"{REWARD}.path=HERE/no.py"],
        "no.py: there is no such file",
    ),
    "a reward function that cannot be imported": (
        [f"{REWARD}.path=HERE/broken_reward.py"],
        "cannot be imported .*No module named 'no_such_package'",
    ),
    "a reward function's file that ends the program": (
        [f"{REWARD}.path=HERE/exits.py"],
        r"cannot be imported \(SystemExit: 0\)",
    ),
    "a checkpoint that does not exist": (
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=HERE/global_step_3"],
        "resume_from_path: there is no folder .*global_step_3",
    ),
    "a folder of checkpoints instead of one": (
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=HERE"],
        "write the folder of a checkpoint, as RUN/checkpoints/global_step_100",
    ),
    "an unknown way to resume": (
        ["trainer.resume_mode=Auto"],
        r"trainer.resume_mode=Auto: unknown value\. .*Allowed: auto, disable, resume_path",
    ),
    "a reward function with another name": ([f"{REWARD}.name=score"], "it has no function score"),
    "a reward function with another signature": (
        [f"{REWARD}.path=HERE/trl_reward.py"],
        r"compute_score\(completions, prompts, \*\*columns\), and that fails: missing a required "
        r"argument: 'completions'. Write compute_score\(data_source, solution_str,",
    ),
    "a misspelt keyword of the reward function": (
        [f"+{REWARD}.reward_kwargs.limitt=2"],
        r"limitt: .*Did you mean limit\?",
    ),
    "data that do not exist": (
        ["data.val_files=HERE/none.parquet"],
        "data.val_files: there is no .*none.parquet",
    ),
    "data that are not a parquet file": (
        ["data.train_files=HERE/empty.parquet"],
        r"data.train_files: .*empty\.parquet cannot be read as parquet",
    ),
    "a batch larger than the data": (
        ["data.train_batch_size=64"],
        "train_batch_size=64, but data.train_files has 6 rows: write 6 or less",
    ),
    "a batch larger than the part of the data that is used": (
        ["data.train_max_samples=2"],
        "has 6 rows, of which data.train_max_samples=2 are used: write 2 or less",
    ),
    "a policy that does not exist": (
        ["actor_rollout_ref.model.path=HERE/no_policy"],
        "model.path: there is no folder .*no_policy",
    ),
    "prompts that ask for another number of candidates": (
        ["dataset.candidates=5"],
        "ask for 3: prepare the data with --candidates 5",
    ),
    "mini-batches that do not divide the batch": (
        ["actor_rollout_ref.actor.ppo_mini_batch_size=3"],
        "train_batch_size=4 is not a multiple of .*ppo_mini_batch_size=3",
    ),
    "responses that cannot be divided among the GPUs": (
        ["trainer.n_gpus_per_node=3"],
        "do not divide evenly among 3 GPUs",
    ),
    "responses longer than a micro-batch": (
        ["data.max_response_length=8000"],
        "allow 9024 tokens, .*8192: write .*ppo_max_token_len_per_gpu=9024",
    ),
    "the CPU backend with another platform in the environment": (
        ["+backend=cpu"],
        "VERL_PLATFORM=nvidia: write .*backend=cpu .*leave VERL_PLATFORM out of the environment",
    ),
    "a secret in the configuration": (
        ["+ray_kwargs.ray_init.runtime_env.env_vars.JUDGE_KEY=abc123"],
        "env_vars.JUDGE_KEY: verl prints its whole configuration",
    ),
    "a file of extensions that does not exist": (
        [f"{EXTENSIONS}=[HERE/no.py]"],
        "there is no file .*/no.py. Write its path, from the folder",
    ),
    "a file of extensions that cannot be imported": (
        [f"{EXTENSIONS}=[HERE/broken_reward.py]"],
        "ModuleNotFoundError in line 1: No module named 'no_such_package'",
    ),
    "an extension that registers a name that is taken": (
        [f"{EXTENSIONS}=[HERE/taken.py]"],
        "in line 2: utility 'max' is already registered: .* take another name",
    ),
    "prompts that are text": (
        ["data.train_files=HERE/text.parquet"],
        r'text.parquet, every row: prompt is text, .* data\["prompt"\] = \[\[\{"role": "user", ',
    ),
    "prompts in a column of another name": (
        ["data.prompt_key=messages"],
        "has no column messages; it has: data_source, prompt, .* Write data.prompt_key=prompt",
    ),
    "rows that verl or a reward function could not use": (
        ["data.val_files=HERE/nulls.parquet"],
        r"nulls.parquet, row 2: reward_model is null. Write \{.style.: .rule., .ground_truth.: ",
    ),
    "data without rows": (
        ["data.val_files=HERE/none.jsonl"],
        "data.val_files: .*none.jsonl has no rows. Prepare the data again",
    ),
    "data of another kind of file": (
        ["data.train_files=HERE/reward.py"],
        "reward.py: verl reads files that end in .parquet, .json, .jsonl",
    ),
    "a policy without a chat template": (
        ["actor_rollout_ref.model.path=HERE/base_policy"],
        "base_policy has no chat template, .*write actor_rollout_ref.model.custom_chat_template=",
    ),
    "a misspelt tracker": (
        ["trainer.logger=[mlfow]"],
        r"trainer.logger=mlfow: .*Did you mean mlflow\?",
    ),
    "a tracker that is not installed": (
        ["trainer.logger=[console,swanlab]"],
        r"no module swanlab, .*pip install swanlab\), or write trainer.logger=\[console\]",
    ),
    "a misspelt method, task, scale or backend": (
        ["+scale=quikstart"],
        r"\+scale=quikstart: .*Did you mean quickstart\? There are: quickstart, smoke, ",
    ),
    "a method, task, scale or backend without its `+`": (
        ["scale=quickstart"],
        r"scale=quickstart: write \+scale=quickstart\.",
    ),
    "a misspelt `+method`, `+task`, `+scale` or `+backend`": (
        ["+scal=quickstart"],
        r"\+scal=quickstart: Did you mean \+scale=quickstart\?",
    ),
    "a number of candidates below 1": (
        ["dataset.candidates=0"],
        "error: dataset.candidates=0: write a whole number of 1 or more",
    ),
    "`no` or `off`, which verl takes for true": (
        ["data.shuffle=no"],
        r"data.shuffle=no: .*takes for true. Write data.shuffle=false",
    ),
    "text for a number": (
        ["actor_rollout_ref.actor.optim.lr=1e-3x"],
        r"optim.lr=1e-3x: must be a number",
    ),
    "a batch, a count or a length of 0 or null": (
        ["data.train_batch_size=0"],
        r"train_batch_size=0: write a whole number of 1 or more",
    ),
    "a misspelt name of one of verl's parts": (
        ["actor_rollout_ref.rollout.name=vlm"],
        r"rollout.name=vlm: .*Did you mean vllm\?",
    ),
    "files whose columns have different types": (
        ["data.train_files=[HERE/train.parquet,HERE/numbers.parquet]"],
        r"numbers.parquet have columns of different types, .* key data_source of",
    ),
}
# What Hydra itself refuses, or what a prepared task knows: not known to verl's entry point.
OF_THE_RECIPE = (
    "a misspelt key",
    "prompts that ask for another number of candidates",
    "a misspelt method, task, scale or backend",
    "a method, task, scale or backend without its `+`",
    "a misspelt `+method`, `+task`, `+scale` or `+backend`",
    "a number of candidates below 1",
)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The folder of a task with six prompts, as `own` of config/task has them."""
    folder = tmp_path_factory.mktemp("own")
    row = {
        "data_source": "slogans",
        "prompt": [{"role": "user", "content": "Suggest 3 slogans."}],
        "reward_model": {"style": "rule", "ground_truth": "fresh"},
        "extra_info": {"shop": "a bakery"},
    }
    for name in ("train", "test"):
        pd.DataFrame([row] * ROWS).to_parquet(folder / f"{name}.parquet")
    text, nulls = {**row, "prompt": "Suggest 3 slogans."}, {**row, "reward_model": None}
    pd.DataFrame([text] * ROWS).to_parquet(folder / "text.parquet")
    pd.DataFrame([row, row, nulls]).to_parquet(folder / "nulls.parquet")
    numbers = {**row, "data_source": 1}
    pd.DataFrame([numbers] * ROWS).to_parquet(folder / "numbers.parquet")
    (folder / "empty.parquet").touch()
    (folder / "none.jsonl").touch()
    for policy, settings in (("policy", {"chat_template": "{{ messages }}"}), ("base_policy", {})):
        (folder / policy).mkdir()
        (folder / policy / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / policy / "tokenizer.json").touch()
    for name, code in REWARDS.items():
        (folder / name).write_text(code)
    write_stamp(folder, {"candidates": 3})
    return folder


@pytest.fixture
def command(here, monkeypatch):
    """command(overrides) -> those of a run on that task, which is right but for them."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # What a command sets for the CPU is taken back after the test.
    for variable in ENVIRONMENT:
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("VERL_PLATFORM", "nvidia")
    return lambda overrides: right_but_for(here, overrides)


def right_but_for(here, overrides):
    right = [
        *("+task=own", "+method=shape_grpo", f"dataset.folder={here}", "data.train_batch_size=4"),
        *(f"data.train_files={here}/train.parquet", f"data.val_files={here}/test.parquet"),
        *(f"actor_rollout_ref.model.path={here}/policy", f"{REWARD}.path={here}/reward.py"),
    ]
    return right + [override.replace("HERE", str(here)) for override in overrides]


def test_the_table_has_a_row_for_each_of_these():
    rows = re.findall(r"^\| (.+?) \|", TABLE.read_text(), flags=re.MULTILINE)
    assert rows[0] == "mistake"
    assert rows[1:] == list(MISTAKES)


@pytest.mark.parametrize(("overrides", "says"), MISTAKES.values(), ids=MISTAKES)
def test_the_recipes_entry_refuses_it(command, monkeypatch, overrides, says):
    monkeypatch.setattr(main_shape_grpo, "main", lambda: pytest.fail("hydra was reached"))
    with pytest.raises(SystemExit, match=says):
        main_shape_grpo.run(command(overrides))


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if name not in OF_THE_RECIPE])
def test_verls_own_entry_refuses_it_where_it_checks_its_configuration(command, mistake):
    overrides, says = MISTAKES[mistake]
    with pytest.raises(ValueError, match=says):
        validate_config(compose_config(command(overrides)), False, False)


def test_what_is_right_but_for_them_is_right(command, monkeypatch):
    reached = []
    monkeypatch.setattr(main_shape_grpo, "main", lambda: reached.append(True))
    main_shape_grpo.run(command([]))
    assert reached == [True]


def test_what_it_refuses_it_refuses_before_verl_and_ray_are_imported(here):
    """They take seconds, and this takes about two, nearly all of them torch's."""
    program = """
import json, sys
from recipe.shape_grpo import main_shape_grpo
refused = []
for overrides in json.loads(sys.argv[1]):
    try:
        main_shape_grpo.run(overrides)
    except SystemExit as error:
        refused.append(str(error))
print(json.dumps([len(refused), [name for name in ("verl", "ray", "vllm") if name in sys.modules]]))
"""
    mistakes = [right_but_for(here, overrides) for overrides, _ in MISTAKES.values()]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, json.dumps(mistakes)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**without_platform(), "VERL_PLATFORM": "nvidia"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads(result.stdout.splitlines()[-1]) == [len(MISTAKES), []]


def without_platform():
    import os

    dropped = ("RAY_ADDRESS", "VERL_PLATFORM", "VERL_ENGINE_DEVICE")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def test_verls_own_entry_point_ends_with_our_words_before_ray(here):
    """One whole command; only the hook that the plugin puts there can refuse it."""
    flags = [
        *("algorithm.adv_estimator=shape_grpo", "trainer.v1.trainer_mode=shape_grpo"),
        *("reward.reward_manager.name=multi_candidate", f"{REWARD}.path={here}/reward.py"),
        *("+algorithm.shape_grpo.allocater=uniform", "hydra.run.dir=."),
        "actor_rollout_ref.rollout.name=vllm",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", *flags],
        capture_output=True,
        text=True,
        cwd=here,
        env=without_platform(),
    )
    assert result.returncode == 1
    output = result.stdout + result.stderr
    assert "algorithm.shape_grpo.allocater: unknown key. Did you mean allocator?" in output
    assert "ray init kwargs" not in output


def test_a_response_too_short_for_its_candidates_is_warned_of(command):
    config = compose_config(command(["data.max_response_length=16"]))
    with pytest.warns(
        UserWarning, match="max_response_length=16: 3 one-token candidates .* about 21 tokens"
    ):
        validate_config(config, False, False)


def test_on_a_cluster_elsewhere_files_may_be_where_this_machine_does_not_see_them(
    command, monkeypatch
):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    config = compose_config(command(["data.train_files=/mnt/none.parquet"]))
    validate_config(config, False, False)
