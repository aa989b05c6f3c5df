"""Writes down, after every weight sync, the matrices that vLLM computes with."""

import torch

from shape_grpo.verl.cpu.vllm_worker import CPUWorkerExtension
from tests.e2e.pipeline_spy import numbered


class SpyExtension(CPUWorkerExtension):
    def update_weights_from_ipc(self, *args, **kwargs):
        super().update_weights_from_ipc(*args, **kwargs)
        torch.save(effective_weights(self.model_runner.get_model()), numbered("vllm"))


def effective_weights(model):
    """The matrices that vLLM's layers really multiply by, packed or not: their answer to the
    identity."""
    weights = {}
    for name, layer in model.named_modules():
        if name.endswith("embed_tokens"):
            weights[name] = layer.weight.detach().clone()
        elif name.endswith("lm_head"):
            eye = torch.eye(layer.embedding_dim, dtype=layer.params_dtype)
            weights[name] = layer.quant_method.apply(layer, eye).T.contiguous()
        elif hasattr(layer, "quant_method") and hasattr(layer, "input_size"):
            eye = torch.eye(layer.input_size, dtype=layer.params_dtype)
            weights[name] = layer.quant_method.apply(layer, eye).T.contiguous()
        elif name.endswith("norm") and getattr(layer, "weight", None) is not None:
            weights[name] = layer.weight.detach().clone()
    return weights
