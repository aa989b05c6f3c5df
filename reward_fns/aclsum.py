"""Reward of summaries: a language model's scores, from 1 to 5, against the reference.

Two async reward functions: `compute_score`, called once per candidate, and `compute_scores`, called
once per response, which shows the judge all its summaries in one request. The judge is any
OpenAI-compatible server, or verl's own generative reward model (`reward.reward_model`):

    reward.custom_reward_function.path=reward_fns/aclsum.py
    reward.custom_reward_function.name=compute_scores
    +reward.custom_reward_function.reward_kwargs.base_url=http://localhost:8000/v1

`JudgeSettings` (`reward_fns/judge.py`) documents all keys. `reward_fns/aclsum_rouge.py` is the
reward without a judge. `python -m recipe.shape_grpo.tasks aclsum` writes prompts and references.

No summary can opt out of its score. Its escaped text is cut (`aclsum_question.MOST_BYTES`). If the
judge refuses a summary, as a content filter or a short context does, and not an empty one in its
place, then the text is the reason, and its score is 1. A judge that fails, or refuses both, is a
failure.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from openai import OpenAIError

from reward_fns.aclsum_question import ASPECTS, judge_messages, list_messages, shuffled
from reward_fns.aclsum_rouge import compute_score as rouge_score
from reward_fns.judge import Judge, JudgeSettings, find_judge, is_refusal
from reward_fns.judge_answer import SCORES, NoAnswer

logger = logging.getLogger(__name__)

logged_failures: set[type[Exception]] = set()


def check_reward_kwargs(kwargs: dict[str, Any], has_reward_model: bool) -> None:
    """Check `reward_kwargs` before a run starts.

    Raises:
        ValueError: The settings are wrong, or there is no judge.
    """
    if JudgeSettings.from_kwargs(kwargs).base_url is None and not has_reward_model:
        raise ValueError(
            "no judge: write reward.custom_reward_function.reward_kwargs.base_url=http://HOST/v1, "
            "or reward.reward_model.enable=true with reward.reward_model.model_path=MODEL"
        )


class UnclearRefusal(ValueError):
    """The judge refused a text and then failed, so that the reason is not known."""


def log_once(error: Exception, message: str) -> None:
    """Log the first error of each type."""
    if type(error) not in logged_failures:
        logged_failures.add(type(error))
        logger.error("%s: %s", message, error)


def find_aspect(extra_info: dict[str, Any] | None) -> str:
    """Return the row's aspect.

    Raises:
        ValueError: It has none.
    """
    aspect = (extra_info or {}).get("aspect")
    if aspect not in ASPECTS:
        raise ValueError(
            f"extra_info.aspect is {aspect!r}, but must be one of {', '.join(ASPECTS)}: make the "
            "prompt file with `python -m recipe.shape_grpo.tasks aclsum`"
        )
    return aspect


async def score_alone(judge: Judge, summary: str, reference: str, aspect: str) -> int:
    """Return the judge's score of one summary; the lowest if the judge refuses this text alone.

    Raises:
        ValueError: The answer is not a score.
        openai.OpenAIError: The judge did not answer, or refuses every text.
        UnclearRefusal: The judge refused this text, and did not answer about an empty one.
    """

    def ask(text: str) -> Any:
        return judge.score(judge_messages(text, reference, aspect, judge.settings.answer))

    try:
        return int(await ask(summary))
    except (OpenAIError, ValueError) as error:
        if not is_refusal(error):
            raise
        try:
            await ask("")
        except (OpenAIError, ValueError) as again:
            if is_refusal(again):
                raise error from again
            if isinstance(again, OpenAIError | NoAnswer):
                raise UnclearRefusal(
                    f"the judge refused this summary ({error}), and failed with an empty one, "
                    f"which would tell whether the text is the reason: {again}"
                ) from error
            # It has answered, though not with a score.
        log_once(error, "The judge refused a summary, whose score is therefore the lowest")
        return SCORES[0]


def replaced(error: Exception, settings: JudgeSettings, summary: str, reference: str) -> Any:
    """Return the result by ROUGE of a summary that the judge failed on.

    Raises:
        Exception: `error`, if the settings say so, or if the judge may have refused the text.
    """
    if settings.on_failure == "raise" or isinstance(error, UnclearRefusal):
        raise error
    log_once(error, "The judge failed; ROUGE replaces it")
    return {"score": 1 + 4 * rouge_score("aclsum", summary, reference), "fallback": 1.0}


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **kwargs: Any,
) -> dict[str, float]:
    """Return the judge's score of one summary.

    Args:
        data_source: Not used; verl passes it.
        solution_str: One candidate, a summary.
        ground_truth: The reference summary.
        extra_info: The row's extra information; its "aspect" is a key of `ASPECTS`.
        reward_router_address: Host and port of verl's reward-model server, where there is one.
        reward_model_tokenizer: Not used; the server has its own.
        **kwargs: `JudgeSettings`.

    Returns:
        "score", a whole number from 1 to 5, and "fallback", 0; if ROUGE replaced the judge, "score"
        is a fraction from 1 to 5 and "fallback" is 1.

    Raises:
        ValueError: The settings are wrong, the row has no aspect, or the answer is not a score.
        openai.OpenAIError: The judge did not answer.
    """
    settings = JudgeSettings.from_kwargs(kwargs)
    aspect = find_aspect(extra_info)
    judge = find_judge(settings, reward_router_address)
    try:
        score = await score_alone(judge, solution_str, ground_truth, aspect)
    except (OpenAIError, ValueError) as error:
        return replaced(error, settings, solution_str, ground_truth)
    return {"score": float(score), "fallback": 0.0}


async def compute_scores(
    data_source: str,
    solution_strs: Sequence[str],
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **kwargs: Any,
) -> list[dict[str, float]]:
    """Return the judge's scores of the summaries of one response, by one request.

    If the judge refuses the request, it is asked about each summary alone: the text of one must not
    decide about the others.

    Args:
        data_source: As for `compute_score`, like all that follow but the next.
        solution_strs: The candidates, summaries.
        ground_truth: The reference summary.
        extra_info: The row's extra information, with its "aspect".
        reward_router_address: Host and port of verl's reward-model server.
        reward_model_tokenizer: Not used.
        **kwargs: `JudgeSettings`.

    Returns:
        One result of `compute_score` per candidate.

    Raises:
        ValueError: As for `compute_score`; also if the number of scores is another.
        openai.OpenAIError: The judge did not answer.
    """
    settings = JudgeSettings.from_kwargs(kwargs)
    aspect = find_aspect(extra_info)
    judge = find_judge(settings, reward_router_address)
    order = shuffled(solution_strs)
    shown = [solution_strs[index] for index in order]
    try:
        messages = list_messages(shown, ground_truth, aspect, settings.answer)
        scores = await judge.scores(messages, len(shown)) if shown else []
    except (OpenAIError, ValueError) as error:
        if not is_refusal(error):
            return [replaced(error, settings, text, ground_truth) for text in solution_strs]
        alone = (
            compute_score(
                data_source, text, ground_truth, extra_info, reward_router_address, **kwargs
            )
            for text in solution_strs
        )
        return list(await asyncio.gather(*alone))
    by_index = dict(zip(order, scores, strict=True))
    return [{"score": float(by_index[n]), "fallback": 0.0} for n in range(len(order))]
