"""The methods that can be compared: the files of `config/method`."""

from pathlib import Path

from omegaconf import OmegaConf

CONFIG = Path(__file__).parents[1] / "config"
METHODS = tuple(sorted(path.stem for path in (CONFIG / "method").glob("*.yaml")))


def credit_options(method: str) -> dict[str, object]:
    """Return a method's settings of the block `algorithm.shape_grpo`; GRPO's is `uniform`.

    Raises:
        ValueError: There is no such method; the message lists the known ones.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: use one of {', '.join(METHODS)}")
    algorithm = OmegaConf.load(CONFIG / "method" / f"{method}.yaml").algorithm
    if algorithm.adv_estimator == "grpo":
        return {"allocator": "uniform"}
    block = OmegaConf.to_container(algorithm.shape_grpo)
    assert isinstance(block, dict)
    return {str(name): value for name, value in block.items()}
