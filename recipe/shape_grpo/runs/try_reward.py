"""One call of the reward function, as a run makes them: with a row of its data, and one candidate.

Only the dry run does this: a reward function may be slow, cost money, or need a server that a run
is started after.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from pyarrow import parquet

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.reward_function import load_reward_function, reward_kwargs

MADE_UP = "A made-up candidate."


class RewardFailed(Exception):
    """The call raised, or returned no reward; the message says which, and how to see it again."""


def try_reward(config: DictConfig) -> str:
    """Call the reward function with the first row of the training data and a made-up candidate.

    Returns:
        A sentence that says what it gave, or why it was not called.

    Raises:
        RewardFailed: In a run, so would every candidate.
    """
    if config.reward.reward_model.enable:
        return "The reward function was not tried: it asks verl's reward model, which a run starts."
    row = _first_row(config)
    if row is None:
        return "The reward function was not tried: the training data are not parquet files here."
    try:
        result = _call(config, row)
        details = result if isinstance(result, dict) else {"score": result}
        options = ShapeGRPOConfig.from_algorithm(config.algorithm)
        reward = options.checked_reward(details["score"], MADE_UP)
    except Exception as error:
        # Its own line; the frames above are of this file.
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise RewardFailed(
            f"the reward function failed for the first row of data.train_files and the candidate "
            f"{MADE_UP!r}: {type(error).__name__}: {error} ({where.filename}:{where.lineno}). In a "
            "run, each such failure costs a candidate."
        ) from error
    return f"The reward function gave {reward} for a made-up candidate of the first row."


def _first_row(config: DictConfig) -> dict[str, Any] | None:
    files = config.data.train_files
    path = str(files[0] if isinstance(files, ListConfig) else files)
    if "://" in path or not path.endswith(".parquet"):
        return None
    batch = next(parquet.ParquetFile(Path(path).expanduser()).iter_batches(batch_size=1))
    row: dict[str, Any] = batch.to_pylist()[0]
    return row


def _call(config: DictConfig, row: dict[str, Any]) -> Any:
    score = load_reward_function(config)
    if score is None:
        from verl.utils.reward_score import default_compute_score

        score = default_compute_score
    extra_info = {
        **(row.get("extra_info") or {}),
        "num_turns": 2,
        "rollout_reward_scores": {},
        "candidate_index": 0,
        "num_candidates": 1,
    }
    arguments = {
        "data_source": row[config.data.reward_fn_key],
        "solution_str": MADE_UP,
        "ground_truth": row["reward_model"]["ground_truth"],
        "extra_info": extra_info,
        **reward_kwargs(config),
    }
    result = score(**arguments)
    return asyncio.run(result) if inspect.iscoroutine(result) else result
