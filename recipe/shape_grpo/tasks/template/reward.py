"""The reward of my_task: the guests that a dish serves.

The columns of a row are its arguments; the name of the argument with text says what it is asked
about: `solution_str` one candidate, `solution_strs` all of an answer, `solutions` a subset of them.
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


def served(dish: str, table: str) -> list[float]:
    """Return one number per guest: 1 if the dish is what the guest wants, else 0."""
    kinds = MENU.get(dish.strip().lower(), "").split()
    return [float(wish in kinds) for wish in table.split()]


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **kwargs: Any
) -> list[float]:
    """Return one number per guest whom a dish serves.

    The score of an answer is the number of guests whom a dish of it serves (`utility: coverage` in
    the configuration).
    """
    return served(solution_str, ground_truth)
