"""Answers of a judge's server: the forms that are asked for, and how strictly they are read."""

import json
import re
from typing import Any

SCORES = [1, 2, 3, 4, 5]
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "enum": SCORES}},
    "required": ["score"],
    "additionalProperties": False,
}
SCORE_FORMAT = {"name": "score", "strict": True, "schema": SCHEMA}
# Last words of the instructions, and fields of the request, per form of answer.
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "json_schema": (
        'Answer with {"score": N}, N from 1 to 5, and nothing else.',
        {"response_format": {"type": "json_schema", "json_schema": SCORE_FORMAT}},
    ),
    "choice": (
        "Answer with one digit from 1 to 5 and nothing else.",
        {"structured_outputs": {"choice": [str(score) for score in SCORES]}},
    ),
    "text": ("Answer with one digit from 1 to 5 and nothing else.", {}),
}
ANSWER = re.compile(r'\s*(?:([1-5])|\{\s*"score"\s*:\s*([1-5])\s*\})\s*')
LIST = r"\[\s*((?:[1-5]\s*(?:,\s*[1-5]\s*)*)?)\]"
LIST_ANSWER = re.compile(rf'\s*(?:{LIST}|\{{\s*"scores"\s*:\s*{LIST}\s*\}})\s*')

STATUSES_OF_A_TEXT = (400, 403, 413, 422, 451)
"""Statuses under which servers refuse a request for what it holds: its length, a filter."""
# As in codes and types of errors: context_length_exceeded, content_filter, invalid_request_error.
REFUSED = re.compile(
    r"context.?(length|window)|content.?(filter|policy)|(bad|invalid).?(request|prompt)|flagged|"
    r"moderation|safety|too.(long|large)",
    re.I,
)
BUSY = re.compile(r"rate.?limit|too many|quota|overload|capacity|unavailable|time.?out", re.I)


class Refusal(ValueError):
    """The judge read the text, and declined to answer it."""


class NoAnswer(ValueError):
    """The server sent something under the status 200 that is no answer."""


def list_form(answer: str, count: int) -> tuple[str, dict[str, Any]]:
    """Return what `ANSWERS` has, for a list of `count` scores."""
    items = {"type": "integer", "enum": SCORES}
    scores = {"type": "array", "items": items, "minItems": count, "maxItems": count}
    schema = {**SCHEMA, "properties": {"scores": scores}, "required": ["scores"]}
    format = {"name": "scores", "strict": True, "schema": schema}
    fields: dict[str, dict[str, Any]] = {
        "json_schema": {"response_format": {"type": "json_schema", "json_schema": format}},
        "choice": {"structured_outputs": {"json": schema}},
        "text": {},
    }
    words = (
        f'Answer with {{"scores": [N, ...]}}, {count} whole numbers from 1 to 5 in the order of '
        "the summaries, and nothing else."
    )
    return words, fields[answer]


def parse_score(answer: str) -> int:
    """Return the score in "4" or '{"score": 4}'.

    Raises:
        ValueError: The answer is anything else, even if it contains a score.
    """
    match = ANSWER.fullmatch(answer)
    if match is None:
        raise ValueError(
            f'the judge answered {answer[:200]!r}, neither a digit from 1 to 5 nor {{"score": N}}'
        )
    return int(match[1] or match[2])


def parse_scores(answer: str, count: int) -> list[int]:
    """Return the scores in "[4, 2]" or '{"scores": [4, 2]}'.

    Raises:
        ValueError: The answer is anything else, or has another number of scores than `count`.
    """
    match = LIST_ANSWER.fullmatch(answer)
    if match is None:
        raise ValueError(
            f"the judge answered {answer[:200]!r}, neither a list of whole numbers from 1 to 5 nor "
            '{"scores": [N, ...]}'
        )
    scores = [int(digit) for digit in re.findall("[1-5]", match[1] or match[2] or "")]
    if len(scores) != count:
        raise ValueError(
            f"the judge answered {answer[:200]!r}: {len(scores)} scores for {count} summaries; "
            "write reward_kwargs.answer=json_schema, or =choice for vLLM, so that the server "
            "enforces the number"
        )
    return scores


def first_choice(body: Any) -> dict[str, Any] | None:
    """Return the first choice of a server's answer; None if that is an error or no answer."""
    if not isinstance(body, dict) or body.get("error"):
        return None
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or choice.get("error"):
        return None
    # A filter may take the whole message away.
    is_answer = isinstance(choice.get("message"), dict)
    return choice if is_answer or choice.get("finish_reason") == "content_filter" else None


def answer_text(choice: dict[str, Any]) -> str:
    """Return the text of a complete answer.

    Servers disagree about the finish_reason of a complete one: stop, eos, eos_token, end, null.

    Raises:
        Refusal: A filter or the judge itself refused the text.
        ValueError: The answer is incomplete, or has no text.
    """
    reason, message = choice.get("finish_reason"), choice.get("message") or {}
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {"text": part} for part in content]
        refusal = refusal or next((p["refusal"] for p in parts if p.get("refusal")), None)
        # Parts without text are thoughts, which have another key.
        content = "".join(p["text"] for p in parts if isinstance(p.get("text"), str))
    if refusal or reason == "content_filter":
        raise Refusal(f"the judge refused the text: {refusal or 'finish_reason=content_filter'!s}")
    if reason == "length":
        raise ValueError(
            f"the judge's answer {content!r:.200} is cut off (finish_reason='length'): write a "
            "larger reward_kwargs.request.max_completion_tokens"
        )
    if not isinstance(content, str):
        raise ValueError(
            f"the judge's answer has no text (finish_reason={reason!r}): {str(message)[:200]}"
        )
    return content


def failed_status(content: bytes) -> int | None:
    """Return the status that a server's answer under the status 200 should have had.

    None for a choice or a list of models. For errors, that of `STATUSES_OF_A_TEXT` that their code
    names, or 400 if their words speak of the text. For anything else 429, so that the request is
    repeated.
    """
    try:
        body = json.loads(content)
    except ValueError:
        return 429
    if first_choice(body) is not None:
        return None
    if not isinstance(body, dict):
        return 429
    choices = body.get("choices")
    inner = choices[0] if isinstance(choices, list) and choices else None
    error = body.get("error") or (inner.get("error") if isinstance(inner, dict) else None)
    if error is None and isinstance(body.get("data"), list):
        return None
    named = error if isinstance(error, dict) else {"code": error}
    codes = [str(named.get(key)) for key in ("code", "status", "type")]
    for code in filter(re.compile("[45][0-9][0-9]").fullmatch, codes):
        return int(code) if int(code) in STATUSES_OF_A_TEXT else 429
    words = json.dumps(error)
    return 400 if REFUSED.search(words) and not BUSY.search(words) else 429
