"""A task of made-up ratings, and an untrained policy whose every token is a whole candidate."""

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from recipe.shape_grpo.common.files import write_stamp
from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings, new_model, save_policy
from recipe.shape_grpo.tasks import load_task


def write_ratings(folder):
    """What 30 viewers think of 20 films, in MovieLens's layout."""
    rng = np.random.default_rng(0)
    lines = [f"{n % 30 + 1},{n // 30 + 1},{rng.integers(1, 6)},0\n" for n in range(30 * 20)]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(lines))
    titles = "".join(f"{n},Film{n} ({1950 + n}),x\n" for n in range(1, 21))
    (folder / "movies.csv").write_text("movieId,title,genres\n" + titles)
    return folder


def prepare(task, folder, ratings, **settings):
    sizes = {"films": 12, "min_ratings": 5, "test_viewers": 4, "factors": 2, "epochs": 2}
    module = load_task(task)
    module.prepare(folder, module.TaskSettings(ratings=str(ratings), **sizes, **settings))
    return folder


def make_policy(folder, seed=0):
    films = [f"<candidate>Film{n}</candidate>" for n in range(1, 21)]
    tokens = ["<pad>", "<eos>", "<unk>", "and", *films]
    words = Tokenizer(models.WordLevel({t: n for n, t in enumerate(tokens)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    )
    torch.manual_seed(seed)
    model = new_model(tokenizer, PolicySettings(width=32, layers=1))
    save_policy(model, tokenizer, folder)
    write_stamp(folder, {"policy": "untrained"})
    return folder
