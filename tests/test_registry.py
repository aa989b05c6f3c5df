import pytest

from shape_grpo.registry import Registry, check_choice, did_you_mean


def test_a_name_that_is_close_is_suggested():
    assert did_you_mean("shapely", ["banzhaf", "shapley"]) == " Did you mean shapley?"
    assert did_you_mean("grpo", ["banzhaf", "shapley"]) == ""


def test_an_unknown_name_raises_and_lists_the_known_names():
    registry = Registry("allocator")
    registry.register("shapley")(len)
    assert registry.find("shapley") is len
    message = r"unknown allocator 'shapely'; use one of: shapley\. Did you mean shapley\?"
    with pytest.raises(ValueError, match=message):
        registry.find("shapely")


def test_a_name_is_registered_once():
    registry = Registry("thing")
    registry.register("a")(entry := object())
    registry.register("a")(entry)
    with pytest.raises(ValueError, match="thing 'a' is already registered"):
        registry.register("a")(object())


def test_an_unknown_choice_is_refused():
    check_choice("rule", "drop", ("score", "drop"))
    with pytest.raises(ValueError, match=r"^rule=keep: unknown value\. Allowed: score, drop\.$"):
        check_choice("rule", "keep", ("score", "drop"))
