# Copyright 2026 the shape-grpo contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Turn verl's GSM8K files into prompts that ask for several solutions.

    python3 examples/data_preprocess/gsm8k.py --local_save_dir ~/data/gsm8k
    python3 recipe/shape_grpo/prepare_gsm8k.py ~/data/gsm8k ~/data/gsm8k_3 --candidates 3

The other columns stay as they are.
"""

import argparse
from pathlib import Path

import pandas as pd

INSTRUCTION = (
    "\n\nSolve the problem in {count} different ways. Write each solution between <candidate> and "
    '</candidate>, and end each with its final number after "####".'
)


def prepare(source: Path, target: Path, candidates: int) -> None:
    """Write ``train.parquet`` and ``test.parquet`` into the folder ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    instruction = INSTRUCTION.format(count=candidates)
    for name in ("train.parquet", "test.parquet"):
        rows = pd.read_parquet(source / name)
        questions = [info["question"] + instruction for info in rows["extra_info"]]
        rows["prompt"] = [[{"role": "user", "content": question}] for question in questions]
        rows.to_parquet(target / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of verl's GSM8K files")
    parser.add_argument("target", type=Path, help="folder of the new files")
    parser.add_argument("--candidates", type=int, default=3, help="solutions per response")
    arguments = parser.parse_args()
    prepare(arguments.source.expanduser(), arguments.target.expanduser(), arguments.candidates)
