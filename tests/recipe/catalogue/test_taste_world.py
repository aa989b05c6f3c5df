"""What items are worth, and how long they are."""

import torch

from recipe.shape_grpo.catalogue.random_streams import RandomStreams
from recipe.shape_grpo.catalogue.taste_world import TasteWorld


def world(**options):
    sizes = {"prompts": 3, "modes": 2, "items": 500, "pass_fail": False, "longest": 3}
    return TasteWorld(RandomStreams([1, 2]), **{**sizes, **options})


def test_repeats_are_worth_nothing():
    here = world()
    prompts, modes = torch.tensor([[0], [2]]), torch.tensor([[1], [0]])
    items = torch.tensor([[[7, 4, 7, 7]], [[9, 9, 3, 4]]])
    rewards = here.rate(prompts, modes, items)
    first, second = here.rewards[0, 0, 1], here.rewards[1, 2, 0]
    assert rewards[0, 0].tolist() == [first[7], first[4], 0, 0]
    assert rewards[1, 0].tolist() == [second[9], 0, second[3], second[4]]
    assert (here.rewards >= 1).all()


def test_a_pass_is_five_stars():
    stars, passes = world().rewards, world(pass_fail=True).rewards
    assert set(stars.unique().tolist()) == {1, 2, 3, 4, 5}
    assert torch.equal(passes, (stars == 5).float())


def test_items_have_one_to_the_longest_number_of_tokens():
    lengths = world().lengths
    assert set(lengths.unique().tolist()) == {1, 2, 3}
    assert not torch.equal(lengths[0], lengths[1])
    items = torch.tensor([[[0, 1]], [[2, 3]]])
    assert world().tokens(items).tolist() == [[lengths[0, :2].tolist()], [lengths[1, 2:4].tolist()]]
