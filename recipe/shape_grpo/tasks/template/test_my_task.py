"""Tests of my_task, to run before any training."""

import sys
from itertools import combinations
from pathlib import Path
from random import Random

from shape_grpo.candidates import parse_candidates

# Wherever pytest is run, and however it imports tests.
sys.path.insert(0, str(Path(__file__).parent))
import prompts
import reward


def test_a_dish_serves_the_guests_who_want_what_it_is() -> None:
    """One number per guest, in their order."""
    assert reward.served("Lentil soup", "cold hot vegan sweet") == [0, 1, 1, 0]


def test_what_is_not_on_the_menu_serves_nobody() -> None:
    """Even if its name contains the wishes."""
    assert reward.served("hot and sweet soup", "hot sweet cold light") == [0, 0, 0, 0]


def test_one_dish_is_not_enough_and_three_serve_every_table() -> None:
    """Otherwise one candidate would be enough, and there would be no credit to split."""
    for table in map(" ".join, prompts.TABLES):
        scores = [reward.served(dish, table) for dish in reward.MENU]
        sets = combinations(scores, prompts.CANDIDATES)
        served = [sum(map(max, zip(*dishes, strict=True))) for dishes in sets]
        assert max(map(sum, scores)) <= 2 and max(served) == 4


def test_the_example_answers_have_the_form_that_the_prompts_ask_for() -> None:
    """A policy that imitates them writes this number of candidates, and nothing else."""
    for table in prompts.TABLES:
        answer = prompts.example(table, Random(0))["answer"]
        dishes = [candidate.text for candidate in parse_candidates(answer, format=prompts.FORMAT)]
        assert len(dishes) == prompts.CANDIDATES and set(dishes) <= set(reward.MENU)
