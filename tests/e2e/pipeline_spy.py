"""Writes down what reaches the actor and the weights it sends to vLLM, in a real run.

Loaded by `VERL_USE_EXTERNAL_MODULES=tests.e2e.pipeline_spy`; adds a trainer `..._spy` for each of
ours, and `sync_spy`: verl's own, with workers on the CPU. The folder is in the environment
variable SPY.
"""

import json
import os
from pathlib import Path

import torch
from wrapt import when_imported

FOLDER = Path(os.environ["SPY"])


def numbered(name):
    """The next free file `name-0`, `name-1`, ... of the folder."""
    return FOLDER / f"{name}-{len(list(FOLDER.glob(f'{name}-*')))}"


@when_imported("shape_grpo.verl.trainer")
def register_spy(trainer_module):
    from verl.single_controller.base.decorator import (
        Dispatch,
        make_nd_compute_dataproto_dispatch_fn,
        register,
    )
    from verl.trainer.ppo.v1 import get_trainer_cls, register_trainer

    from shape_grpo.verl.cpu.worker import CPUTrainerMixin

    class SpyWorker:
        @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
        def update_actor(self, data):
            rows = [
                {
                    "uid": uid,
                    "advantages": advantages.tolist(),
                    "mask": mask.tolist(),
                    "response_ids": ids.tolist(),
                    "score": scores.sum().item(),
                    "record": fields["reward_extra_info"].get("shape_grpo"),
                    "is_draft": fields.get("is_draft", False),
                }
                for uid, advantages, mask, ids, scores, fields in zip(
                    list(data["uid"]),
                    data["advantages"].unbind(),
                    data["response_mask"].unbind(),
                    data["responses"].unbind(),
                    data["rm_scores"].unbind(),
                    list(data["extra_fields"]),
                    strict=True,
                )
            ]
            numbered("update").write_text(json.dumps(rows))
            return super().update_actor(data)

        @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
        async def update_weights(self, global_steps=None, mode="auto"):
            weights = {
                name: weight.detach().clone()
                for name, weight in self.actor.engine.get_per_tensor_param()[0]
            }
            torch.save(weights, numbered("trainer"))
            await super().update_weights(global_steps, mode)

    class StockTrainer(CPUTrainerMixin, get_trainer_cls("sync")):
        def __init__(self, config):
            # verl compares this string.
            config.trainer.v1.trainer_mode = "sync"
            super().__init__(config)

    bases = {mode: get_trainer_cls(mode) for mode in trainer_module.TRAINER_MODES}
    for mode, base in {**bases, "sync": StockTrainer}.items():
        worker = type("SpyWorker", (SpyWorker, base.worker_cls), {})
        register_trainer(f"{mode}_spy")(type("SpyTrainer", (base,), {"worker_cls": worker}))
