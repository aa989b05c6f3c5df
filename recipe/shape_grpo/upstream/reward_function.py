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
"""Reward of one candidate: whether the last number in it is the answer of the GSM8K problem."""

from typing import Any

from verl.utils.reward_score.gsm8k import compute_score as score_gsm8k


def compute_score(solution_str: str, ground_truth: str, **kwargs: Any) -> float:
    """Return 1.0 for a right answer and 0.0 for any other.

    ``solution_str`` is one candidate, not the whole response: the reward manager multi_candidate
    calls this once per candidate.
    """
    return float(score_gsm8k(solution_str, ground_truth, method="flexible"))
