"""Training of a prepared task's policy by TRL, in one process.

The prompts, the reward function and the rules for candidates are the same as for verl, from
`config/task`. The settings of a step are the quickstart's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from transformers import AutoTokenizer, PrinterCallback, TrainerCallback, TrainerState
from transformers.utils import logging as transformers_logging
from trl import GRPOConfig

from recipe.shape_grpo.common.command import require_positive, require_seeds
from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.locks import locked_run
from recipe.shape_grpo.common.methods import credit_options
from recipe.shape_grpo.common.progress import progress_bar
from recipe.shape_grpo.common.run_folder import (
    ROLLOUTS,
    RunSettings,
    begin_run,
    end_run,
    is_whole,
    write_metrics,
)
from recipe.shape_grpo.tasks.prepared_task import PreparedTask
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.methods import METHODS
from shape_grpo.registry import check_choice
from shape_grpo.trl import ShapEGRPOTrainer

RECORD = "shape_grpo"
"""Key of a response's candidate record in verl's rollouts."""

LOGGED = {
    "reward": "critic/score/mean",
    "entropy": "actor/entropy",
    "grad_norm": "actor/grad_norm",
    "completions/mean_length": "response_length/mean",
    "completions/clipped_ratio": "response_length/clip_ratio",
    "step_time": "timing_s/step",
}
"""TRL's names of metrics, and verl's. This package's metrics have the same names in both."""

OURS = ("critic/", "actor/", "response_length/", "timing_s/", "val-core/", "shape_grpo/")
"""Prefixes of the metrics that a run folder records."""


@dataclass(frozen=True)
class LanguageSettings:
    """Settings of a method and its training.

    Attributes:
        method: A file of `shape_grpo/methods`.
        candidates: K, for which the prompts must have been prepared.
        learning_rate: Constant learning rate of AdamW.
        kl_coefficient: Weight of the divergence from the policy before training (TRL's ``beta``).
        seeds: Seeds of the prompts' order and of sampling, one run each.
        steps: Number of updates of the policy.
        prompts_per_step: Number of prompts per update.
        group_size: Number of responses per prompt.
        max_tokens: Maximum response length in tokens.
        validate_every: Steps between two measurements on test prompts. They are also made at the
            start and the end. The responses of these steps are recorded.
        validation_prompts: Maximum number of test prompts.
        validation_samples: Number of responses per test prompt.
    """

    method: str = "praise"
    candidates: int = 3
    learning_rate: float = 1.5e-4
    kl_coefficient: float = 0.0
    seeds: tuple[int, ...] = (0,)
    steps: int = 192
    prompts_per_step: int = 8
    group_size: int = 8
    max_tokens: int = 48
    validate_every: int = 24
    validation_prompts: int = 64
    validation_samples: int = 4

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        credit_options(self.method)
        require_positive(self)
        if not self.kl_coefficient >= 0:
            raise ValueError(f"kl_coefficient is {self.kl_coefficient}; it must be 0 or more")
        require_seeds(self.seeds)


