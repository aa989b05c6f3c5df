"""Failures of reward functions: what is logged, and when they end a run."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shape_grpo.advantage import CandidateRecord

MOST_CHARACTERS = 10_000

logger = logging.getLogger(__name__)


class Failure(str):
    """Traceback of a reward function's failure, in the place of a reward."""

    summary: str
    """The failure in one line, without its traceback."""


def failure_in_one_line(error: Exception, *functions: Callable[..., Any]) -> str:
    """Describe a failure, with the line of the user's file where it was raised.

    Args:
        error: The exception.
        functions: The user's functions that may have raised it.
    """
    codes = [getattr(inspect.unwrap(function), "__code__", None) for function in functions]
    files = {code.co_filename for code in codes if code is not None}
    lines = [
        f" ({Path(frame.filename).name}:{frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename in files
    ]
    notes = getattr(error, "__notes__", ())
    parts = [str(error).rstrip("."), *notes] if notes else [str(error)]
    said = " ".join(". ".join(parts).split())
    return f"{type(error).__name__}: {said}{lines[-1] if lines else ''}"


class FailureLog:
    """Turns exceptions into `Failure`, and logs the first of each kind.

    Args:
        on_error: As in `shape_grpo.config.ShapeGRPOConfig`, for the log's text; None logs nothing.
    """

    def __init__(self, on_error: str | None) -> None:
        self.on_error = on_error
        self._logged: set[type] = set()

    def failure(
        self,
        error: Exception,
        *functions: Callable[..., Any],
        what: str = "A reward function failed; the candidate",
    ) -> Failure:
        """Return the failure that takes the place of the candidate's reward.

        Args:
            error: The exception.
            functions: The user's functions that may have raised it.
            what: Start of the log's sentence: what failed, and what leaves its set.
        """
        failure = Failure(_shortened("".join(traceback.format_exception(error))))
        failure.summary = failure_in_one_line(error, *functions)
        if self.on_error is not None and type(error) not in self._logged:
            self._logged.add(type(error))
            logger.error(
                "%s %s. Further failures of this kind are counted in shape_grpo/reward_errors and "
                "not logged.\n%s",
                what,
                "leaves its set" if self.on_error == "skip" else "ends the run",
                failure,
            )
        return failure

    def unread(self, error: Exception) -> CandidateRecord:
        """Return the record of a response whose format raised ``error``, and log it once."""
        what = "The format failed on a response, which"
        return CandidateRecord.unread(self.failure(error, what=what))


def _shortened(failure: str) -> str:
    """Return both ends of a traceback: a message may hold a judge's whole answer, and travels with
    the record of each response.
    """
    left_out = len(failure) - MOST_CHARACTERS
    if left_out <= 0:
        return failure
    head = MOST_CHARACTERS // 4
    tail = failure[-(MOST_CHARACTERS - head) :]
    return f"{failure[:head]}\n[{left_out} characters left out]\n{tail}"


class ErrorBudget:
    """Ends a run whose reward functions fail too often.

    Responses without a reward leave their groups. If most of them do, a policy is trained on few
    rewards or none, while the optimizer's momentum still moves it.

    Args:
        max_share: Share of candidates that may fail, among those that a reward function was called
            for; 0 allows no failure.
        responses: Number of responses per step. The share is not checked before that many were
            seen, because a few candidates say little.
        steps: Number of steps that the share is taken over.
    """

    def __init__(self, max_share: float, responses: int, steps: int = 1) -> None:
        self.max_share = max_share
        self.responses = responses
        self._window: deque[tuple[int, int]] = deque(maxlen=responses * steps)
        self._last_failure: str | None = None

    def spend(self, records: Iterable[CandidateRecord], where: str) -> None:
        """Count the candidates of responses.

        Args:
            records: One record per response.
            where: Phrase for the error, such as "in training".

        Raises:
            RuntimeError: More than ``max_share`` of the candidates in the window have failed; the
                message has the last traceback.
        """
        for record in records:
            self._window.append((record.num_asked, record.num_errors))
            self._last_failure = record.error or self._last_failure
        candidates = sum(number for number, _ in self._window)
        errors = sum(number for _, number in self._window)
        seen_enough = len(self._window) >= self.responses or self.max_share == 0
        if not seen_enough or errors <= self.max_share * candidates:
            return
        allowed = (
            "on_error=raise or max_error_share=0 allows no failure"
            if self.max_share == 0
            else f"max_error_share={self.max_share:g}"
        )
        raise RuntimeError(
            f"The reward function failed for {errors} of the last {candidates} candidates "
            f"({errors / candidates:.0%}) {where}; {allowed}. The last traceback:\n"
            f"{self._last_failure}"
        )
