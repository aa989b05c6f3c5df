"""Arguments of reward functions, for one candidate or for all candidates of a response.

The name of the argument that holds text says what a function is asked about: ``solution_str``, one
candidate; ``solution_strs``, all candidates of a response in one call; ``solutions``, a subset of
them (the utility ``oracle``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from shape_grpo.credit import Oracle

if TYPE_CHECKING:
    from shape_grpo.config import ShapeGRPOConfig

TEXTS = ("solution_str", "solution_strs", "solutions")
PASSED = ("data_source", "solution_str", "ground_truth", "extra_info")
"""Arguments that verl's reward managers, and this package's, pass by name."""
PASSED_WITH_REWARD_MODEL = ("reward_router_address", "reward_model_tokenizer")
_LISTS = {
    "data_sources": "data_source",
    "ground_truths": "ground_truth",
    "extra_infos": "extra_info",
}
"""Arguments of verl's own batch functions: one entry per candidate."""


def text_argument(function: Callable[..., Any]) -> str:
    """Return the name of a reward function's argument for text, one of `TEXTS`."""
    parameters = parameters_of(function)
    return next((name for name in TEXTS if name in parameters), TEXTS[0])


def check_text_argument(function: Callable[..., Any], config: ShapeGRPOConfig) -> None:
    """Check that a reward function is asked about what the utility needs.

    Raises:
        ValueError: The utility ``oracle`` needs a function of ``solutions``, other utilities one of
            candidates.
    """
    argument, is_oracle = text_argument(function), isinstance(config.method.utility, Oracle)
    if is_oracle and argument != "solutions":
        raise ValueError(
            "utility=oracle asks for the utility of subsets of the candidates, and the reward "
            "function has no argument solutions: write utility(solutions, ground_truth=None, "
            "**kwargs), with TRL utility(solutions, **columns), which returns one number, or "
            "another utility."
        )
    if argument == "solutions" and not is_oracle:
        raise ValueError(
            f"The reward function takes solutions, a subset of the candidates, and "
            f"utility={config.utility} takes one reward per candidate: write utility=oracle, or a "
            "function of solution_str (one candidate) or solution_strs (all of a response)."
        )


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function, of an object that is called, or of what verl wraps."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a builtin
        return {}
    # verl's partial(call, function, reward_kwargs) takes *args and **kwargs.
    hidden = all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())
    if hidden and isinstance(function, partial) and function.args and callable(function.args[0]):
        return parameters_of(function.args[0])
    return parameters


def candidate_arguments(
    row: Mapping[str, Any],
    text: str,
    index: int,
    count: int,
    *,
    turns: int | None = 2,
    tool_fields: Mapping[str, Any] | None = None,
    rollout_scores: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the arguments of a reward function for one candidate, without ``reward_kwargs``.

    They are those of verl's own managers, with two more keys in ``extra_info``:
    ``candidate_index`` and ``num_candidates``. Each call has copies, so a function may change them.

    Args:
        row: Row of the data, with verl's columns ``data_source``, ``reward_model``, ``extra_info``.
        text: The candidate.
        index: Index of the candidate in the response, from 0.
        count: Number of candidates of the response.
        turns: Number of turns of the conversation; a prompt and one answer are two.
        tool_fields: Fields that tools left for the reward function.
        rollout_scores: Scores that the rollout itself gave.
    """
    extra_info = {
        **(row.get("extra_info") or {}),
        **(tool_fields or {}),
        "num_turns": turns,
        "rollout_reward_scores": rollout_scores or {},
        "candidate_index": index,
        "num_candidates": count,
    }
    return {
        "data_source": row["data_source"],
        "solution_str": text,
        "ground_truth": deepcopy(row["reward_model"]["ground_truth"]),
        "extra_info": deepcopy(extra_info),
    }


def arguments_of(
    function: Callable[..., Any],
) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]:
    """Return what makes the arguments of one call of ``function`` about candidates of a response.

    It takes the arguments of each candidate's own call, one or more. The signature is read here,
    once, because a step has thousands of calls.

    A function of one candidate gets those of the candidate's own call. For others, ``extra_info``
    has the list ``candidate_indices`` in place of ``candidate_index``. A function that names
    ``data_sources``, ``ground_truths`` or ``extra_infos``, as verl's own batch functions do, gets
    lists with one entry per candidate instead. A function of ``solutions`` gets only what it names,
    unless it takes ``**kwargs``.
    """
    texts, parameters = text_argument(function), parameters_of(function)
    if texts == TEXTS[0]:
        return lambda calls: dict(calls[0])
    lists = {name: of_one for name, of_one in _LISTS.items() if name in parameters}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())

    def join(calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        given = _of_all(calls)
        given[texts] = [call["solution_str"] for call in calls]
        del given["solution_str"]
        if isinstance(given.get("extra_info"), dict):
            given["extra_info"] = _of_all([call["extra_info"] for call in calls])
        for name, of_one in lists.items():
            if of_one in given:
                given[name] = [call[of_one] for call in calls]
                del given[of_one]
        if texts == "solutions" and not takes_any:
            given = {name: value for name, value in given.items() if name in parameters}
        return given

    return join


def _of_all(calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments of the first call, with ``candidate_index`` of all as a list."""
    given = dict(calls[0])
    if "candidate_index" in given:
        del given["candidate_index"]
        given["candidate_indices"] = [call["candidate_index"] for call in calls]
    return given
