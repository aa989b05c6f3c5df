"""Answers of a model: sampled as a run samples them, and parsed into their candidates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowInvalid, ArrowKeyError, parquet

from recipe.shape_grpo.common.command import require_positive
from recipe.shape_grpo.tasks.common import Messages
from shape_grpo.candidates import CandidateRules, CandidateSet, decode_response, find_candidates
from shape_grpo.registry import check_choice
from shape_grpo.verl.files import is_folder_name

ENGINES = ("transformers", "vllm")
DEFAULT_MAX_TOKENS = 512


@dataclass(frozen=True)
class SampleSettings:
    """How a model is sampled.

    Attributes:
        prompts: At most so many prompts, the first of the file; None: all.
        samples: Answers to each.
        temperature: 0: the likeliest token, one answer a prompt.
        max_tokens: Of an answer; None: what the task's configuration says, else 512.
        engine: ``transformers`` (on a GPU where there is one) or ``vllm``.
        batch: Answers at a time (transformers).
        thinking: Whether chat templates with a thinking mode (Qwen3's) turn it on.
        seed: Of the sampling.
    """

    prompts: int | None = None
    samples: int = 4
    temperature: float = 1.0
    max_tokens: int | None = None
    engine: str = "transformers"
    batch: int = 64
    thinking: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        require_positive(self, "prompts", "samples", "max_tokens", "batch")
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}: use 0 or more")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("at temperature 0 all answers to a prompt are the same: --samples 1")


def read_prompts(data: Path, at_most: int | None = None) -> list[Messages]:
    """The prompts of a file in verl's columns, as chat messages.

    Args:
        data: A parquet file.
        at_most: So many, the first; None: all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no parquet file, it has no prompts, or they are no chat messages.
    """
    if not data.is_file():
        raise FileNotFoundError(f"there is no file {data}")
    try:
        rows = parquet.read_table(data, columns=["prompt"]).slice(0, at_most).to_pylist()
    except (ArrowInvalid, ArrowKeyError) as error:
        raise ValueError(f"{data} has no column of prompts in verl's format: {error}") from None
    prompts: list[Messages] = [row["prompt"] for row in rows]
    if not prompts or not all(isinstance(prompt, list) for prompt in prompts):
        raise ValueError(f"{data}: each prompt must be a list of chat messages, and one be there")
    return prompts


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt.

    Attributes:
        text: All that the model wrote.
        found: Its candidates, under the rules.
        cut: Whether it ended at the length limit.
    """

    text: str
    found: CandidateSet
    cut: bool

    def to_fields(self) -> dict[str, Any]:
        """For a line of JSON."""
        candidates = [candidate.text for candidate in self.found.candidates]
        problems = dict(self.found.problem_counts)
        return {"text": self.text, "candidates": candidates, "problems": problems, "cut": self.cut}


def sample_answers(
    model: str, prompts: Sequence[Messages], settings: SampleSettings, rules: CandidateRules
) -> list[list[Answer]]:
    """Answers of a model.

    Args:
        model: A folder, or a name on the hub.
        prompts: Chat messages each.
        settings: How many, and how.
        rules: Which candidates count.

    Returns:
        Of each prompt, ``settings.samples`` answers.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A prompt and an answer are more than the model can hold.
    """
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    if is_folder_name(model) and not Path(model).is_dir():
        raise FileNotFoundError(
            f"there is no folder {model}; write that of a model, or its name on the hub"
        )
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [
        str(
            tokenizer.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=settings.thinking,
            )
        )
        for messages in prompts
    ]
    prompt_ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    max_tokens = settings.max_tokens or DEFAULT_MAX_TOKENS
    needed = max(map(len, prompt_ids)) + max_tokens
    positions = getattr(AutoConfig.from_pretrained(model), "max_position_embeddings", needed)
    if needed > positions:
        raise ValueError(
            f"the longest prompt and {max_tokens} tokens of answer are {needed}, and {model} holds "
            f"{positions}: --max_tokens {max(1, positions - needed + max_tokens)}"
        )
    engine = _by_vllm if settings.engine == "vllm" else _by_transformers
    answers = engine(model, prompt_ids, max_tokens, settings)

    def read(ids: list[int]) -> Answer:
        cut = len(ids) >= max_tokens and ids[-1] != tokenizer.eos_token_id
        found = find_candidates(tokenizer, ids, rules, cut=cut)
        return Answer(decode_response(tokenizer, ids), found, cut)

    return [[read(ids) for ids in of_prompt] for of_prompt in answers]


def _by_transformers(
    model: str, prompts: Sequence[list[int]], max_tokens: int, settings: SampleSettings
) -> list[list[list[int]]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    policy.to(device).eval()
    ends = policy.generation_config.eos_token_id
    stops = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
    # All of the distribution, whatever the model's own defaults are.
    how: dict[str, Any] = {"do_sample": settings.temperature > 0}
    if how["do_sample"]:
        how |= {"temperature": settings.temperature, "top_k": 0, "top_p": 1.0}
    set_seed(settings.seed)
    written: list[list[int]] = []
    at_a_time = max(1, settings.batch // settings.samples)
    for start in range(0, len(prompts), at_a_time):
        rows = {"input_ids": list(prompts[start : start + at_a_time])}
        inputs = tokenizer.pad(rows, return_tensors="pt").to(device)
        with torch.inference_mode():
            output = policy.generate(
                **inputs,
                **how,
                max_new_tokens=max_tokens,
                num_return_sequences=settings.samples,
                pad_token_id=tokenizer.pad_token_id,
            )
        written += [
            _until(stops, ids) for ids in output[:, inputs["input_ids"].shape[1] :].tolist()
        ]
    each = settings.samples
    return [written[first : first + each] for first in range(0, len(written), each)]


def _until(stops: set[int], ids: list[int]) -> list[int]:
    """Up to and with the first of ``stops``: what follows is padding."""
    end = next((place for place, number in enumerate(ids, 1) if number in stops), len(ids))
    return ids[:end]


def _by_vllm(
    model: str, prompts: Sequence[list[int]], max_tokens: int, settings: SampleSettings
) -> list[list[list[int]]]:
    import torch

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        from shape_grpo.verl.cpu import set_environment, vllm_metadata

        set_environment()
        vllm_metadata.install()
        # Another process would not know vLLM's version.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    longest = max(map(len, prompts)) + max_tokens
    policy = LLM(model, max_model_len=longest, seed=settings.seed, enforce_eager=on_cpu)
    # vLLM adds an answer's number to its seed. Prompts that are alike need seeds of their own.
    how = [
        SamplingParams(
            n=settings.samples,
            temperature=settings.temperature,
            max_tokens=max_tokens,
            seed=(settings.seed * len(prompts) + number) * settings.samples,
        )
        for number in range(len(prompts))
    ]
    results = policy.generate(
        [TokensPrompt(prompt_token_ids=ids) for ids in prompts], sampling_params=how, use_tqdm=False
    )
    return [[list(output.token_ids) for output in result.outputs] for result in results]
