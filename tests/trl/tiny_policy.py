"""An untrained policy of a few thousand parameters that knows single bytes, and trainers of it."""

import os

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.trl import RolloutsTrainer, ShapEGRPOTrainer


def byte_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    )


def tiny_model(tokenizer):
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=4096,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def answer(*candidates, before="", after=""):
    """A response that suggests the candidates."""
    return before + "\n".join(f"<candidate>{c}</candidate>" for c in candidates) + after


class Recited:
    """Makes a trainer not sample: the n-th response of a batch is the n-th of its ``responses``."""

    def _generate_single_turn(self, prompt_ids, *_, **__):
        first = self.accelerator.process_index * len(prompt_ids)
        ids = []
        for text in self.responses[first : first + len(prompt_ids)]:
            tokens = [*self._tokenizer(text)["input_ids"], self._tokenizer.eos_token_id]
            ids.append(tokens[: self.max_completion_length])
        return ids, None


class RecitedShapEGRPO(Recited, ShapEGRPOTrainer):
    pass


class RecitedRollouts(Recited, RolloutsTrainer):
    pass


class RecitedGRPO(Recited, GRPOTrainer):
    pass


def make_trainer(
    folder, reward, responses, *, prompts=("p",), columns=None, base=RecitedShapEGRPO,
    settings=None, options=None, **shape_grpo,
):  # fmt: skip
    """A trainer of one batch with an equal number of responses to each prompt.

    ``options`` are further arguments of the trainer.
    """
    options = dict(options or {})
    tokenizer = options.pop("processing_class", None) or byte_tokenizer()
    data = Dataset.from_dict({"prompt": list(prompts), **(columns or {})})
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": len(responses) // processes,
        "per_device_eval_batch_size": len(responses) // processes,
        "num_generations": len(responses) // len(prompts),
        "max_completion_length": 200,
        "gradient_checkpointing": False,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "max_steps": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "shuffle_dataset": False,
    }
    if issubclass(base, ShapEGRPOTrainer | RolloutsTrainer):
        options["shape_grpo"] = ShapeGRPOConfig(**shape_grpo)
    trainer = base(
        tiny_model(tokenizer),
        reward,
        GRPOConfig(**{**defaults, **(settings or {})}),
        train_dataset=data,
        eval_dataset=data,
        processing_class=tokenizer,
        **options,
    )
    trainer.responses = responses
    return trainer


def scored_batch(trainer):
    """The first batch as the loss gets it, before TRL shuffles it: `responses` in their order."""
    trainer.model.train()
    rows = next(iter(trainer.get_train_dataloader()))
    return trainer._generate_and_score_completions(rows)
