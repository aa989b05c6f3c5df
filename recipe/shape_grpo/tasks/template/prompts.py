"""Write the prompts of my_task, and example answers for a policy's warm start.

Run it as a script: it writes train.parquet, test.parquet and examples.jsonl into its own folder.
"""

import json
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from reward import MENU, WISHES

from shape_grpo.candidates import make_format

FOLDER = Path(__file__).parent
CANDIDATES = 3  # as `dataset.candidates` in the configuration
GUESTS = 4
# How answers hold candidates, as `algorithm.shape_grpo.format` and `format_options` in the
# configuration: xml, numbered, json, fenced, lines, or another (docs/configuration.md).
FORMAT = make_format("xml")

TABLES = list(combinations(WISHES, GUESTS))
random.Random(0).shuffle(TABLES)


def prompt(table: tuple[str, ...]) -> str:
    """Return the text that the policy reads; it must ask for candidates in their format."""
    return (
        f"The guests want something {', '.join(table)}. Suggest {CANDIDATES} dishes, in this "
        f"form:\n{FORMAT.write(['dish', 'another dish', '...'])}"
    )


def row(table: tuple[str, ...]) -> dict[str, Any]:
    """Return a prompt in verl's columns."""
    return {
        "data_source": "my_task",
        "prompt": [{"role": "user", "content": prompt(table)}],
        "ability": "planning",
        # The reward function gets `ground_truth` and, for anything else, `extra_info`.
        "reward_model": {"style": "rule", "ground_truth": " ".join(table)},
        "extra_info": {"guests": len(table)},
    }


def example(table: tuple[str, ...], rng: random.Random) -> dict[str, Any]:
    """Return an answer of the right form. It need not be good: the rewards teach that."""
    dishes = rng.sample(list(MENU), CANDIDATES)
    return {"prompt": prompt(table), "answer": FORMAT.write(dishes), "candidates": dishes}


def main() -> None:
    """Write the three files."""
    train, test = TABLES[:54], TABLES[54:]
    pd.DataFrame([row(table) for table in train]).to_parquet(FOLDER / "train.parquet")
    pd.DataFrame([row(table) for table in test]).to_parquet(FOLDER / "test.parquet")
    rng = random.Random(0)
    examples = [json.dumps(example(table, rng)) for table in train * 8]
    (FOLDER / "examples.jsonl").write_text("\n".join(examples) + "\n")
    print(f"{len(train)} training and {len(test)} test prompts, {len(examples)} examples: {FOLDER}")


if __name__ == "__main__":
    main()
