"""What verl loads at ``import verl`` (entry point group ``verl.plugins``).

Everything here is registered by name when verl imports the module that holds the registry, so
that the processes which never train (and Ray starts many) pay nothing.
"""

import os
from importlib import import_module
from types import ModuleType

from wrapt import register_post_import_hook

from shape_grpo.verl import cpu

_REGISTERED_AFTER = {
    "verl.trainer.ppo.core_algos": "shape_grpo.verl.estimator",
    "verl.experimental.reward_loop.reward_manager": "shape_grpo.verl.reward_manager",
    "verl.trainer.ppo.v1": "shape_grpo.verl.trainer",
    "verl.models.transformers.monkey_patch": "shape_grpo.verl.beside_trl",
}


def _register_after(registry: str, ours: str) -> None:
    def load(module: ModuleType) -> None:
        import_module(ours)

    register_post_import_hook(load, registry)


for _registry, _ours in _REGISTERED_AFTER.items():
    _register_after(_registry, _ours)

if cpu.is_enabled():
    from shape_grpo.verl.cpu import platform as _platform  # noqa: F401  (registers itself)
    from shape_grpo.verl.cpu import vllm_metadata

    vllm_metadata.install()
    # verl's FSDP engines are registered for "cuda" and "npu", and run as they are on the CPU.
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")
