"""Sampling of a model's answers, and parsing of their candidates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowInvalid, ArrowKeyError, parquet

from recipe.shape_grpo.common.command import require_positive
from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.run_folder import BEGUN, MAX_RESPONSE_LENGTH
from recipe.shape_grpo.tasks.common import Messages
from shape_grpo.candidates import (
    CandidateRules,
    CandidateSet,
    decode_response,
    end_of_turn_ids,
    find_candidates,
)
from shape_grpo.registry import check_choice
from shape_grpo.verl.files import is_folder_name

ENGINES = ("transformers", "vllm")
DEFAULT_MAX_TOKENS = 512


@dataclass(frozen=True)
class SampleSettings:
    """Settings of sampling.

    Attributes:
        prompts: Maximum number of prompts, the first ones of the file; None: all.
        samples: Number of answers to each prompt.
        temperature: Temperature; 0 takes the likeliest token, with one answer per prompt.
        max_tokens: Maximum answer length in tokens; None: that of the model's training, if `export`
            made the model; else that of the task's configuration, or 512.
        engine: ``transformers`` (on a GPU if there is one) or ``vllm``.
        batch: Number of answers sampled at a time (transformers).
        thinking: Whether to turn on the thinking mode of chat templates that have one (Qwen3).
        seed: Seed of sampling.
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
            raise ValueError(
                "at temperature 0 all answers to a prompt are the same: use --samples 1"
            )


def trained_length(model: str) -> int | None:
    """Return the response length in tokens that a model was trained with.

    None: `export` did not make the model, or its run did not record it.
    """
    settings = read_stamp(Path(model)) or {}
    length: int | None = settings.get(MAX_RESPONSE_LENGTH)
    return length


def read_prompts(data: Path, at_most: int | None = None) -> list[Messages]:
    """Return the prompts of a file in verl's columns, as chat messages.

    Args:
        data: A parquet file.
        at_most: Maximum number of prompts, the first ones; None: all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a parquet file, or its prompts are missing or not chat messages.
    """
    if not data.is_file():
        raise FileNotFoundError(f"there is no file {data}")
    try:
        rows = parquet.read_table(data, columns=["prompt"]).slice(0, at_most).to_pylist()
    except (ArrowInvalid, ArrowKeyError) as error:
        raise ValueError(f"{data} has no column of prompts in verl's format: {error}") from None
    prompts: list[Messages] = [row["prompt"] for row in rows]
    if not prompts or not all(isinstance(prompt, list) for prompt in prompts):
        raise ValueError(f"{data} must hold one or more prompts, each a list of chat messages")
    return prompts


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt.

    Attributes:
        text: Full text of the answer.
        found: Its candidates, under the rules.
        cut: Whether the length limit cut it off.
    """

    text: str
    found: CandidateSet
    cut: bool

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the answer's line of JSON."""
        candidates = [candidate.text for candidate in self.found.candidates]
        problems = dict(self.found.problem_counts)
        return {"text": self.text, "candidates": candidates, "problems": problems, "cut": self.cut}


def sample_answers(
    model: str, prompts: Sequence[Messages], settings: SampleSettings, rules: CandidateRules
) -> list[list[Answer]]:
    """Sample a model's answers.

    Args:
        model: A folder, or a name on the hub.
        prompts: The chat messages of each prompt.
        settings: Settings of sampling.
        rules: Rules by which candidates are found.

    Returns:
        ``settings.samples`` answers to each prompt.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A prompt with its answer exceeds the model's context.
    """
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    if is_folder_name(model) and not Path(model).is_dir():
        raise FileNotFoundError(
            f"there is no folder {model}: give a model's folder, or its name on the hub"
        )
    if (Path(model) / BEGUN).is_file():
        raise FileNotFoundError(
            f"{model} is the folder of a run: write its policy with `python -m "
            f"recipe.shape_grpo.evaluate export {model} --output MODEL`, and give MODEL"
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
    max_tokens = settings.max_tokens or trained_length(model) or DEFAULT_MAX_TOKENS
    needed = max(map(len, prompt_ids)) + max_tokens
    positions = getattr(AutoConfig.from_pretrained(model), "max_position_embeddings", needed)
    if needed > positions:
        raise ValueError(
            f"the longest prompt with an answer of {max_tokens} tokens has {needed} tokens, but "
            f"{model} holds {positions}: use --max_tokens {max(1, positions - needed + max_tokens)}"
        )
    engine = _by_vllm if settings.engine == "vllm" else _by_transformers
    answers = engine(model, prompt_ids, max_tokens, settings)

    ends = end_of_turn_ids(tokenizer, [model])

    def read(ids: list[int], prompt: list[int]) -> Answer:
        cut = len(ids) >= max_tokens and ids[-1] not in ends
        found = find_candidates(tokenizer, ids, rules, cut=cut, prompt_ids=prompt)
        return Answer(decode_response(tokenizer, ids), found, cut)

    return [
        [read(ids, prompt) for ids in samples]
        for samples, prompt in zip(answers, prompt_ids, strict=True)
    ]


def _by_transformers(
    model: str, prompts: Sequence[list[int]], max_tokens: int, settings: SampleSettings
) -> list[list[list[int]]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    # Llama 3 and many base models have none; the mask hides what pads.
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    policy.to(device).eval()
    stops = end_of_turn_ids(tokenizer, [model])
    # The whole distribution; a model's defaults may cut it.
    options: dict[str, Any] = {"do_sample": settings.temperature > 0}
    if options["do_sample"]:
        options |= {"temperature": settings.temperature, "top_k": 0, "top_p": 1.0}
    set_seed(settings.seed)
    written: list[list[int]] = []
    at_a_time = max(1, settings.batch // settings.samples)
    for start in range(0, len(prompts), at_a_time):
        rows = {"input_ids": list(prompts[start : start + at_a_time])}
        inputs = tokenizer.pad(rows, return_tensors="pt").to(device)
        with torch.inference_mode():
            output = policy.generate(
                **inputs,
                **options,
                max_new_tokens=max_tokens,
                num_return_sequences=settings.samples,
                pad_token_id=tokenizer.pad_token_id,
            )
        written += [
            _until(stops, ids) for ids in output[:, inputs["input_ids"].shape[1] :].tolist()
        ]
    size = settings.samples
    return [written[start : start + size] for start in range(0, len(written), size)]


def _until(stops: frozenset[int], ids: list[int]) -> list[int]:
    """Return the ids up to and including the first stop token; the rest is padding."""
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
        # The patched version of vLLM is known in this process only.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    longest = max(map(len, prompts)) + max_tokens
    policy = LLM(model, max_model_len=longest, seed=settings.seed, enforce_eager=on_cpu)
    # vLLM adds an answer's number to its seed; equal prompts need different seeds.
    parameters = [
        SamplingParams(
            n=settings.samples,
            temperature=settings.temperature,
            max_tokens=max_tokens,
            seed=(settings.seed * len(prompts) + number) * settings.samples,
        )
        for number in range(len(prompts))
    ]
    results = policy.generate(
        [TokensPrompt(prompt_token_ids=ids) for ids in prompts],
        sampling_params=parameters,
        use_tqdm=False,
    )
    return [[list(output.token_ids) for output in result.outputs] for result in results]
