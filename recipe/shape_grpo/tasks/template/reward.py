"""The reward of my_task: whom at the table one dish serves.

verl calls `compute_score` once for every candidate of an answer, with the columns of its row.
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
    """One number a guest: 1 where the dish is what the guest wants.

    The answer is worth as many guests as some dish of it serves (`utility: coverage` in the
    configuration). For a task whose candidates earn one number each, return that number, and leave
    `utility` at `max`.
    """
    dish = MENU.get(solution_str.strip().lower(), "").split()
    return [float(wish in dish) for wish in ground_truth.split()]
