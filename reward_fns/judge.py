"""A language model as a judge: one score from 1 to 5, from any OpenAI-compatible server.

This module has the client, the retries, the cache on disk and the strict parser of the answer; the
task writes the question (`reward_fns/aclsum.py`).
"""

import asyncio
import difflib
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from openai import AsyncOpenAI

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
REQUEST: dict[str, Any] = {"temperature": 0.0, "max_completion_tokens": 32}
ANSWER = re.compile(r'\s*(?:([1-5])|\{\s*"score"\s*:\s*([1-5])\s*\})\s*')


@dataclass(frozen=True)
class JudgeSettings:
    """Keys of `reward.custom_reward_function.reward_kwargs`.

    Attributes:
        base_url: The server's address up to and including "/v1". None: verl's reward-model server.
        model: The judge's name on the server. None: the server's only model.
        api_key_env: Name of the environment variable that holds the server's key. None: no key.
        answer: How the form of the answer is enforced. `json_schema`: by `response_format`;
            `choice`: by vLLM's `structured_outputs`; `text`: by the instructions alone.
        request: Fields that override those of `REQUEST`; a field of None is omitted. A Qwen3 judge
            takes `{chat_template_kwargs: {enable_thinking: false}}`.
        concurrency: Concurrent requests per process of verl's `reward.num_workers`.
        timeout: Seconds without an answer, or a further part of it, after which an attempt ends.
        retries: Further attempts after a timeout, a lost connection, or the statuses 408, 409, 429
            and 5xx, with exponential backoff from 0.5 to 8 seconds, or the server's own delay.
        cache: SQLite file that stores scores by the whole request; shared by all processes of a
            machine, on a local disk. None: no cache.
        on_failure: `raise`: a summary without a score fails, which the reward manager counts in
            shape_grpo/reward_errors. `rouge`: it gets 1 + 4 times its ROUGE (aclsum_rouge.py),
            counted in shape_grpo/fallback_candidates.
    """

    base_url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    answer: Literal["json_schema", "choice", "text"] = "json_schema"
    request: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 16
    timeout: float = 60.0
    retries: int = 4
    cache: str | None = None
    on_failure: Literal["raise", "rouge"] = "raise"

    def __post_init__(self) -> None:
        allowed = {
            "base_url": (
                self.base_url is None or re.match("https?://.", self.base_url),
                "an address such as http://localhost:8000/v1, or null",
            ),
            "answer": (self.answer in ANSWERS, " or ".join(ANSWERS)),
            "request": (isinstance(self.request, Mapping), "fields and values, as {seed: 0}"),
            "concurrency": (self.concurrency >= 1, "1 or more"),
            "timeout": (self.timeout > 0, "more than 0 seconds"),
            "retries": (self.retries >= 0, "0 or more"),
            "on_failure": (self.on_failure in ("raise", "rouge"), "raise or rouge"),
        }
        for name, (is_valid, values) in allowed.items():
            if not is_valid:
                raise ValueError(f"reward_kwargs.{name}={getattr(self, name)!r}: write {values}")
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env):
            # Without the value, which may be the key itself: logs keep messages.
            raise ValueError(
                "reward_kwargs.api_key_env is not the name of an environment variable: write the "
                "name of the one that holds the key, not the key itself (verl prints its settings)"
            )
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            raise ValueError(
                f"reward_kwargs.api_key_env={self.api_key_env}: no such environment variable in "
                "this process; set it where Ray is started (verl prints what is in ray_kwargs)"
            )

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> "JudgeSettings":
        """Return checked settings.

        Raises:
            ValueError: A key or value is unknown; the message names the allowed ones.
        """
        known = [entry.name for entry in fields(cls)]
        for name in kwargs:
            if name not in known:
                hint = difflib.get_close_matches(name, known, n=1) or [", ".join(known)]
                raise ValueError(f"reward_kwargs.{name}: unknown; did you mean {hint[0]}?")
        nested = {
            name: OmegaConf.to_container(value, resolve=True)
            for name, value in kwargs.items()
            if isinstance(value, DictConfig)
        }
        return cls(**{**kwargs, **nested})


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


