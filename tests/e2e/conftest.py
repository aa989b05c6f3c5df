"""A small task and a policy for it, made here without a network, and runs of the real pipeline."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings
from recipe.shape_grpo.policies.warm_start import train_policy
from recipe.shape_grpo.quickstart import run_overrides
from recipe.shape_grpo.runs.launch import cpu_environment
from recipe.shape_grpo.tasks.movielens import TaskSettings, prepare

ROOT = Path(__file__).parents[2]
VLLM = "actor_rollout_ref.rollout.engine_kwargs.vllm"
FILMS = ["Alien", "Brazil", "Casablanca", "Dune", "Élan vital", "Fargo", "Gandhi", "Heat 東京"]


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    """Folder with prompts and the rating table of 40 made-up viewers of 8 films."""
    raw = tmp_path_factory.mktemp("ratings")
    rng = np.random.default_rng(0)
    pairs = [(user, film) for user in range(1, 41) for film in range(8) if rng.random() < 0.7]
    pd.DataFrame(
        [(user, film, int(rng.integers(1, 6)), 0) for user, film in pairs],
        columns=["userId", "movieId", "rating", "timestamp"],
    ).to_csv(raw / "ratings.csv", index=False)
    pd.DataFrame(
        [(film, f"{title} (1979)", "Drama") for film, title in enumerate(FILMS)],
        columns=["movieId", "title", "genres"],
    ).to_csv(raw / "movies.csv", index=False)
    folder = tmp_path_factory.mktemp("task")
    prepare(
        folder,
        TaskSettings(
            ratings=str(raw), films=8, min_ratings=1, history=1, test_viewers=8, factors=2, epochs=2
        ),
    )
    return folder


@pytest.fixture(scope="session")
def policy(task, tmp_path_factory):
    """A policy that has begun to learn the format: some answers are whole, some are not."""
    folder = tmp_path_factory.mktemp("policy")
    settings = PolicySettings(vocabulary=400, width=64, steps=150, batch=32)
    train_policy(task, folder, settings, Console(quiet=True))
    return folder


@pytest.fixture(scope="session")
def overrides(task, policy):
    """Hydra overrides that both entry points take."""
    return [
        *run_overrides(task),
        f"actor_rollout_ref.model.path={policy}",
        "data.train_batch_size=4",
        "actor_rollout_ref.rollout.n=4",
        "trainer.test_freq=-1",
        "trainer.logger=[file]",
    ]


@pytest.fixture(scope="session")
def verl_main_ppo(overrides, tmp_path_factory):
    """run(*overrides, fails, **environment): verl's own entry point with flags alone; its run
    folder, with a link `ray` to that of Ray's session."""

    def run(*more, fails=False, **environment):
        folder = tmp_path_factory.mktemp("main_ppo")
        command = [
            *(sys.executable, "-m", "verl.trainer.main_ppo"),
            f"hydra.searchpath=[file://{ROOT}/recipe/shape_grpo/config]",
            f"hydra.run.dir={folder}/hydra",
            f"trainer.default_local_dir={folder}/checkpoints",
            *overrides,
            *more,
        ]
        with (folder / "train.log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**cpu_environment(folder / "metrics.jsonl"), **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            process.wait()
        # Ray's own folder of this run: another may have begun a later session.
        sessions = Path(tempfile.gettempdir(), "ray").glob(f"session_*_{process.pid}")
        for session in sorted(sessions)[-1:]:
            (folder / "ray").symlink_to(session)
        assert bool(process.returncode) == fails, (folder / "train.log").read_text()[-5000:]
        return folder

    return run


@pytest.fixture(scope="session")
def spied(verl_main_ppo, tmp_path_factory):
    """spied(mode, *overrides, fails): a run with `pipeline_spy`; its folder and the spy's notes."""

    def run(mode, *more, fails=False):
        notes = tmp_path_factory.mktemp("spy")
        folder = verl_main_ppo(
            "algorithm.adv_estimator=shape_grpo",
            "+algorithm.shape_grpo.allocator=shapley",
            "reward.reward_manager.name=multi_candidate",
            f"trainer.v1.trainer_mode={mode}_spy",
            f"{VLLM}.worker_extension_cls=tests.e2e.vllm_spy.SpyExtension",
            *more,
            fails=fails,
            SPY=str(notes),
            VERL_USE_EXTERNAL_MODULES="tests.e2e.pipeline_spy",
            PYTHONPATH=str(ROOT),
        )
        return folder, notes

    return run
