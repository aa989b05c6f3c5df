"""A language model as a judge: scores from 1 to 5, from any OpenAI-compatible server.

This module has the client, the retries and the cache on disk; the answers are read by
`reward_fns/judge_answer.py`, and the task writes the question (`reward_fns/aclsum.py`).
"""

import asyncio
import difflib
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from openai import APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient

from reward_fns.judge_answer import (
    ANSWERS,
    STATUSES_OF_A_TEXT,
    NoAnswer,
    Refusal,
    answer_text,
    failed_status,
    first_choice,
    list_form,
    parse_score,
    parse_scores,
)

REQUEST: dict[str, Any] = {"temperature": 0.0, "max_completion_tokens": 32}


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
            and 5xx, or an error or no answer under the status 200, with exponential backoff from
            0.5 to 8 seconds, or the server's own delay.
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

    def get(self, request: str) -> Any:
        """Return the stored score or list of scores of a request; None if there is none."""
        query = "SELECT score FROM scores WHERE request = ?"
        row = self.connection.execute(query, (request,)).fetchone()
        return None if row is None else json.loads(str(row[0]))

    def put(self, request: str, score: int | list[int]) -> None:
        """Store the score or the scores of a request."""
        # SQLite keeps a list's text in a column of integers as it is.
        self.connection.execute(
            "INSERT OR REPLACE INTO scores VALUES (?, ?)", (request, json.dumps(score))
        )


def is_refusal(error: Exception) -> bool:
    """Tell whether a server refused a request for what it holds."""
    if isinstance(error, APIStatusError):
        return error.status_code in STATUSES_OF_A_TEXT
    return isinstance(error, Refusal)


async def mark_failure(response: Any) -> None:
    """Give a response of status 200 that is no answer the status that makes the client retry it."""
    if response.is_success:
        status = failed_status(await response.aread())
        if status is not None:
            response.status_code = status
            response.extensions["sent_as_200"] = True


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
            http_client=DefaultAsyncHttpxClient(event_hooks={"response": [mark_failure]}),
        )
        self.slots = asyncio.Semaphore(settings.concurrency)
        self.cache = None if settings.cache is None else ScoreCache(settings.cache)
        self.model = settings.model

    async def score(self, messages: Any) -> int:
        """Return the judge's score, from 1 to 5.

        Raises:
            openai.OpenAIError: The server did not answer in any attempt, or refused the request.
            ValueError: The answer is not a score, or the judge refused the text (`Refusal`).
        """
        return await self._ask(messages, ANSWERS[self.settings.answer][1], REQUEST, parse_score)

    async def scores(self, messages: Any, count: int) -> list[int]:
        """Return the judge's scores of `count` texts, from 1 to 5.

        Raises:
            openai.OpenAIError: As for `score`.
            ValueError: The answer is not that many scores, or the judge refused a text.
        """
        form = list_form(self.settings.answer, count)[1]
        length = REQUEST["max_completion_tokens"] + 4 * count
        request = {**REQUEST, "max_completion_tokens": length}
        return await self._ask(messages, form, request, lambda text: parse_scores(text, count))

    async def _ask(
        self,
        messages: Any,
        form: Mapping[str, Any],
        defaults: Mapping[str, Any],
        parse: Callable[[str], Any],
    ) -> Any:
        """Return what `parse` makes of the answer, from the cache if it is there."""
        options = {**defaults, **self.settings.request, **form}
        options = {name: value for name, value in options.items() if value is not None}
        model = await self.find_model()
        request = json.dumps([model, messages, options], sort_keys=True)
        request = hashlib.sha256(request.encode()).hexdigest()
        score = None if self.cache is None else self.cache.get(request)
        if score is None:
            async with self.slots:
                score = parse(await self._answer(model, messages, options))
            if self.cache is not None:
                self.cache.put(request, score)
        return score

    async def _answer(self, model: str, messages: Any, options: dict[str, Any]) -> str:
        try:
            # Raw, because the client's types hold for OpenAI's own server alone.
            response = await self.client.chat.completions.with_raw_response.create(
                model=model, messages=messages, extra_body=options
            )
        except APIStatusError as error:
            if not is_refusal(error) and "sent_as_200" in error.response.extensions:
                raise NoAnswer(
                    f"the judge's server sent {error.response.text[:200]!r} under the status 200, "
                    f"also after retries={self.settings.retries}"
                ) from error
            raise
        choice = first_choice(response.http_response.json())
        assert choice is not None, "mark_failure leaves no other response at the status 200"
        return answer_text(choice)

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
