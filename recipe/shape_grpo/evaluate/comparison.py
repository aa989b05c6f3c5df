"""Comparison of a model with another one and with one fixed set, on the same prompts.

The fixed set holds the candidates that most of the model's answers name. A model that scores no
better has learnt general popularity, and does not use the prompt. The set is not chosen by reward,
so the test prompts do not favour it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from recipe.shape_grpo.evaluate.sampling import (
    Answer,
    SampleSettings,
    sample_answers,
    trained_length,
)
from recipe.shape_grpo.evaluate.scoring import (
    Measures,
    Scored,
    most_frequent,
    score_answers,
    score_fixed_set,
)
from recipe.shape_grpo.report.statistics import Estimate, mean_over_prompts
from recipe.shape_grpo.tasks.prepared_task import PreparedTask
from shape_grpo.config import ShapeGRPOConfig

MODEL, AGAINST, FIXED = "model", "against", "fixed set"
"""Names of the compared answers."""


@dataclass(frozen=True)
class Comparison:
    """Scores of answers to the same prompts.

    Attributes:
        about: The models, the task and the settings of sampling.
        answers: Answers to each prompt, under `MODEL` and `AGAINST`.
        scored: Their scores, and under `FIXED` those of the fixed set.
        fixed_set: Candidates of the fixed set; empty if there is none.
    """

    about: dict[str, Any]
    answers: dict[str, list[list[Answer]]]
    scored: dict[str, Scored]
    fixed_set: list[str]

    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Return the mean over prompts of each measure, under each name."""
        return {
            name: {measure: mean_over_prompts(values) for measure, values in measures.items()}
            for name, measures in self._measures().items()
        }

    def differences(self) -> dict[str, dict[str, Estimate]]:
        """Return the mean over prompts of the model's difference to each other, per measure."""
        measures = self._measures()
        ours = measures.pop(MODEL)
        return {
            name: {measure: mean_over_prompts(ours[measure] - theirs[measure]) for measure in ours}
            for name, theirs in measures.items()
        }

    def _measures(self) -> dict[str, Measures]:
        return {name: scored.measures() for name, scored in self.scored.items()}


def compare(
    task: PreparedTask,
    model: str,
    settings: SampleSettings,
    *,
    against: str | None = None,
    fixed_set: bool = True,
) -> Comparison:
    """Sample and score answers to the task's test prompts.

    Args:
        task: The prepared task.
        model: A folder, or a name on the hub.
        settings: Settings of sampling.
        against: Another model.
        fixed_set: Whether to compare with the fixed set.

    Raises:
        FileNotFoundError: There is no such model.
        RuntimeError: Too many rewards failed.
        ValueError: There are fewer than two prompts, or they do not fit the model.
    """
    trained = trained_length(model) or (trained_length(against) if against else None)
    max_tokens = settings.max_tokens or trained or task.config.data.max_response_length
    settings = replace(settings, max_tokens=max_tokens)
    rows = task.prompts("test").to_list()[: settings.prompts]
    if len(rows) < 2:
        raise ValueError(
            f"prompts is {len(rows)}: use 2 or more, because intervals are over prompts"
        )
    rules = ShapeGRPOConfig.from_algorithm(task.config.algorithm)
    prompts = [row["prompt"] for row in rows]
    models = {MODEL: model} | ({AGAINST: against} if against else {})
    answers = {
        name: sample_answers(path, prompts, settings, rules) for name, path in models.items()
    }
    scored = {name: score_answers(task, rows, found) for name, found in answers.items()}
    chosen: list[str] = []
    if fixed_set:
        chosen = most_frequent(answers[MODEL], task.config.dataset.candidates)
        if chosen:
            scored[FIXED] = score_fixed_set(task, rows, chosen)
    about = {**models, "task": task.name, "folder": str(task.folder), "prompts": len(rows)}
    return Comparison({**about, "settings": asdict(settings)}, answers, scored, chosen)
