"""Check of the trackers that a run logs to (``trainer.logger``), without importing them."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec

from omegaconf import DictConfig, ListConfig

from shape_grpo.registry import check_choice
from shape_grpo.verl.keys import config_folder

MODULES = {
    **{name: name for name in ("wandb", "mlflow", "swanlab", "tensorboard", "clearml", "trackio")},
    "tracking": "wandb",
    "vemlp_wandb": "volcengine_ml_platform",
    "rl_insight": "rl_insight",
}
"""Module that verl imports for a tracker; the others need none."""


def check_trackers(
    config: DictConfig, *, installed_here: bool = True, environment: Mapping[str, str] = os.environ
) -> None:
    """Check that verl knows the trackers, and that their packages are installed.

    Args:
        config: verl's ``ppo_trainer`` configuration.
        installed_here: Whether the run uses this machine's packages.
        environment: Environment of the process that will run it.

    Raises:
        ValueError: verl does not know a tracker, or its package is not installed.
    """
    named = config.trainer.logger
    names = list(named) if isinstance(named, ListConfig) else [named]
    for name in names:
        check_choice("trainer.logger", str(name), known_trackers())
        module = MODULES.get(name)
        # verl imports this one only if it is turned on.
        is_off = name == "rl_insight" and environment.get("VERL_RL_INSIGHT_ENABLE") != "1"
        if module and installed_here and not is_off and not _is_installed(module):
            without = [other for other in map(str, names) if other != name] or ["console", "file"]
            install = f"pip install {module}" if module in MODULES else f"the package of {module}"
            raise ValueError(
                f"trainer.logger={name}: there is no module {module}, which this tracker needs. "
                f"Install it ({install}), or write trainer.logger=[{','.join(without)}]."
            )


def tracker_names(config: DictConfig) -> list[str]:
    """Return the trackers of a run: ``trainer.logger`` names one, several or none."""
    named = config.trainer.logger or []
    return [named] if isinstance(named, str) else list(map(str, named))


def known_trackers() -> list[str]:
    """Return the names that the installed verl takes, read from its source."""
    source = (config_folder().parents[1] / "utils/tracking.py").read_text(encoding="utf-8")
    found = re.search(r"supported_backend\s*=\s*(\[.*?\])", source, flags=re.DOTALL)
    listed = ast.literal_eval(found[1]) if found else [*MODULES, "console", "file"]
    return list(dict.fromkeys([*listed, "tracking"]))


def _is_installed(module: str) -> bool:
    """Return whether a package is there; wandb's own folder of runs is none."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None
