"""Small policies that write sets of items, one per seed, computed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipe.shape_grpo.catalogue.random_streams import RandomStreams

MAX_GRADIENT_NORM = 1.0
"""Bound of each seed's gradient norm, verl's default."""


@dataclass(frozen=True)
class Rollout:
    """B responses of K candidates by each of S policies.

    Attributes:
        items: (S, B, K) int64 items.
        log_probs: (S, B, K) their log-probabilities, with gradient.
        entropy: (S, B, K) entropy in nats of the distributions of these items, with gradient.
    """

    items: Tensor
    log_probs: Tensor
    entropy: Tensor


class GRUPolicies(nn.Module):
    """S independent policies: GRUs that start from the prompt and read their own items.

    The first dimension S of every parameter is the policy. Initial values are those of torch's
    layers: uniform within 1 / sqrt(inputs). Input and output share the items' vectors, scaled as in
    "Attention Is All You Need" (arXiv 1706.03762, section 3.4).

    Args:
        streams: Random streams of the initial values, one per policy.
        features: Number F of features of a prompt.
        items: Number N of items.
        hidden_size: Width H of the state and of the items' vectors.
    """

    def __init__(
        self, streams: RandomStreams, *, features: int, items: int, hidden_size: int
    ) -> None:
        super().__init__()

        def uniform(rows: int, columns: int, inputs: int) -> nn.Parameter:
            return nn.Parameter((2 * streams.uniform(rows, columns) - 1) / inputs**0.5)

        self.prompt_weight = uniform(features, hidden_size, features)
        self.prompt_bias = uniform(1, hidden_size, features)
        self.items = uniform(items, hidden_size, hidden_size)
        self.output_bias = uniform(1, items, hidden_size)
        self.input_weight = uniform(hidden_size, 3 * hidden_size, hidden_size)
        self.input_bias = uniform(1, 3 * hidden_size, hidden_size)
        self.state_weight = uniform(hidden_size, 3 * hidden_size, hidden_size)
        self.state_bias = uniform(1, 3 * hidden_size, hidden_size)

    def forward(self, prompts: Tensor, draws: Tensor) -> Rollout:
        """Write one response per prompt.

        Args:
            prompts: (S, B, F) float32.
            draws: (S, B, K) uniform in [0, 1): each selects an item by inverse transform sampling.
        """
        state = torch.tanh(torch.baddbmm(self.prompt_bias, prompts, self.prompt_weight))
        items: list[Tensor] = []
        log_probs, entropy = [], []
        for draw in draws.unbind(-1):
            if items:
                state = self._next_state(self._read(items[-1]), state)
            logits = torch.baddbmm(self.output_bias, state, self.items.mT)
            log_prob = logits.log_softmax(-1)
            prob = log_prob.exp()
            item = _pick(prob.detach(), draw)
            items.append(item)
            log_probs.append(log_prob.gather(-1, item.unsqueeze(-1)).squeeze(-1))
            entropy.append(-(prob * log_prob).sum(-1))
        return Rollout(torch.stack(items, -1), torch.stack(log_probs, -1), torch.stack(entropy, -1))

    def _read(self, items: Tensor) -> Tensor:
        """Return the vectors (S, B, H) of items (S, B)."""
        policies, number, hidden_size = self.items.shape
        first = torch.arange(policies).unsqueeze(1) * number
        return F.embedding(items + first, self.items.flatten(0, 1)) * hidden_size**0.5

    def _next_state(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return the next state, by the equations of `torch.nn.GRU`."""
        from_input = torch.baddbmm(self.input_bias, inputs, self.input_weight).chunk(3, -1)
        from_state = torch.baddbmm(self.state_bias, state, self.state_weight).chunk(3, -1)
        reset = torch.sigmoid(from_input[0] + from_state[0])
        update = torch.sigmoid(from_input[1] + from_state[1])
        new = torch.tanh(from_input[2] + reset * from_state[2])
        return torch.lerp(new, state, update)


def clip_gradients(parameters: Sequence[Tensor]) -> Tensor:
    """Clip each seed's gradient at `MAX_GRADIENT_NORM`, as `torch.nn.utils.clip_grad_norm_` does.

    Args:
        parameters: (S, ...) each; their gradients are changed in place.

    Returns:
        The norms (S,) before clipping.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (MAX_GRADIENT_NORM / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors[:, None, None])
    return norms


def _pick(prob: Tensor, draw: Tensor) -> Tensor:
    """Return the item (S, B) at which the cumulated probabilities (S, B, N) exceed the draw."""
    cumulated = prob.cumsum(-1)
    # By rounding, the last one may differ from 1.
    level = (draw * cumulated[..., -1]).unsqueeze(-1)
    item = torch.searchsorted(cumulated, level, right=True).squeeze(-1)
    return item.clamp(max=prob.shape[-1] - 1)
