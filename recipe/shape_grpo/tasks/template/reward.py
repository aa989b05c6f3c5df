"""The reward of my_task: the guests that one dish serves.

verl calls `compute_score` once per candidate of an answer, with the columns of its row.
"""

from typing import Any

MENU = {
    "beef chili": "hot spicy",
    "apple crumble": "hot sweet",
    "lentil soup": "hot vegan",
    "lasagne": "hot filling",
    "ice cream": "cold sweet",
    "kimchi": "cold spicy",
    "melon": "cold light",
    "potato salad": "cold filling",
    "rice crackers": "crisp light",
    "fried tofu": "crisp vegan",
    "brittle": "crisp sweet",
    "green curry": "spicy vegan",
    "omelette": "light filling",
}
WISHES = ("hot", "cold", "sweet", "spicy", "vegan", "crisp", "light", "filling")


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **kwargs: Any
) -> list[float]:
    """Return one number per guest: 1 if the dish is what the guest wants, else 0.

    The score of an answer is the number of guests whom a dish serves (`utility: coverage` in the
    configuration). If your task has one number per candidate, return that number, and leave
    `utility` at `max`.
    """
    dish = MENU.get(solution_str.strip().lower(), "").split()
    return [float(wish in dish) for wish in ground_truth.split()]