class ScoreCache:
    """Cache of scores on disk, shared by the processes of one machine.

    Raises:
        sqlite3.DatabaseError: The file is not a cache; the message names it.
    """

    def __init__(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # Autocommit, so that no process holds the lock for longer than one statement.
        self.connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        try:
            # Waiting for the disk would delay the event loop, and lost scores are no harm.
            self.connection.execute("PRAGMA synchronous = OFF")
            self.connection.execute(
                "CREATE TABLE IF NOT EXISTS scores (request TEXT PRIMARY KEY, score INTEGER)"
            )
        except sqlite3.DatabaseError as error:
            raise sqlite3.DatabaseError(
                f"reward_kwargs.cache={path}: {error}; delete the file or name another"
            ) from error

    def get(self, request: str) -> int | None:
        """Return the stored score of a request; None if there is none."""
        query = "SELECT score FROM scores WHERE request = ?"
        row = self.connection.execute(query, (request,)).fetchone()
        return None if row is None else row[0]

    def put(self, request: str, score: int) -> None:
        """Store the score of a request."""
        self.connection.execute("INSERT OR REPLACE INTO scores VALUES (?, ?)", (request, score))


class Judge:
    """Client of a server that scores summaries, for the event loop in which it was made."""

    def __init__(self, settings: JudgeSettings, base_url: str) -> None:
        self.settings = settings
        key = settings.api_key_env
        self.client = AsyncOpenAI(
            base_url=base_url,
            api_key="none" if key is None else os.environ[key],
            timeout=settings.timeout,
            max_retries=settings.retries,
        )
        self.slots = asyncio.Semaphore(settings.concurrency)
        self.cache = None if settings.cache is None else ScoreCache(settings.cache)
        self.model = settings.model

    async def score(self, messages: Any) -> int:
        """Return the judge's score, from 1 to 5.

        Raises:
            openai.OpenAIError: The server did not answer in any attempt.
            ValueError: The answer is not a score.
        """
        options = {**REQUEST, **self.settings.request, **ANSWERS[self.settings.answer][1]}
        options = {name: value for name, value in options.items() if value is not None}
        model = await self.find_model()
        request = json.dumps([model, messages, options], sort_keys=True)
        request = hashlib.sha256(request.encode()).hexdigest()
        score = None if self.cache is None else self.cache.get(request)
        if score is None:
            async with self.slots:
                answer = await self.client.chat.completions.create(
                    model=model, messages=messages, extra_body=options
                )
            score = parse_score(answer_text(answer))
            if self.cache is not None:
                self.cache.put(request, score)
        return score

    async def find_model(self) -> str:
        """Return the judge's name, which the server tells if the settings do not."""
        if self.model is None:
            async with self.slots:
                # Another task may have found it meanwhile.
                self.model = self.model or await self.only_model()
        return self.model

    async def only_model(self) -> str:
        """Return the name of the server's only model.

        Raises:
            ValueError: The server has none, or several.
        """
        names = [model.id async for model in self.client.models.list()]
        if len(names) != 1:
            raise ValueError(
                f"{self.client.base_url} serves {names}: name the judge in reward_kwargs.model"
            )
        return names[0]


def answer_text(completion: Any) -> str:
    """Return the text of a complete answer.

    Raises:
        ValueError: The server sent no answer, or an incomplete one.
    """
    try:
        choice = completion.choices[0]
        text, reason = choice.message.content, choice.finish_reason
    except (AttributeError, IndexError, TypeError):
        raise ValueError(f"the judge's server sent {str(completion)[:200]!r}") from None
    if reason != "stop" or not isinstance(text, str):
        raise ValueError(
            f"the judge's answer {text!r} is incomplete (finish_reason={reason!r}); if it is cut "
            "off, write a larger reward_kwargs.request.max_completion_tokens"
        )
    return text


judges: dict[tuple[asyncio.AbstractEventLoop, str], Judge] = {}


def find_judge(settings: JudgeSettings, router: str | None) -> Judge:
    """Return this event loop's judge with these settings, which the first call makes."""
    if settings.base_url is None and router is None:
        raise ValueError(
            "no judge: write +reward.custom_reward_function.reward_kwargs.base_url=http://.../v1, "
            "or reward.reward_model.enable=true for verl's own; without a judge, reward.custom_"
            "reward_function.path=reward_fns/aclsum_rouge.py"
        )
    base_url = settings.base_url or f"http://{router}/v1"
    key = asyncio.get_running_loop(), f"{base_url} {settings}"
    if key not in judges:
        judges[key] = Judge(settings, base_url)
    return judges[key]
