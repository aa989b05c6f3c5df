"""Training of small policies that suggest sets of items to users whose taste is uncertain.

A prompt says which tastes its user may have. Each group of responses is rated by one of them, drawn
at random, or by the mean of them; under a utility of vectors by all, one component per taste. The
best item of a set counts, so a good set serves several tastes. Items are written one after another,
and an item that repeats an earlier one has reward 0.

An item of l tokens is one choice followed by l - 1 certain tokens. The log-probability of the
candidate is that of the choice, so its advantage counts once, whatever the length. Lengths matter
for ``length_correction``, and for the number of tokens that the loss is averaged over.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from recipe.shape_grpo.catalogue.gru_policies import GRUPolicies, clip_gradients
from recipe.shape_grpo.catalogue.random_streams import RandomStreams
from recipe.shape_grpo.catalogue.taste_world import TASTE_SIZE, TasteWorld, repeats
from recipe.shape_grpo.common.command import require_positive, require_seeds
from recipe.shape_grpo.common.run_folder import RunSettings
from shape_grpo.advantage import candidate_advantages
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import Max, set_utility
from shape_grpo.registry import check_choice

Metrics = dict[int, dict[str, float]]
"""Step to the metrics by name; step 0 is the measurement before training."""


@dataclass(frozen=True)
class CatalogueSettings:
    """Settings of a method, a world and the training.

    Attributes:
        task: Name of the world.
        method: Name of the method. On the command line, one of `shape_grpo.methods`, which then
            sets the defaults of utility, allocator, advantage and length_correction. Without it,
            the name is made of these.
        utility: The set's score from its candidates' rewards.
        utility_options: Options of the utility.
        allocator: How the set's score is split; ``uniform`` is GRPO.
        allocator_options: Options of the allocator.
        advantage: How shares become advantages.
        length_correction: Whether credit accounts for unequal candidate lengths.
        candidates: K, the number of candidates of a response.
        modes: Number of tastes that a prompt may have.
        rewards: ``ratings`` (1 to 5 stars) or ``pass_fail`` (1 for five stars, else 0).
        raters: ``one`` taste, drawn per group, or the ``mean`` of all tastes. A utility of vectors
            gets a component per taste instead.
        lengths: Maximum length of an item in tokens; the minimum is 1.
        items: Number of items to choose from.
        prompts: Number of prompts.
        prompts_per_step: Number of prompts per update.
        group_size: Number of responses per prompt.
        updates: Number of updates of the policy.
        learning_rate: Learning rate of Adam.
        entropy_coefficient: Weight of the mean entropy of a token in the objective.
        hidden_size: Width of the policy.
        seeds: Independent runs, each with its own world, policy and draws.
        validate_every: Updates between two measurements on all prompts.
        validation_samples: Number of responses per prompt in a measurement.
    """

    task: str = "catalogue"
    method: str = ""
    utility: str = "max"
    utility_options: dict[str, Any] = field(default_factory=dict)
    allocator: str = "shapley"
    allocator_options: dict[str, Any] = field(default_factory=dict)
    advantage: str = "reweight"
    length_correction: bool = False
    candidates: int = 3
    modes: int = 4
    rewards: Literal["ratings", "pass_fail"] = "ratings"
    raters: Literal["one", "mean"] = "one"
    lengths: int = 1
    items: int = 100
    prompts: int = 64
    prompts_per_step: int = 16
    group_size: int = 8
    updates: int = 300
    learning_rate: float = 3e-3
    entropy_coefficient: float = 0.0
    hidden_size: int = 32
    seeds: tuple[int, ...] = tuple(range(1, 21))
    validate_every: int = 25
    validation_samples: int = 8

    def __post_init__(self) -> None:
        require_positive(self)
        require_seeds(self.seeds)
        if self.prompts_per_step > self.prompts:
            raise ValueError(
                f"prompts_per_step is {self.prompts_per_step}, but there are {self.prompts} "
                "prompts: use fewer per step, or more prompts"
            )
        check_choice("rewards", self.rewards, ("ratings", "pass_fail"))
        check_choice("raters", self.raters, ("one", "mean"))
        if self.method == "grpo" and self.allocator != "uniform":
            raise ValueError(
                f"method grpo with the allocator {self.allocator} is not GRPO: use the allocator "
                "uniform, or another name"
            )

    @property
    def name(self) -> str:
        """Name of the method."""
        if self.method or self.allocator == "uniform":
            return self.method or "grpo"
        words = [self.advantage, self.allocator, *map(str, self.allocator_options.values())]
        return "-".join([*words, "length_correction"] if self.length_correction else words)

    @property
    def held_out(self) -> str:
        """Name of the reward measured on all prompts."""
        return f"val-core/{self.task}/reward/mean@{self.validation_samples}"

    def run(self, seed: int) -> RunSettings:
        """Return the settings that identify the run of one seed."""
        return RunSettings(
            trainer="catalogue",
            task=self.task,
            method=self.name,
            candidates=self.candidates,
            seed=seed,
            learning_rate=self.learning_rate,
            steps=self.updates,
        )


class Training:
    """The policies of S seeds, their worlds and their updates.

    Args:
        settings: Settings; a seed has the same world, initial policy and draws under all methods.

    Raises:
        ValueError: The utility is unknown or lacks an option.
    """

    def __init__(self, settings: CatalogueSettings) -> None:
        self.settings = settings
        self.updates = 0
        options = settings.utility_options
        if options.get("components") == "???":  # of a file of `shape_grpo/methods`
            options = {**options, "components": settings.modes}
        self.method = ShapeGRPOConfig(
            utility=settings.utility,
            utility_options=options,
            allocator=settings.allocator,
            allocator_options=settings.allocator_options,
            advantage=settings.advantage,
            length_correction=settings.length_correction,
        ).method
        self.streams = RandomStreams(settings.seeds)
        self.world = TasteWorld(
            self.streams,
            prompts=settings.prompts,
            modes=settings.modes,
            items=settings.items,
            pass_fail=settings.rewards == "pass_fail",
            longest=settings.lengths,
        )
        self.policies = GRUPolicies(
            self.streams,
            features=settings.modes * TASTE_SIZE,
            items=settings.items,
            hidden_size=settings.hidden_size,
        )
        self.optimizer = torch.optim.Adam(self.policies.parameters(), lr=settings.learning_rate)
        # Equal draws at every measurement make differences between them less noisy.
        self.validation_draws = self.streams.uniform(
            settings.prompts * settings.validation_samples, settings.candidates
        )

    def update(self) -> dict[str, Tensor]:
        """Update the policies once, on new responses.

        Returns:
            Metrics (S,) by name.

        Raises:
            ValueError: As in `candidate_advantages`.
        """
        prompts, modes, draws = self.draw_batch()
        rollout = self.policies(self.world.describe(prompts), draws)
        self.updates += 1
        rewards = self.rate(prompts, modes, rollout.items)
        lengths = self.world.tokens(rollout.items)
        scores = set_utility(rewards.flatten(0, 1), utility=self.method.utility).view_as(prompts)
        advantages = self.advantages(rewards, lengths, scores)

        # verl's policy gradient with one update per step, averaged over tokens. All tokens of an
        # item but the first have probability 1.
        tokens = lengths.sum((1, 2))
        gain = (advantages * rollout.log_probs).sum((1, 2)) / tokens
        entropy = rollout.entropy.sum((1, 2)) / tokens
        self.optimizer.zero_grad()
        # The sum over seeds gives each seed's parameters the gradient of its own loss.
        (-gain - self.settings.entropy_coefficient * entropy).sum().backward()
        norms = clip_gradients(list(self.policies.parameters()))
        self.optimizer.step()
        return {
            "critic/score/mean": scores.mean(1),
            "actor/entropy": entropy.detach(),
            "actor/grad_norm": norms,
            **candidate_metrics(
                rollout.items,
                self.method.utility.ranking(rewards.flatten(0, 1)).view_as(lengths),
                lengths,
            ),
        }

    def rate(self, prompts: Tensor, modes: Tensor, items: Tensor) -> Tensor:
        """Return the rewards of items (S, B, K) as the settings have them: (S, B, K), or
        (S, B, K, C) under a utility of vectors.
        """
        settings, utility = self.settings, self.method.utility
        if not utility.takes_vectors:
            if settings.raters == "one":
                return self.world.rate(prompts, modes, items)
            return self.world.rate_by_all(prompts, items).mean(-1)
        by_group = self.world.rate_by_all(prompts, items).unflatten(1, (-1, settings.group_size))
        of_groups = prompts[:, :: settings.group_size].tolist()
        projected = [
            utility.project(rewards, f"{seed} {self.updates} {prompt}")
            for of_seed, seed, named in zip(by_group, settings.seeds, of_groups, strict=True)
            for rewards, prompt in zip(of_seed, named, strict=True)
        ]
        return torch.stack(projected).float().view(*items.shape, -1)

    @torch.no_grad()
    def validate(self) -> Tensor:
        """Return the mean set reward (S,) over all prompts and all their tastes; of vectors, the
        mean reward of each taste's best item.
        """
        settings = self.settings
        prompts = torch.arange(settings.prompts).repeat_interleave(settings.validation_samples)
        prompts = prompts.expand(len(settings.seeds), -1)
        items = self.policies(self.world.describe(prompts), self.validation_draws).items
        total = torch.zeros(len(settings.seeds))
        one_taste = Max() if self.method.utility.takes_vectors else self.method.utility
        for mode in range(settings.modes):
            rewards = self.world.rate(prompts, torch.full_like(prompts, mode), items)
            scores = set_utility(rewards.flatten(0, 1), utility=one_taste)
            total += scores.view_as(prompts).mean(1)
        return total / settings.modes

    def draw_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return prompts (S, B) in groups, the tastes (S, B) that rate, and draws (S, B, K)."""
        settings, streams = self.settings, self.streams
        groups, size = settings.prompts_per_step, settings.group_size
        prompts = streams.sample(settings.prompts, groups).repeat_interleave(size, 1)
        modes = streams.below(settings.modes, groups).repeat_interleave(size, 1)
        return prompts, modes, streams.uniform(groups * size, settings.candidates)

    def advantages(self, rewards: Tensor, lengths: Tensor, scores: Tensor) -> Tensor:
        """Return the candidates' advantages (S, B, K), for the groups of all seeds.

        Args:
            rewards: (S, B, K), or vectors (S, B, K, C).
            lengths: (S, B, K) tokens.
            scores: (S, B) set rewards.
        """
        settings = self.settings
        groups = torch.arange(scores.numel() // settings.group_size)
        advantages, _ = candidate_advantages(
            rewards.flatten(0, 1),
            None,
            lengths.flatten(0, 1),
            groups.repeat_interleave(settings.group_size),
            self.method,
            scores=scores.flatten(),
        )
        return advantages.view_as(lengths)


def train(settings: CatalogueSettings, console: Console | None = None) -> dict[int, Metrics]:
    """Train the policies of all seeds.

    Args:
        settings: The method, the world and the training.
        console: Terminal for progress.

    Returns:
        Each seed's metrics at steps 0 to ``updates``, with verl's names. ``critic/score/mean`` is
        the mean set reward of the step's responses, ``val-core/TASK/reward/mean@n`` the result of
        `Training.validate`, ``timing_s/step`` the time of an update over the number of seeds.

    Raises:
        ValueError: A setting is invalid.
    """
    training = Training(settings)
    history: dict[int, Metrics] = {seed: {} for seed in settings.seeds}
    steps: Iterable[int] = range(settings.updates + 1)
    if console is not None and console.is_terminal:
        steps = track(list(steps), settings.name, console=console, transient=True)
    for step in steps:
        metrics: dict[str, Tensor] = {}
        if step > 0:
            started = time.perf_counter()
            metrics = training.update()
            seconds = (time.perf_counter() - started) / len(history)
            metrics["timing_s/step"] = torch.full((len(history),), seconds)
        if step % settings.validate_every == 0 or step == settings.updates:
            metrics[settings.held_out] = training.validate()
        columns = {name: values.tolist() for name, values in metrics.items()}
        for index, run in enumerate(history.values()):
            run[step] = {name: column[index] for name, column in columns.items()}
    return history


def candidate_metrics(items: Tensor, rewards: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """Return metrics (S,), named and computed as in `shape_grpo.advantage.metrics`.

    ``duplicate_candidates`` is the number in a step, all others are means. ``distinct_candidates``
    counts a response's items without repeats. The variation of lengths needs two candidates.

    Args:
        items: (S, B, K).
        rewards: (S, B, K).
        lengths: (S, B, K) tokens.
    """
    repeated, tokens = repeats(items), lengths.double()
    metrics = {
        "num_candidates": torch.full((len(items),), float(items.shape[-1])),
        "distinct_candidates": (~repeated).sum(-1).double().mean(1),
        "duplicate_candidates": repeated.sum((1, 2)).double(),
        "candidate_reward": rewards.mean((1, 2)),
        "best_candidate_reward": rewards.amax(-1).mean(1),
        "candidate_length": tokens.mean((1, 2)),
    }
    if items.shape[-1] > 1:
        variation = tokens.std(-1, correction=0) / tokens.mean(-1)
        metrics["candidate_length_variation"] = variation.mean(1)
    return {f"shape_grpo/{name}": values for name, values in metrics.items()}
