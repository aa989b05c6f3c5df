"""The README's example with stars less 6, so that every reward is below 0: what is learnt.

``python -m tests.trl.test_negative_rewards`` prints the share of answers without candidates over a
training of 100 steps, for three seeds.
"""

import random
import sys
import tempfile

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, set_seed
from transformers.utils import logging
from trl import GRPOConfig

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.trl import ShapEGRPOTrainer

FILMS = ["Alien", "Brazil", "Dune", "Fargo", "Gilda", "Heat", "Ikiru", "Jaws", "Klute", "Laura"]
VIEWERS = ["Ann", "Ben", "Cho", "Dev", "Eve", "Fay"]


def train(folder, seed, steps, **block):
    """The metrics of each tenth of a training."""
    set_seed(seed)
    ratings = {(viewer, film): random.randint(1, 5) for viewer in VIEWERS for film in FILMS}

    def stars(completions, prompts, **columns):
        pairs = zip(prompts, completions, strict=True)
        return [ratings[pair] - 6 for pair in pairs]

    tokens = ["<pad>", "<eos>", *VIEWERS, *(f"<candidate>{film}</candidate>" for film in FILMS)]
    words = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>"
    )
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    size |= {"head_dim": 32, "hidden_size": 64, "intermediate_size": 128}
    trainer = ShapEGRPOTrainer(
        Qwen3ForCausalLM(Qwen3Config(eos_token_id=1, vocab_size=len(tokens), **size)),
        stars,
        GRPOConfig(
            str(folder),
            seed=seed,
            learning_rate=3e-3,
            bf16=False,
            per_device_train_batch_size=48,
            num_generations=8,
            max_completion_length=3,
            max_steps=steps,
            logging_steps=max(steps // 10, 1),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": VIEWERS}),
        processing_class=tokenizer,
        shape_grpo=ShapeGRPOConfig(
            advantage="praise", allocator="leave_one_out", duplicate="floor", **block
        ),
    )
    trainer.train()
    return [each for each in trainer.state.log_history if "reward" in each]


WITHOUT = "shape_grpo/responses_without_candidates"


@pytest.mark.parametrize(("floor", "ends"), [(0.0, "empty"), ("lowest", "with candidates")])
def test_what_negative_rewards_teach(tmp_path, floor, ends):
    first, *_, last = train(tmp_path, 0, 40, floor_reward=floor)
    assert 0.0 < first[WITHOUT] < 0.4
    assert last[WITHOUT] > 0.7 if ends == "empty" else last[WITHOUT] < 0.02
    assert (last["shape_grpo/floor_above_reward"] > 0) == (ends == "empty")


if __name__ == "__main__":
    logging.set_verbosity_error()
    for floor in (0.0, "lowest"):
        for seed in range(3):
            with tempfile.TemporaryDirectory() as folder:
                logs = train(folder, seed, 100, floor_reward=floor)
            shares = " ".join(f"{100 * each[WITHOUT]:3.0f}" for each in logs)
            rewards = " ".join(f"{each['reward']:5.2f}" for each in logs)
            sys.stdout.write(f"floor {floor}, seed {seed}: without % {shares} | reward {rewards}\n")
