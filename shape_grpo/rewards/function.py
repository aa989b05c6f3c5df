"""The user's reward function: loading and checking it, its arguments and its result."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from shape_grpo.config import LARGEST, NO_NUMBERS, ShapeGRPOConfig
from shape_grpo.modules import load_module
from shape_grpo.registry import did_you_mean
from shape_grpo.rewards.arguments import (
    PASSED,
    PASSED_WITH_REWARD_MODEL,
    TEXTS,
    arguments_of,
    parameters_of,
    text_argument,
)

WHERE = "reward.custom_reward_function"
SIGNATURE = "compute_score(data_source, {}, ground_truth, extra_info=None, **kwargs)"


def check_reward_function(config: DictConfig) -> None:
    """Load the reward function and check that verl can call it, with the keywords it would get.

    A module that has ``check_reward_kwargs(reward_kwargs, has_reward_model)`` checks these itself.

    Raises:
        ValueError: There is no such function, verl could not call it, or it does not take a
            keyword.
    """
    if not config.reward.custom_reward_function.path:
        return
    module, score = _load(config)
    given = reward_kwargs(config)
    has_reward_model = config.reward.reward_model.enable
    if hasattr(module, "check_reward_kwargs"):
        module.check_reward_kwargs(given, has_reward_model)
    else:
        _check_keywords(given, score)
    calls = [dict.fromkeys(PASSED)]
    passed = [*arguments_of(score)(calls), *(PASSED_WITH_REWARD_MODEL if has_reward_model else ())]
    try:
        inspect.signature(score).bind(**{**dict.fromkeys(passed), **given})
    except TypeError as error:
        path = config.reward.custom_reward_function.path
        raise ValueError(
            f"{WHERE}.path={path}: verl passes {', '.join(passed)} by name to "
            f"{getattr(score, '__name__', 'compute_score')}{inspect.signature(score)}, and that "
            f"fails: {error}. Write {SIGNATURE.format(text_argument(score))}."
        ) from None


def load_reward_function(config: DictConfig) -> Callable[..., Any] | None:
    """Return the function that a configuration names; None if it names none.

    Raises:
        ValueError: There is no such file or function, or the file cannot be imported.
    """
    return _load(config)[1] if config.reward.custom_reward_function.path else None


def read_result(
    result: Any, text: str, options: ShapeGRPOConfig
) -> tuple[float | list[float], Mapping[str, Any]]:
    """Return the reward in a reward function's result for the candidate ``text``, and the details.

    Raises:
        ValueError: There is no reward, or one that the utility does not allow.
        TypeError: It is no number, or no list of numbers where the utility takes vectors; or the
            ``identity`` is neither text nor a number.
    """
    details = result if isinstance(result, Mapping) else {"score": result}
    if options.reward_weights:
        details = {**details, "score": weighted_sum(details, options.reward_weights, text)}
    if "score" not in details:
        raise no_score(details, text)
    check_details(details)
    return options.checked_reward(details["score"], text), details


def no_score(details: Mapping[str, Any], text: str) -> ValueError:
    """Return the error for a reward function's dict without a score."""
    return ValueError(
        f"The reward function returned a dict without 'score' for {text[:200]!r}; its keys: "
        f"{', '.join(map(str, details)) or 'none'}. Return a 'score' too, or weigh its numbers by "
        "reward_weights, as in {helpful: 0.7, short: 0.3}."
    )


def weighted_sum(details: Mapping[str, Any], weights: Mapping[str, float], text: str) -> float:
    """Return the weighted sum of the numbers that a reward function returned by name.

    Raises:
        ValueError: One of them is missing.
        TypeError: One of them is no number.
    """
    missing = [name for name in weights if name not in details]
    if missing:
        raise ValueError(
            f"reward_weights names {', '.join(missing)}, and the reward function's result for "
            f"{text[:200]!r} has only {', '.join(map(str, details))}: return a dict with a number "
            "for each name."
        )
    try:
        if any(isinstance(details[name], str | bytes) for name in weights):
            raise TypeError("text is no number")
        return sum(weight * float(details[name]) for name, weight in weights.items())
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"The reward function returned {details!r:.200}: {error}.") from error


class BrokenFunction(ValueError):
    """A reward function did not return one result for each candidate of a call."""


