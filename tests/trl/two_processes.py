"""One process of several: writes the advantages of its responses, each up to its end."""

import json
import sys
from pathlib import Path

from tests.trl.tiny_policy import answer, make_trainer, scored_batch

RESPONSES = [
    *(answer("five", "four"), answer("one"), answer("four", "two", "one"), ""),
    *(answer("two", "two"), answer("five"), answer("bad", "bad"), answer("three", "one")),
    *(answer("four"), answer("five", "a longer candidate"), answer("one", "two"), answer("two")),
]
STARS = {"five": 5.0, "four": 4.0, "three": 3.0, "two": 2.0, "one": 1.0, "a longer candidate": 6.0}


def stars(completions, **columns):
    return [STARS.get(text, float("nan")) for text in completions]


def main(folder):
    trainer = make_trainer(folder, stars, RESPONSES, prompts=("p", "q", "r"), advantage="normalize")
    batch = scored_batch(trainer)
    rows = zip(batch["advantages"], batch["completion_mask"], strict=True)
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
    main(Path(sys.argv[1]))
