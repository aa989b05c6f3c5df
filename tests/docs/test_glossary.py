"""The table of methods is that of their files."""

import re
from pathlib import Path

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.methods import METHODS, load_method, method_options

PAGE = Path(__file__).parents[2] / "recipe/shape_grpo/docs/glossary.md"


def test_each_method_has_a_row_with_its_settings():
    table = PAGE.read_text().partition("| method | allocator |")[2].partition("\n\n")[0]
    rows = [re.split(r" ?\| ?", line)[1:4] for line in table.splitlines()[2:]]
    shown = {name.strip("`"): [cell.strip("`") for cell in cells] for name, *cells in rows}
    assert sorted(shown) == sorted(METHODS)
    for name, cells in shown.items():
        estimator = load_method(name).algorithm.adv_estimator
        options = {"utility_options": {"components": 2}} if "vpo" in name else {}
        config = ShapeGRPOConfig(**{**method_options(name), **options})
        expected = {
            "grpo": ["", ""],
            "shape_grpo": [config.allocator, config.advantage],
            "shape_grpo_rollouts": [config.allocator, ""],
        }
        assert cells == expected[estimator], name
