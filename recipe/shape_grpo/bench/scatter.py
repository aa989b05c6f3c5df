"""The advantage step: the scatter on a GPU, the whole step on a CPU, and the search for spans.

    python -m recipe.shape_grpo.bench scatter

Each figure is printed beside a reference measured in the same run: a copy on the device, verl's own
GRPO, the tokenizer's decode.
"""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from recipe.shape_grpo.bench import spans as spans_by_vocabulary
from recipe.shape_grpo.bench.measure import cpu_seconds_in_turn, processor, seconds
from recipe.shape_grpo.policies.tiny_qwen3 import train_tokenizer

GPU_SHAPES = (
    (256, 2048, 4),
    (1024, 4096, 8),
    (4096, 8192, 8),
    (8192, 8192, 16),
    (8192, 16384, 16),
)
CPU_SHAPES = ((1024, 4096, 8), (8192, 2048, 8))
MASK_TYPES = (torch.int64, torch.bool, torch.float32)
"""Types of the response mask; verl's trainer passes int64."""
NAMES = ("shape_grpo", "verl, vectorised GRPO", "verl, default GRPO")
GROUP = 8
ROUNDS = 100
TEXT_LENGTHS = (1024, 2048, 4096, 8192)
CANDIDATES = 16


def random_spans(n: int, t: int, k: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return starts and ends, (N, K) each, of disjoint spans on about half of the tokens."""
    cuts = torch.from_numpy(np.sort(np.random.default_rng(0).integers(0, t + 1, (n, 2 * k))))
    return cuts[:, ::2].to(device), cuts[:, 1::2].to(device)


def on_gpu(console: Console) -> None:
    """Print the kernel's bandwidth beside that of a copy of as many bytes."""
    if not torch.cuda.is_available():
        console.print("CUDA: not measured, this machine has no GPU.")
        return
    from shape_grpo.advantage import scatter_candidate_advantages

    name = torch.cuda.get_device_name()
    table = Table(title=f"{name}: GB/s of reading the mask (bool) and writing float32")
    for heading in ("N, T, K", "MB", "kernel", "copy", "of copy", "full_like"):
        table.add_column(heading, justify="right")
    for n, t, k in track(GPU_SHAPES, "CUDA", console=console, transient=True):
        starts, ends = random_spans(n, t, k, "cuda")
        candidate, shared = torch.randn(n, k, device="cuda"), torch.randn(n, device="cuda")
        mask = torch.ones(n, t, device="cuda").bool()
        size = n * t * (4 + 1)
        source = torch.empty(size // 2, dtype=torch.uint8, device="cuda")
        target, tokens = torch.empty_like(source), torch.empty(n, t, device="cuda")
        scatter = partial(scatter_candidate_advantages, candidate, shared, starts, ends, mask)
        kernel, copy = size / seconds(scatter), size / seconds(partial(target.copy_, source))
        filled = n * t * 4 / seconds(partial(torch.full_like, tokens, 1.0))
        cells = (kernel, copy, kernel / copy, filled)
        forms = ("{:.0f}", "{:.0f}", "{:.0%}", "{:.0f}")
        table.add_row(
            f"{n}, {t}, {k}",
            f"{size / 1e6:.0f}",
            *(form.format(cell) for form, cell in zip(forms, cells, strict=True)),
        )
    console.print(table)


def advantage_steps(
    n: int, t: int, k: int, mask_type: torch.dtype
) -> dict[str, Callable[[], object]]:
    """Return advantage steps by name, each as verl's trainer would call it on the same batch."""
    from verl.trainer.ppo.core_algos import (
        compute_grpo_outcome_advantage,
        compute_grpo_vectorized_outcome_advantage,
    )

    from shape_grpo.advantage import CandidateBatch, Method
    from shape_grpo.verl.context import CandidatesInContext, candidates_in_context
    from shape_grpo.verl.estimator import compute_shape_grpo_advantage

    starts, ends = random_spans(n, t, k)
    rewards = torch.randint(1, 11, (n, k), generator=torch.Generator().manual_seed(0)) / 2
    everywhere = torch.ones(n, k, dtype=torch.bool)
    nothing = torch.zeros(n)
    batch = CandidateBatch(
        rewards, everywhere, starts, ends, nothing.bool(), torch.zeros(n, k), nothing
    )
    token_level_rewards, response_mask = torch.zeros(n, t), torch.ones(n, t, dtype=mask_type)
    token_level_rewards[:, -1] = rewards.amax(1)
    index = np.array([f"prompt {row // GROUP}" for row in range(n)], dtype=object)
    config, method = OmegaConf.create({"norm_adv_by_std_in_grpo": True}), Method()

    def shape_grpo() -> object:
        context = CandidatesInContext(batch, batch.compute_shares(method), torch.arange(n), method)
        with candidates_in_context(context):
            return compute_shape_grpo_advantage(token_level_rewards, response_mask, config, index)

    arguments = (token_level_rewards, response_mask, index)
    return {
        NAMES[0]: shape_grpo,
        NAMES[1]: partial(compute_grpo_vectorized_outcome_advantage, *arguments),
        NAMES[2]: partial(compute_grpo_outcome_advantage, *arguments),
    }


def on_cpu(console: Console) -> None:
    """Print times of the whole step, from rewards and spans to (N, T) advantages, beside verl's."""
    table = Table(
        title=f"{processor()}, one thread: CPU time of the advantage step, ms, best of {ROUNDS} "
        "(and as a ratio to verl's vectorised GRPO)"
    )
    for heading in ("N, T, K", "mask", *NAMES):
        table.add_column(heading, justify="right")
    cases = list(itertools.product(CPU_SHAPES, MASK_TYPES))
    for shape, mask_type in track(cases, "CPU", console=console, transient=True):
        steps = advantage_steps(*shape, mask_type)
        times = cpu_seconds_in_turn([steps[name] for name in NAMES], ROUNDS)
        cells = (f"{time * 1e3:.1f} ({time / times[1]:.2f})" for time in times)
        mask = str(mask_type).removeprefix("torch.")
        table.add_row(", ".join(map(str, shape)), mask, *cells)
    console.print(table)


def spans(console: Console) -> None:
    """Finding the spans of a response's candidates, beside one decode of the same ids."""
    from shape_grpo.candidates import parse_candidates, token_spans

    words = np.random.default_rng(0).choice(["été", "film", " the", "東京", " story", "\n"], 4000)
    tokenizer = train_tokenizer([" ".join(words)], 600)
    table = Table(title=f"Spans of {CANDIDATES} candidates, from the sampled ids")
    for heading in ("tokens", "decode, ms", "parse and find, ms", "/ decode", "tokens / s"):
        table.add_column(heading, justify="right")
    for length in track(TEXT_LENGTHS, "spans", console=console, transient=True):
        filler = "".join(np.random.default_rng(1).choice(words, length))
        part = len(filler) // CANDIDATES
        text = "".join(
            f"<candidate>{filler[k * part : (k + 1) * part]}</candidate>" for k in range(CANDIDATES)
        )
        ids = tokenizer(text)["input_ids"]
        ids = [*ids[: length - 8], *ids[-8:]]
        text = str(tokenizer.decode(ids))
        parsed = parse_candidates(text)

        decode = seconds(partial(tokenizer.decode, ids))
        parse = seconds(partial(parse_candidates, text))
        find = parse + seconds(partial(token_spans, tokenizer, ids, parsed))
        table.add_row(
            f"{len(ids):,}",
            f"{decode * 1e3:.2f}",
            f"{find * 1e3:.2f}",
            f"{find / decode:.2f}",
            f"{len(ids) / find:,.0f}",
        )
    console.print(table)


def run() -> None:
    """Print the times of the advantage step and of finding spans, beside references."""
    console = Console(width=100)
    on_gpu(console)
    on_cpu(console)
    spans(console)
    spans_by_vocabulary.run(console)
