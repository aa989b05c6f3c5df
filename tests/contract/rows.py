"""What this package relies on in verl, TransferQueue and vLLM: a row each, with its symbols.

A symbol is ``module:name``. ``passed`` is how this package calls it: a number for arguments by
position, names for keywords. ``ours`` is what stands in its place: whatever verl passes to its own,
ours must take. What a row says beyond its symbols is in the test of the row's number.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Symbol:
    row: str
    name: str
    passed: tuple[int | str, ...] | None = None
    ours: str | None = None

    def __str__(self) -> str:
        return f"{self.row}-{self.name}"


ROWS = {
    "A1": "the entry points verl.plugins are loaded at `import verl`",
    "A2": "core_algos holds the registry of estimators; importing it registers ours",
    "A3": "the package of reward managers holds theirs",
    "A4": "the package of V1 trainers holds theirs",
    "A5": "a name that is no enum member is an estimator",
    "A6": "how an estimator is called, and what it gives",
    "A7": "every estimator but GRPO gets all rows, in the order of the batch's keys",
    "A8": "_compute_advantage is called by the step, in the driver's thread",
    "A9": "the batch that is put has the tags of its rows",
    "A10": "three trainers that ours extend",
    "A11": "a trainer reads its mode in its constructor",
    "A12": "verl's task runner finds the trainer by its mode",
    "A13": "verl's entry point takes a composed configuration",
    "A14": "a row's key is {uid}_{session}_{output}",
    "A15": "tags response_len and is_padding",
    "A16": "extra_fields of a row is a dict, in a column that is iterated",
    "A17": "the reward manager's extra info travels in extra_fields",
    "A18": "strings in the extra info are left out of validation's metrics",
    "A19": "TransferQueue gives rows in the order of the keys",
    "A20": "what a batch of the queue is",
    "A21": "reward managers are registered by name",
    "A22": "the base of reward managers has the event loop",
    "A23": "how a reward manager is made",
    "A24": "a response is scored by awaiting run_single",
    "A25": "whole sequences are padded on the right; response_len tells a response's length",
    "A26": "non-tensor keys beside them, and no response mask",
    "A27": "how a reward function is called",
    "A28": "a wrapped reward function is still seen to be async",
    "A29": "the configuration's keys",
    "A30": "loss modes and the metric of filter_groups",
    "A31": "how several updates' metrics become one",
    "A32": "verl's own check of a configuration, which the plugin wraps",
    "A34": "verl's configuration is found by Hydra, and as files",
    "A35": "agent loop workers score outputs, and a manager starts them",
    "A36": "the replay buffer drops groups through one method",
    "A37": "validation's metrics are made in one method, from lists with None",
    "A38": "rollouts are written by two methods, the second called by keywords",
    "A39": "the FSDP engine asks whether there is a TRL, for one class alone",
    "A40": "a step is one call, of several updates",
    "A41": "generations go to the tables of trackers through one class",
    "A42": "a command merges a checkpoint's shards into a model",
    "A43": "a trainer waits, whoever is left to be waited for; its workers are in these lists",
    "A44": "the logger verl keeps its own handler in the trainer's process",
    "B1": "a platform is registered by name",
    "B2": "environment variables that choose platform and engine",
    "B3": "the training worker, in a table of roles",
    "B4": "the replay buffer's pause between looks",
    "B5": "a process group that is open is left alone",
    "B6": "the worker extension that gets new weights",
    "B7": "weights come in buckets",
    "B8": "engine_kwargs name another worker extension",
    "B9": "vLLM loads weights anew",
    "B10": "the distribution vllm must be installed",
    "B11": "storage units of the queue are counted in the configuration",
    "B12": "the worker of separate_async keeps copies of the weights",
    "B13": "a checkpoint engine is registered by name, and made and used so",
    "B14": "vLLM samples answers to token ids in this process",
    "C1": "what benches and tests compare with",
}
"""As numbered in the audit; A33 (load_module) is used no longer."""

_V1 = "verl.trainer.ppo.v1"
_BASE = f"{_V1}.trainer_base:PPOTrainer"
_MIXIN = "shape_grpo.verl.trainer:CandidateTrainerMixin"
_MANAGERS = "verl.experimental.reward_loop.reward_manager"
_OUR_MANAGER = "shape_grpo.verl.reward_manager:MultiCandidateRewardManager"
_VLLM = "verl.workers.rollout.vllm_rollout"
_OUR_EXTENSION = "shape_grpo.verl.cpu.vllm_worker:CPUWorkerExtension"
_ENGINE = "verl.checkpoint_engine"
_OUR_ENGINE = "shape_grpo.verl.cpu.checkpoint_engine:StoreCheckpointEngine"
_SCORED = ("data_source", "solution_str", "ground_truth", "extra_info")

SYMBOLS = [
    Symbol("A2", "verl.trainer.ppo.core_algos:get_adv_estimator_fn", (1,)),
    Symbol("A3", f"{_MANAGERS}:get_reward_manager_cls", (1,)),
    Symbol("A4", f"{_V1}:get_trainer_cls", (1,)),
    Symbol("A5", "verl.trainer.ppo.core_algos:register_adv_est", (1,)),
    Symbol("A8", f"{_BASE}._compute_advantage", (2,), f"{_MIXIN}._compute_advantage"),
    Symbol("A9", "transfer_queue:kv_batch_put", ("keys", "partition_id", "fields")),
    Symbol("A10", f"{_V1}:register_trainer", (1,)),
    Symbol("A11", f"{_BASE}.__init__", (1,), f"{_MIXIN}.__init__"),
    Symbol("A12", "verl.trainer.main_ppo:TaskRunnerV1"),
    Symbol("A13", "verl.trainer:main_ppo.main", (1,)),
    Symbol("A19", "transfer_queue:kv_batch_get", ("keys", "partition_id", "select_fields")),
    Symbol("A20", "transfer_queue:KVBatchMeta", ("partition_id", "keys", "tags")),
    Symbol("A21", f"{_MANAGERS}:register", (1,)),
    Symbol("A22", f"{_MANAGERS}.base:RewardManagerBase.__init__", (3,), f"{_OUR_MANAGER}.__init__"),
    Symbol("A22", f"{_MANAGERS}.base:RewardManagerBase"),
    Symbol("A23", "verl.trainer.ppo.reward:load_reward_manager"),
    Symbol(
        "A24", f"{_MANAGERS}.base:RewardManagerBase.run_single", (1,), f"{_OUR_MANAGER}.run_single"
    ),
    Symbol("A25", "verl:DataProto"),
    Symbol("A27", "verl.utils.reward_score:default_compute_score", _SCORED),
    Symbol("A27", "verl.utils.reward_score.gsm8k:compute_score", (2, "method")),
    Symbol("A28", "verl.trainer.ppo.reward:get_custom_reward_fn", (1,)),
    Symbol("A31", f"{_V1}.utils:MetricsAggregator", ()),
    Symbol("A32", "verl.utils.config:validate_config", (3,)),
    Symbol("A32", "verl.trainer.ppo.utils:need_critic", (1,)),
    Symbol("A32", "verl.trainer.ppo.utils:need_reference_policy", (1,)),
    Symbol("A34", "verl.trainer.config"),
    Symbol("A35", "verl.experimental.agent_loop:AgentLoopOutput"),
    Symbol("A35", "verl.experimental.agent_loop:AgentLoopWorker._compute_score", (2,)),
    Symbol("A36", f"{_BASE}._build_replay_buffer", (), f"{_MIXIN}._build_replay_buffer"),
    Symbol("A36", f"{_V1}.replay_buffer:ReplayBuffer._clear_groups", (2,)),
    Symbol("A36", f"{_V1}.replay_buffer:ReplayBufferAsync._clear_groups", (2,)),
    Symbol(
        "A37", f"{_BASE}._val_metrics_update", (3, "sample_turns"), f"{_MIXIN}._val_metrics_update"
    ),
    Symbol("A38", f"{_BASE}._log_rollout_data", (3,), f"{_MIXIN}._log_rollout_data"),
    Symbol("A38", f"{_BASE}._dump_generations", None, f"{_MIXIN}._dump_generations"),
    Symbol("A39", "verl.models.transformers:monkey_patch.is_trl_available", ()),
    Symbol("A39", "verl.models.transformers.monkey_patch"),
    Symbol("A39", "verl.utils.import_utils:is_trl_available", ()),
    Symbol("A40", f"{_BASE}.step", (2,), f"{_MIXIN}.step"),
    Symbol("A41", "verl.utils.tracking:ValidationGenerationsLogger", (2,)),
    Symbol("A41", "verl.utils.tracking:ValidationGenerationsLogger.log", (3,)),
    Symbol("A43", f"{_BASE}.fit", (1,), f"{_MIXIN}.fit"),
    Symbol("A43", f"{_V1}.replay_buffer:ReplayBuffer.sample", (3,)),
    Symbol("A43", f"{_V1}.replay_buffer:ReplayBufferAsync.sample", (3,)),
    Symbol("A43", f"{_BASE}._rollout_server_managers", ()),
    Symbol("A43", "verl.workers.rollout.llm_server:LLMServerManager"),
    Symbol("A43", f"{_VLLM}.vllm_async_server:vLLMHttpServer.collective_rpc", (1,)),
    Symbol("A43", "verl.experimental.reward_loop:RewardLoopManager.reward_loop_worker_handles"),
    Symbol("A44", "verl.utils.logging_utils:configure_verl_logging", ()),
    Symbol("B1", "verl.plugin.platform:PlatformRegistry.register", ("platform",)),
    Symbol("B1", "verl.plugin.platform:PlatformBase"),
    Symbol(
        "B3",
        "verl.workers.engine_workers:ActorRolloutRefWorker.__init__",
        None,
        "shape_grpo.verl.cpu.worker:CPUActorRolloutRefWorker.__init__",
    ),
    Symbol("B3", "verl.trainer.ppo.utils:Role.Critic"),
    Symbol(
        "B3",
        f"{_BASE}._init_resource_pool_mgr",
        (),
        "shape_grpo.verl.cpu.worker:CPUTrainerMixin._init_resource_pool_mgr",
    ),
    Symbol("B5", "verl.utils.distributed:initialize_global_process_group_ray", ("backend",)),
    Symbol(
        "B6",
        f"{_VLLM}.utils:vLLMColocateWorkerExtension.update_weights_from_ipc",
        None,
        f"{_OUR_EXTENSION}.update_weights_from_ipc",
    ),
    Symbol("B6", f"{_VLLM}.utils:vLLMColocateWorkerExtension._get_zmq_handle", ()),
    Symbol("B7", "verl.utils.device:get_device_name", ()),
    Symbol(
        "B7",
        f"{_VLLM}.bucketed_weight_transfer:BucketedWeightReceiver",
        ("zmq_handle", "device", "use_shm"),
    ),
    Symbol(
        "B7",
        f"{_VLLM}.bucketed_weight_transfer:BucketedWeightReceiver.receive_weights",
        ("on_bucket_received",),
    ),
    Symbol("B9", "vllm.v1.worker.gpu_worker:Worker.reload_weights", ("weights_iterator",)),
    Symbol(
        "B9", "vllm.v1.worker.gpu_model_runner:GPUModelRunner.reload_weights", ("weights_iterator",)
    ),
    Symbol("B9", "vllm.v1.worker.gpu_model_runner:GPUModelRunner.get_model", ()),
    Symbol("B12", "verl.experimental.separation.engine_workers:DetachActorWorker"),
    Symbol(
        "B12",
        "verl.experimental.separation.engine_workers:DetachActorWorker.copy_handler",
        None,
        "shape_grpo.verl.cpu.worker:CPUDetachActorWorker.copy_handler",
    ),
    Symbol("B13", f"{_ENGINE}:CheckpointEngineRegistry.register", (1,)),
    *(
        Symbol("B13", f"{_ENGINE}:CheckpointEngine.{method}", None, f"{_OUR_ENGINE}.{method}")
        for method in (
            *("prepare", "build_topology", "send_weights", "receive_weights", "finalize"),
            # Takes by keyword what build_topology gives.
            "init_process_group",
        )
    ),
    Symbol("A42", "verl.model_merger.__main__:main", ()),
    Symbol("B14", "vllm:LLM", ("model", "max_model_len", "seed", "enforce_eager")),
    Symbol("B14", "vllm:LLM.generate", (1, "sampling_params", "use_tqdm")),
    Symbol("B14", "vllm:SamplingParams", ("n", "temperature", "max_tokens", "seed")),
    Symbol("B14", "vllm.inputs:TokensPrompt"),
    Symbol("C1", "verl.trainer.ppo.core_algos:compute_grpo_outcome_advantage"),
    Symbol("C1", "verl.trainer.ppo.core_algos:compute_grpo_vectorized_outcome_advantage"),
    Symbol("C1", "verl.trainer.ppo.ray_trainer:compute_advantage"),
    Symbol("C1", "verl.single_controller.base.decorator:Dispatch"),
    Symbol("C1", "verl.single_controller.base.decorator:register", ("dispatch_mode",)),
    Symbol("C1", "verl.single_controller.base.decorator:make_nd_compute_dataproto_dispatch_fn"),
    Symbol("C1", "verl.experimental.reward_loop.router.naive_router:NaiveRouter"),
    Symbol("C1", "verl.utils.net_utils:get_free_port", (1,)),
]
