"""verl's training workers on the CPU, and the trainers that start them (verl 0.9.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.trainer.ppo.utils import Role
from verl.utils.distributed import initialize_global_process_group_ray
from verl.workers.engine_workers import ActorRolloutRefWorker


class CPUActorRolloutRefWorker(ActorRolloutRefWorker):
    """Worker that opens the process group before verl does.

    verl asks torch for the backend "cpu:gloo,<device>:<backend>", and torch rejects a device named
    twice. verl leaves a group that is already open as it is.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        initialize_global_process_group_ray(backend="cpu:gloo")


class CPUDetachActorWorker(CPUActorRolloutRefWorker, DetachActorWorker):
    """Worker of ``separate_async``, which keeps copies of the weights and restores them."""

    @property
    def copy_handler(self) -> Callable[[Any], Any]:
        """Verl's handler for FSDP2 with real copies; its ``.cpu()`` does not copy on the CPU."""
        save: Callable[[Any], Any] = super().copy_handler

        def save_copies(module: Any) -> Any:
            weights, spec = save(module)
            return {
                name: (weight.clone(), *rest) for name, (weight, *rest) in weights.items()
            }, spec

        return save_copies


class CPUTrainerMixin:
    """Mixin that replaces the worker in verl's table of roles."""

    worker_cls: type[ActorRolloutRefWorker] = CPUActorRolloutRefWorker

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()  # type: ignore[misc]
        roles: dict[Role, Any] = self.role_worker_mapping  # type: ignore[attr-defined]
        if Role.Critic in roles:
            raise NotImplementedError("The CPU backend trains no critic: use a GRPO estimator.")
        for role in roles:
            roles[role] = ray.remote(self.worker_cls)
        # verl's interval between checks for rollouts is two seconds, most of a small step.
        self.replay_buffer.poll_interval = 0.1  # type: ignore[attr-defined]


class CPUSeparateTrainerMixin(CPUTrainerMixin):
    """Mixin for ``separate_async``."""

    worker_cls = CPUDetachActorWorker
