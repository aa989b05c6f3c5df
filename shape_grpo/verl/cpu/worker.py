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
    """Opens the process group before verl does.

    verl asks torch for the backend "cpu:gloo,<device>:<backend>", and torch refuses a device named
    twice. A group that is already open is left alone by verl.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        initialize_global_process_group_ray(backend="cpu:gloo")


class CPUDetachActorWorker(CPUActorRolloutRefWorker, DetachActorWorker):
    """The worker of ``separate_async``, which keeps copies of the weights and restores them."""

    @property
    def copy_handler(self) -> Callable[[Any], Any]:
        """As verl's for FSDP2, whose ``.cpu()`` copies nothing where the weights are on the CPU."""
        save: Callable[[Any], Any] = super().copy_handler

        def save_copies(module: Any) -> Any:
            weights, spec = save(module)
            return {
                name: (weight.clone(), *rest) for name, (weight, *rest) in weights.items()
            }, spec

        return save_copies


class CPUTrainerMixin:
    """Swaps the worker in verl's table of roles."""

    worker_cls: type[ActorRolloutRefWorker] = CPUActorRolloutRefWorker

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()  # type: ignore[misc]
        roles: dict[Role, Any] = self.role_worker_mapping  # type: ignore[attr-defined]
        if Role.Critic in roles:
            raise NotImplementedError("The CPU backend trains no critic: use a GRPO estimator.")
        for role in roles:
            roles[role] = ray.remote(self.worker_cls)
        # verl looks for finished rollouts every two seconds, which is most of a small step.
        self.replay_buffer.poll_interval = 0.1  # type: ignore[attr-defined]


class CPUSeparateTrainerMixin(CPUTrainerMixin):
    """The same for ``separate_async``."""

    worker_cls = CPUDetachActorWorker
