"""Metrics of a training step, and warnings about rewards that teach little or the wrong thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from shape_grpo.advantage import (
    CandidateBatch,
    CandidateRecord,
    GroupCounts,
    GroupIndex,
    candidate_metrics,
    count_groups,
)
from shape_grpo.advantage.formulas import NO_SPREAD
from shape_grpo.config import LOWEST, ShapeGRPOConfig
from shape_grpo.credit import Shares

MOST_WITHOUT_SPREAD = 0.5
"""Share of groups without spread above which there is a warning."""
FAR_BELOW = 10
"""Multiple of the range of a step's scores that a floor may lie below them without a warning."""
MOST_BATCHES = 20
"""Default number of steps' worth of dropped groups after which a run ends."""


class StepMetrics:
    """Computes the metrics of each step, and gives each of its warnings once.

    An error in them is a warning too: metrics never end a run.

    Args:
        config: The settings.
        responses: Name of the setting of the number of responses per prompt, for a warning's text.
        warn: Called with the text of a warning.
    """

    def __init__(
        self, config: ShapeGRPOConfig, responses: str, warn: Callable[[str], None]
    ) -> None:
        self.config = config
        self.responses = responses
        self.warn = warn
        self._said: set[str] = set()

    def __call__(
        self,
        records: Sequence[CandidateRecord],
        index: GroupIndex,
        lengths: Sequence[int],
        batch: CandidateBatch,
        shares: Shares,
        *,
        in_training: bool = True,
    ) -> dict[str, float]:
        """Return `candidate_metrics` and `GroupCounts.metrics`, without those that fail.

        Args:
            records: (N,) records.
            index: (N,) group ids.
            lengths: (N,) lengths in tokens.
            batch: As for `candidate_metrics`.
            shares: As for `candidate_metrics`.
            in_training: Whether groups are warned of.
        """
        return self._try(
            lambda: candidate_metrics(records, lengths, batch, shares, self.config.method)
        ) | self.of_groups(records, index, in_training=in_training)

    def of_groups(
        self, records: Sequence[CandidateRecord], index: GroupIndex, *, in_training: bool = True
    ) -> dict[str, float]:
        """Return `GroupCounts.metrics`, or nothing if they fail; arguments as for a call."""
        return self._try(lambda: self._of_groups(records, index, in_training))

    def _try(self, compute: Callable[[], dict[str, float]]) -> dict[str, float]:
        try:
            return compute()
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            self._say(f"Metrics of a step are left out ({what:.500}). The run goes on.", "error")
            return {}

    def _of_groups(
        self, records: Sequence[CandidateRecord], index: GroupIndex, in_training: bool
    ) -> dict[str, float]:
        scores = self.config.scores(records)
        counts = count_groups(records, scores, index)
        if in_training:
            self._warn_of_floor(counts)
            self._warn_of_outlier(records, scores)
            self._warn_of_spread(counts)
        return counts.metrics

    def _warn_of_floor(self, counts: GroupCounts) -> None:
        # Under `lowest` that is what was not seen yet.
        if counts.example is None or self.config.fixed_floor is None:
            return
        floor, reward = counts.example
        self._say(
            f"floor_reward={self.config.floor_reward:g} is above rewards of the reward function: a "
            f"candidate under a rule floor, or an answer without candidates, is worth {floor:g}, "
            f"and in its group the reward function gave {reward:g}. So the policy learns to write "
            f"no candidates, or repeats. Write floor_reward={LOWEST}, or a number that is no "
            "higher than any reward. shape_grpo/floor_above_reward counts such responses.",
            "floor",
        )

    def _warn_of_outlier(self, records: Sequence[CandidateRecord], scores: Sequence[float]) -> None:
        pairs = [x for x in zip(records, scores, strict=True) if not x[0].is_unknown]
        known = [score for record, score in pairs if record.returned_rewards]
        floor = min((score for record, score in pairs if not record.returned_rewards), default=0.0)
        # Normalised rewards have floors of their own group.
        if not known or self.config.normalize_rewards == "group":
            return
        spread = max(known) - min(known)
        if spread < NO_SPREAD or floor >= min(0.0, min(known) - FAR_BELOW * spread):
            return
        self._say(
            f"floor_reward={self.config.floor_reward}: an answer without candidates is worth "
            f"{floor:g}, and those with candidates of this step {min(known):g} to {max(known):g}. "
            "In a group with such an answer, advantages hardly tell the others apart. Limit what "
            "the reward function returns at its lowest, or write a number that is no higher than "
            "any usual reward, and not far below.",
            "outlier",
        )

    def _warn_of_spread(self, counts: GroupCounts) -> None:
        number, values = counts.without_spread.total(), describe_values(counts.without_spread)
        if number <= MOST_WITHOUT_SPREAD * counts.groups:
            return
        self._say(
            f"{number} of {counts.groups} groups of a step have no spread: in each of them all "
            f"answers with candidates are worth the same ({values}). Such a group teaches nothing, "
            "or only whether to write candidates. Does the reward function tell "
            f"answers apart? Other remedies are more responses per prompt ({self.responses}), and "
            "prompts that are neither too easy nor too hard. shape_grpo/groups_without_spread "
            "counts such groups.",
            "spread",
        )

    def _say(self, warning: str, kind: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self.warn(f"{warning} This is said once.")


def describe_values(values: Counter[float | None]) -> str:
    """Return the most frequent scores of groups without spread, and how many groups have them."""
    most = values.most_common(3)
    said = [f"{'no candidates' if v is None else f'{v:g}'} in {number}" for v, number in most]
    left = len(values) - len(most)
    return ", ".join(said) + (f", and {left} other values" if left else "")


class DroppedGroups:
    """Ends a run whose groups a trainer drops and replaces because their rewards are equal.

    Args:
        prompts: Number of prompts of a step.
        batches: Number of steps' worth of such groups after which the run ends, before a step has
            enough of others; 0 or less: `MOST_BATCHES`.
    """

    def __init__(self, prompts: int, batches: int) -> None:
        self.prompts = prompts
        self.batches = batches if batches > 0 else MOST_BATCHES
        self._values: Counter[float | None] = Counter()

    def clear(self) -> None:
        """Forget the groups: a step has enough of others."""
        self._values.clear()

    def see(self, values: Iterable[float]) -> None:
        """Count groups that were dropped, by their common value.

        Raises:
            RuntimeError: They are more than ``batches`` steps' worth.
        """
        self._values.update(values)
        if self._values.total() > self.batches * self.prompts:
            raise RuntimeError(
                f"algorithm.filter_groups dropped {self._values.total()} groups of equal rewards "
                f"since the last step, which needs {self.prompts} of others. Their values: "
                f"{describe_values(self._values)}. Does the reward function tell answers to one "
                "prompt apart? Other remedies are more responses per prompt "
                "(actor_rollout_ref.rollout.n), prompts that are neither too easy nor too hard, "
                "and algorithm.filter_groups.enable=false. To wait longer, write "
                f"algorithm.filter_groups.max_num_gen_batches={10 * self.batches}."
            )