def read_results(results: Any, count: int, hint: str = "") -> list[Any]:
    """Return the results of a reward function for ``count`` candidates as a list.

    Args:
        results: What it returned.
        count: Number of candidates.
        hint: End of the error's message.

    Raises:
        BrokenFunction: They are no list, or one of another length.
    """
    try:
        if isinstance(results, str | bytes | Mapping | Set):
            raise TypeError  # It has a length and an order, but not those of the candidates.
        read = list(results)
    except TypeError:
        what = f"{results!r:.200}, which is no list"
    else:
        if len(read) == count:
            return read
        what = f"{len(read)} rewards"
    raise BrokenFunction(
        f"The reward function returned {what}, for {count} candidates. Return a list with one "
        f"result per candidate, in their order.{hint}"
    )


def check_details(details: Mapping[str, Any]) -> None:
    """Check what is read of a reward function's result later, where an error would end the run.

    Raises:
        TypeError: The ``identity`` is neither text nor a number.
        Exception: What ``fallback`` raises if it is neither true nor false.
    """
    read_identity(details)
    bool(details.get("fallback"))


def further_numbers(details: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers up to `LARGEST` beside ``score`` in a function's result, by name."""
    numbers = {}
    for name, value in details.items():
        if name in NO_NUMBERS or isinstance(value, str):
            continue
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if abs(number) <= LARGEST:
            numbers[str(name)] = number
    return numbers


def read_identity(details: Mapping[str, Any]) -> str | None:
    """Return what a candidate is, as text, by the ``identity`` of a reward function's result.

    None, NaN and a missing key say that it is unknown. 3 and 3.0 are the same.

    Raises:
        TypeError: It is neither text nor a number.
    """
    identity: Any = details.get("identity")
    if hasattr(identity, "item") and getattr(identity, "ndim", 1) == 0:
        identity = identity.item()  # of NumPy or torch
    if identity is None or isinstance(identity, str):
        return identity
    if not isinstance(identity, int | float):
        raise TypeError(
            f"The reward function returned the identity {identity!r:.200}: write text or a number, "
            "as str(...) of it, or None."
        )
    if math.isnan(identity):
        return None
    is_whole = math.isfinite(identity) and identity == int(identity)
    return str(int(identity) if is_whole else identity)


def reward_kwargs(config: DictConfig) -> dict[str, Any]:
    """Return the keywords that the configuration adds to every call."""
    plain = OmegaConf.to_container(config.reward.custom_reward_function, resolve=True)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in (plain.get("reward_kwargs") or {}).items()}


def _load(config: DictConfig) -> tuple[Any, Callable[..., Any]]:
    function = config.reward.custom_reward_function
    try:
        module = load_module(function.path)
    except FileNotFoundError as error:
        if Path(function.path.removeprefix("file://")).exists():
            raise ValueError(_not_imported(function.path, error)) from error
        raise ValueError(f"{WHERE}.path={function.path}: there is no such file.") from None
    except (Exception, SystemExit) as error:
        raise ValueError(_not_imported(function.path, error)) from error
    name = function.get("name") or "compute_score"
    score = getattr(module, name, None)
    if not callable(score):
        found = list(_functions(module))
        hint = f" Write {WHERE}.name=NAME; it has: {', '.join(found)}." if found else ""
        raise ValueError(f"{WHERE}.path={function.path}: it has no function {name}.{hint}")
    return module, score


def _functions(module: Any) -> Iterator[str]:
    """Yield the names in a module that may be reward functions, also imported or decorated ones.

    Those with an argument for a candidate's text, else all functions that the file defines.
    """
    callables = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and not inspect.isclass(value) and not name.startswith("__")
    }
    takes_text = [name for name, value in callables.items() if {*TEXTS} & {*parameters_of(value)}]
    for name, value in callables.items():
        is_own = getattr(value, "__module__", None) == module.__name__
        if name in takes_text or (is_own and not takes_text):
            yield name


def _not_imported(path: str, error: BaseException) -> str:
    return f"{WHERE}.path={path}: it cannot be imported ({type(error).__name__}: {error})."


def _check_keywords(given: Mapping[str, Any], score: Callable[..., Any]) -> None:
    """Check for misspelt keywords, which would be lost in a function's ``**kwargs``."""
    parameters = inspect.signature(score).parameters.values()
    known = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    takes_any = len(known) < len(parameters)
    for name in (name for name in given if name not in known):
        hint = did_you_mean(name, known)
        if hint or not takes_any:
            raise ValueError(
                f"{WHERE}.reward_kwargs.{name}: the reward function has no such parameter.{hint}"
            )
