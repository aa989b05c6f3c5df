"""Plugin that verl loads at ``import verl`` (entry point group ``verl.plugins``).

Everything here is registered by name when verl imports the module that holds the registry, so
that the processes which never train (and Ray starts many) pay nothing. What fails here is said in
a warning, and verl goes on: others may use verl in the same environment.
"""

import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from wrapt import register_post_import_hook, wrap_function_wrapper

from shape_grpo.verl import cpu, hydra_configs, versions

_REGISTERED_AFTER = {
    "verl.trainer.ppo.core_algos": ["estimator", "rollouts"],
    "verl.experimental.reward_loop.reward_manager": ["reward_manager"],
    "verl.trainer.ppo.v1": ["trainer"],
    "verl.experimental.agent_loop": ["agent_loop"],
    "verl.models.transformers.monkey_patch": ["beside_trl"],
}


def _after(module: str, act: Callable[[ModuleType], object]) -> None:
    """Act once verl has imported the module."""

    def hook(imported: ModuleType) -> None:
        try:
            act(imported)
        except Exception as error:
            _give_way(imported, error)

    register_post_import_hook(hook, module)


def _load(ours: Iterable[str], registry: ModuleType) -> None:
    for name in ours:
        import_module(f"shape_grpo.verl.{name}")


def _give_way(imported: ModuleType, error: Exception) -> None:
    """Warn, and register the reason under the names of this package."""
    reason = f"{versions.both()}: failed after {imported.__name__} was imported ({error!r})."
    warnings.warn(f"{reason} verl goes on without it.", RuntimeWarning, stacklevel=2)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(reason) from error

    with suppress(Exception):
        from shape_grpo.verl.checks import ESTIMATORS, REWARD_MANAGER, TRAINER_MODES

        for name, register in (
            *((estimator, "register_adv_est") for estimator in ESTIMATORS),
            (REWARD_MANAGER, "register"),
            *((mode, "register_trainer") for mode in TRAINER_MODES),
        ):
            if hasattr(imported, register):
                base = getattr(imported, "PPOTrainer", object)
                # A name that is registered already is available.
                with suppress(ValueError):
                    unavailable = type("Unavailable", (base,), {"__new__": refuse})
                    getattr(imported, register)(name)(unavailable)


def _check_before_ray(configs: ModuleType) -> None:
    """Check our part where verl checks a configuration, the last step before it starts Ray."""
    from shape_grpo.verl.checks import check_before_ray, concerns_this_package

    def validate_config(validate: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        config = kwargs["config"] if "config" in kwargs else args[0]
        cpu.choose_ray(config)
        if concerns_this_package(config):
            check_before_ray(config)
        return validate(*args, **kwargs)

    wrap_function_wrapper(configs, "validate_config", validate_config)


def _load_files_as_modules(loading: ModuleType) -> None:
    """Keep files that verl loads in ``sys.modules``, where pickle and dataclasses look for them."""

    def load_module(load: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        path = kwargs["module_path"] if "module_path" in kwargs else args[0]
        is_named = len(args) > 1 or kwargs.get("module_name")
        if not path or is_named or not os.path.isfile(path.removeprefix("file://")):
            return load(*args, **kwargs)
        from shape_grpo.modules import load_module

        try:
            return load_module(path)
        except Exception as error:
            raise RuntimeError(f"Error loading module from {path}") from error

    wrap_function_wrapper(loading, "load_module", load_module)


def _run_on_the_cpu(platforms: ModuleType) -> None:
    import_module("shape_grpo.verl.cpu.platform")
    from shape_grpo.verl.cpu import vllm_metadata

    vllm_metadata.install()


for _registry, _ours in _REGISTERED_AFTER.items():
    _after(_registry, partial(_load, _ours))
_after("verl.utils.config", _check_before_ray)
_after("verl.utils.import_utils", _load_files_as_modules)
_after("hydra.core.config_store", hydra_configs.store_configs)
if cpu.is_asked_for():
    cpu.set_environment()
    _after("verl.plugin.platform", _run_on_the_cpu)
