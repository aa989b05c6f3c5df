"""One process of several: writes the advantages of its responses, each up to its end."""

import json
import sys
from pathlib import Path

from tests.trl.tiny_policy import RecitedRollouts, answer, make_trainer, scored_batch

RESPONSES = [
    *(answer("five", "four"), answer("one"), answer("four", "two", "one"), ""),
    *(answer("two", "two"), answer("five"), answer("bad", "bad"), answer("three", "one")),
    *(answer("four"), answer("five", "a longer candidate"), answer("one", "two"), answer("two")),
]
STARS = {"five": 5.0, "four": 4.0, "three": 3.0, "two": 2.0, "one": 1.0, "a longer candidate": 6.0}


def stars(completions, **columns):
    return [STARS.get(text, float("nan")) for text in completions]


def of_rollouts(completions, **columns):
    """No function applies to some of the responses."""
    return [None if "two</" in text else float(len(text) % 7) for text in completions]


TRAINERS = {
    "candidates": (stars, {"advantage": "normalize", "duplicate": "score"}),
    "rollouts": (of_rollouts, {"base": RecitedRollouts, "allocator": "best_of_k",
                 "allocator_options": {"k": 2}}),
}  # fmt: skip


def main(folder, units):
    reward, settings = TRAINERS[units]
    trainer = make_trainer(folder, reward, RESPONSES, prompts=("p", "q", "r"), **settings)
    batch = scored_batch(trainer)
    advantages, mask = batch["advantages"], batch["completion_mask"]
    if units == "rollouts":
        advantages = advantages.unsqueeze(1).expand_as(mask)
    rows = zip(advantages, mask, strict=True)
    result = {
        "advantages": [row[mask.bool()].tolist() for row, mask in rows],
        "metrics": {
            name: values[0]
            for name, values in trainer._metrics["train"].items()
            if name.startswith(("shape_grpo/", "reward"))
        },
    }
    accelerator = trainer.accelerator
    name = f"of_{accelerator.num_processes}-{accelerator.process_index}.json"
    (folder / name).write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
