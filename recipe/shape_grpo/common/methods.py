"""The methods that can be compared: the files of `config/method`."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

CONFIG = Path(__file__).parents[1] / "config"
METHODS = tuple(sorted(path.stem for path in (CONFIG / "method").glob("*.yaml")))


ROLLOUTS_ESTIMATOR = "shape_grpo_rollouts"


def credit_options(method: str) -> dict[str, object]:
    """Return the block `algorithm.shape_grpo` of a method that credits candidates; GRPO's is
    `uniform`.

    Raises:
        ValueError: There is no such method, or it credits rollouts; the message says which do not.
    """
    if method in METHODS and _algorithm(method).adv_estimator == ROLLOUTS_ESTIMATOR:
        raise ValueError(
            f"method {method!r} credits whole rollouts, which only the trainer verl does here: use "
            "another method"
        )
    return method_options(method)


def method_options(method: str) -> dict[str, object]:
    """Return a method's settings of the block `algorithm.shape_grpo`; GRPO's is `uniform`.

    Raises:
        ValueError: There is no such method; the message lists the known ones.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: use one of {', '.join(METHODS)}")
    algorithm = _algorithm(method)
    if algorithm.adv_estimator == "grpo":
        return {"allocator": "uniform"}
    block = OmegaConf.to_container(algorithm.shape_grpo)
    assert isinstance(block, dict)
    return {str(name): value for name, value in block.items()}


def _algorithm(method: str) -> DictConfig:
    algorithm: DictConfig = OmegaConf.load(CONFIG / "method" / f"{method}.yaml").algorithm
    return algorithm
