"""Named methods: choices of estimator, utility, allocator and advantage, one YAML file each.

verl's commands take them as ``+method=praise``, TRL's trainer by
`shape_grpo.config.ShapeGRPOConfig.from_method`.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from shape_grpo.registry import check_choice

FOLDER = Path(__file__).parent
METHODS = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_method(name: str) -> DictConfig:
    """Return a method's settings as keys of verl's configuration.

    Raises:
        ValueError: There is no such method; the message lists the known ones.
    """
    check_choice("method", str(name), METHODS)
    settings = OmegaConf.load(FOLDER / f"{name}.yaml")
    assert isinstance(settings, DictConfig)
    return settings


def method_options(name: str) -> dict[str, Any]:
    """Return a method's settings of the block ``algorithm.shape_grpo``.

    Those of ``grpo``, which is an estimator of verl, are the allocator ``uniform``: the same
    advantages.

    Raises:
        ValueError: There is no such method; the message lists the known ones.
    """
    algorithm = load_method(name).algorithm
    if algorithm.adv_estimator == "grpo":
        return {"allocator": "uniform"}
    block = OmegaConf.to_container(algorithm.shape_grpo)
    assert isinstance(block, dict)
    return {str(key): value for key, value in block.items()}
