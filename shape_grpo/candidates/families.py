"""How families of models mark their thoughts: the table behind ``thoughts: auto``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Marks:
    """Marks of a thought.

    Attributes:
        open: String before a thought.
        close: String after it.
        closes_alone: Whether a ``close`` without an ``open`` ends a thought too. So it does in
            families whose chat template opens the thought in the prompt, which may be unknown.
        at_start: Whether ``open`` marks a thought only at the start of a turn, because it consists
            of ordinary words.
    """

    open: str
    close: str
    closes_alone: bool = False
    at_start: bool = False


FAMILIES = (
    # Qwen3, QwQ, DeepSeek-R1, GLM, Kimi-K2, Nemotron, MiniMax-M2, ERNIE, Step, Phi-4-reasoning and
    # many more: vllm/reasoning (deepseek_r1, ernie45, olmo3, step3, ...), vllm/parser/qwen3.py,
    # trl/chat_templates/{qwen3,qwen3_6,deepseek_r1_distill,glm4moe,nemotron_3_nano}.jinja
    Marks("<think>", "</think>", closes_alone=True),
    # Hunyuan V3: vllm/reasoning/hy_v3_reasoning_parser.py, with the suffix of its tokenizer
    Marks("<think:opensource>", "</think:opensource>", closes_alone=True),
    # Seed-OSS: vllm/parser/seed_oss.py; the second form is its prompt for a thinking budget of 0
    Marks("<seed:think>", "</seed:think>", closes_alone=True),
    Marks("<seed:think><seed:cot_budget_reflect>", "</seed:think>", closes_alone=True),
    # MiniMax-M3: vllm/reasoning/minimax_m3_reasoning_parser.py
    Marks("<mm:think>", "</mm:think>", closes_alone=True),
    # LongCat-Flash-Thinking: its model card
    Marks("<longcat_think>", "</longcat_think>", closes_alone=True),
    # Kimi-VL-Thinking, Kimi-Dev: sglang/srt/parser/reasoning_parser.py, KimiDetector
    Marks("◁think▷", "◁/think▷", closes_alone=True),
    # Magistral and later Mistral models: vllm/parser/mistral.py, mistral_common tokenizer v13
    Marks("[THINK]", "[/THINK]", closes_alone=True),
    # Gemma 4: vllm/parser/gemma4.py, trl/chat_templates/gemma4.jinja
    Marks("<|channel>thought", "<channel|>", closes_alone=True),
    # Command A Reasoning: vllm/reasoning/cohere_command_reasoning_parser.py
    Marks("<|START_THINKING|>", "<|END_THINKING|>", closes_alone=True),
    # EXAONE Deep: its model card
    Marks("<thought>", "</thought>", closes_alone=True),
    # Apertus: sglang/srt/parser/reasoning_parser.py
    Marks("<|inner_prefix|>", "<|inner_suffix|>", closes_alone=True),
    # OpenThinker, Sky-T1: their system prompts
    Marks("<|begin_of_thought|>", "<|end_of_thought|>", closes_alone=True),
    # K2 Horizon, in three levels of effort: sglang/srt/parser/reasoning_parser.py
    Marks("<ifm|think>", "</ifm|think>", closes_alone=True),
    Marks("<ifm|think_fast>", "</ifm|think_fast>", closes_alone=True),
    Marks("<ifm|think_faster>", "</ifm|think_faster>", closes_alone=True),
    # Kimi-K3: vllm/reasoning/kimi_k3_reasoning_parser.py
    Marks("<|open|>think<|sep|>", "<|close|>think<|sep|>", closes_alone=True),
    # Inkling: vllm/parser/inkling.py; its closing mark ends answers as well
    Marks("<|content_thinking|>", "<|end_message|>"),
    # Muse Glimmer: trl/chat_templates/muse_glimmer.jinja
    Marks(" to=self<|message|>", "<|eom|>"),
    # MedGemma 1.5: its model card
    Marks("<unused94>thought", "<unused95>"),
    # Prompts of R1-style recipes and of Reflection: no family, but common
    Marks("<reasoning>", "</reasoning>"),
    Marks("<thinking>", "</thinking>"),
    Marks("<Thought>", "</Thought>"),
    Marks("<scratchpad>", "</scratchpad>"),
    Marks("<reflection>", "</reflection>"),
    # Apriel 1.5: its chat template (llama.cpp, models/templates/unsloth-Apriel-1.5.jinja)
    Marks("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", at_start=True),
    # Granite 3.2 mixes both spellings: vllm/reasoning/granite_reasoning_parser.py
    *(
        Marks(f"{first} my thought process:", f"{second} my response:", at_start=True)
        for first in ("Here is", "Here's")
        for second in ("Here is", "Here's")
    ),
)
"""Marks that ``thoughts: auto`` knows, each with its source. Harmony, gpt-oss's format, has
channels instead of marks: `shape_grpo.candidates.thoughts`."""
