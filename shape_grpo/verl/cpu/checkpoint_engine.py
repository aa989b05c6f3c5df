"""Transfer of weights from the trainer to separate vLLM servers without a GPU (verl 0.9.1).

verl's checkpoint engines need NCCL or RDMA. This one is for ``separate_async`` on the CPU:
``checkpoint_engine.backend=tcp_store``, and ``custom_backend_module`` naming this module, which
verl then imports in each process.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import ray
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from verl.checkpoint_engine import CheckpointEngine, CheckpointEngineRegistry

Address = tuple[str, int]


@CheckpointEngineRegistry.register("tcp_store")
class StoreCheckpointEngine(CheckpointEngine):
    """Engine that puts weights one by one into torch's `TCPStore`, from which servers read them.

    Args:
        bucket_size: Not used: each message is one tensor.
        is_master: Whether this is the trainer's first process, which sends.
    """

    store: TCPStore | None = None

    def __init__(self, bucket_size: int, is_master: bool = False) -> None:
        self.is_master = is_master

    def prepare(self) -> Address | None:  # type: ignore[override]
        """Open a store for one transfer; return its address."""
        if not self.is_master:
            return None
        host = ray.util.get_node_ip_address().strip("[]")
        self.store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return host, self.store.port

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[Any]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """Send the sender's address to every process."""
        address = metadata[0]
        return {"address": [address] * actor_wg_world_size}, {
            "address": [address] * rollout_world_size
        }

    def init_process_group(self, address: Address) -> None:  # type: ignore[override]
        """Connect to the sender's store."""
        if not self.is_master:
            self.store = TCPStore(*address, is_master=False)

    async def send_weights(
        self, weights: Iterable[tuple[str, Tensor]], global_steps: int | None = None
    ) -> None:
        """Send names and full tensors; every process of the trainer must call this."""
        count = 0
        for name, weight in weights:
            if self.is_master:
                self._put(count, (name, weight.detach().cpu()))
            count += 1
        if self.is_master:
            self._put(count, None)

    async def receive_weights(  # type: ignore[override]
        self, global_steps: int | None = None
    ) -> AsyncGenerator[tuple[str, Tensor], None]:
        """Yield names and tensors as they arrive."""
        assert self.store is not None
        for number in itertools.count():
            weight = pickle.loads(self.store.get(str(number)))
            if weight is None:
                return
            yield weight

    def finalize(self) -> None:
        """Close the store."""
        self.store = None

    def _put(self, number: int, weight: tuple[str, Tensor] | None) -> None:
        assert self.store is not None
        self.store.set(str(number), pickle.dumps(weight))  # type: ignore[arg-type]
