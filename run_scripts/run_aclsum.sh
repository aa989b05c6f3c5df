#!/usr/bin/env bash
# Summaries of papers by aspect, scored by a judge.
#   JUDGE=http://localhost:8000/v1 ./run_scripts/run_aclsum.sh METHOD [--dry-run] [hydra overrides]
# JUDGE: any OpenAI-compatible server. Without it, verl starts one (config/task/aclsum.yaml).
TASK=aclsum
[ -z "${JUDGE:-}" ] || set -- "$@" "reward.custom_reward_function.reward_kwargs.base_url=$JUDGE"
source "$(dirname "$0")/task.sh"