class RunRecord(TrainerCallback):
    """Callback that writes a run's folder.

    Args:
        run: The run's folder.
        held_out: Name of the reward on test prompts.
        trainer: The trainer.
        advance: Function called after every step.
    """

    def __init__(
        self, run: Path, held_out: str, trainer: LanguageTrainer, advance: Callable[[], None]
    ) -> None:
        self.run = run
        self.trainer = trainer
        self.advance = advance
        self.names = {**LOGGED, "eval_reward": held_out}
        self.step = 0
        self.metrics: dict[str, float] = {}

    def on_log(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Collect TRL's metrics: those of a step, then those of a measurement after it."""
        if state.global_step > self.step:
            self.write_step()
            self.step = state.global_step
        for name, value in kwargs["logs"].items():
            name = self.names.get(name, name)
            if value is not None and name.startswith(OURS):
                self.metrics[name] = value

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Write the responses of a step that is followed by a measurement."""
        if state.global_step % args.eval_steps == 0 or state.global_step == args.max_steps:
            self.write_rollouts(state.global_step)
        self.advance()

    def write_step(self) -> None:
        """Append the last step's metrics."""
        write_metrics(self.run, self.step, self.metrics)
        self.metrics = {}

    def write_rollouts(self, step: int) -> None:
        """Write the responses of the last update in verl's format."""
        file = self.run / ROLLOUTS / f"{step}.jsonl"
        file.parent.mkdir(exist_ok=True)
        with file.open("w", encoding="utf-8") as lines:
            for rollout in self.trainer.rollouts():
                lines.write(json.dumps({**rollout, "step": step}, ensure_ascii=False) + "\n")


class LanguageTrainer(ShapEGRPOTrainer):
    """Trainer that keeps the last batch."""

    examples: list[dict[str, Any]]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.examples = inputs
        return super()._generate_and_score_completions(inputs)

    def rollouts(self) -> Iterator[dict[str, Any]]:
        """Yield the responses of the last batch, each with its candidate record."""
        rows = zip(self.examples, self._logs["completion"], self.records, strict=True)
        for number, (example, completion, record) in enumerate(rows):
            group, response = divmod(number, self.num_generations)
            yield {
                "uid": f"{group}_{response}_0",
                "input": "\n".join(message["content"] for message in example["prompt"]),
                "output": completion[-1]["content"],
                "gts": example["reward_model"]["ground_truth"],
                "score": self.shape_grpo.score(record),
                RECORD: record.to_json(),
            }


def train(task: PreparedTask, settings: LanguageSettings, output: Path, console: Console) -> None:
    """Train one run per seed into ``output``/seed-N, unless it holds the same finished run."""
    for seed in settings.seeds:
        _train_seed(task, settings, seed, output / f"seed-{seed}", console)


def _train_seed(
    task: PreparedTask, settings: LanguageSettings, seed: int, run: Path, console: Console
) -> None:
    kl = settings.kl_coefficient
    compared = RunSettings(
        trainer="trl",
        # The penalty changes the objective, and methods are compared within a task.
        task=f"{task.name}_kl_{kl:g}" if kl else task.name,
        method=settings.method,
        candidates=settings.candidates,
        seed=seed,
        learning_rate=settings.learning_rate,
        steps=settings.steps,
    )
    # Merged as Hydra merges the files of a task and a method.
    block = OmegaConf.merge(task.rules, credit_options(settings.method))
    options = ShapeGRPOConfig.from_algorithm({"shape_grpo": block})
    made_from = {
        "settings": {name: value for name, value in asdict(settings).items() if name != "seeds"},
        RECORD: asdict(options),
        "tokenizer": str(task.policy),
        "data": task.stamp,
        "policy": read_stamp(task.policy),
    }
    name = f"{compared.task} by {compared.method}, seed {seed}"
    if is_whole(run, compared, made_from):
        console.print(f"{name}: reusing {run}")
        return
    transformers_logging.disable_progress_bar()
    with locked_run(run, console), progress_bar(console) as progress:
        begin_run(run)
        trainer = _make_trainer(task, settings, options, seed, run)
        held_out = f"val-core/{compared.task}/reward/mean@{settings.validation_samples}"
        bar = progress.add_task(name, total=settings.steps)
        record = RunRecord(run, held_out, trainer, lambda: progress.advance(bar))
        trainer.add_callback(record)
        trainer.train()
        if settings.steps % settings.validate_every:
            trainer.evaluate()
        record.write_step()
        end_run(run, compared, made_from)


def _make_trainer(
    task: PreparedTask, settings: LanguageSettings, options: ShapeGRPOConfig, seed: int, run: Path
) -> LanguageTrainer:
    """Make a trainer with one on-policy update per step."""
    test = task.prompts("test")
    test = test.select(range(min(settings.validation_prompts, len(test))))
    trainer = LanguageTrainer(
        str(task.policy),
        task.reward,
        GRPOConfig(
            str(run),
            seed=seed,
            max_steps=settings.steps,
            per_device_train_batch_size=settings.prompts_per_step * settings.group_size,
            num_generations=settings.group_size,
            max_completion_length=settings.max_tokens,
            chat_template_kwargs=dict(task.config.data.apply_chat_template_kwargs),
            # verl's defaults, as in the quickstart.
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            max_grad_norm=1.0,
            loss_type="dapo",  # the mean over tokens
            beta=settings.kl_coefficient,
            bf16=False,
            gradient_checkpointing=False,
            eval_strategy="steps",
            eval_steps=settings.validate_every,
            eval_on_start=True,
            per_device_eval_batch_size=len(test) * settings.validation_samples,
            num_generations_eval=settings.validation_samples,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=task.prompts("train"),
        eval_dataset=test,
        processing_class=AutoTokenizer.from_pretrained(task.policy, padding_side="left"),
        # The function calls the task's, in time.
        shape_grpo=replace(options, reward_timeout=1e9, reward_calls="threads", per_response=True),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
