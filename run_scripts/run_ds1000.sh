#!/usr/bin/env bash
# Solutions of data science problems, scored by their tests.
#   [SANDBOX_FUSION=http://HOST:8080/run_code] ./run_scripts/run_ds1000.sh METHOD [--dry-run] [hydra overrides]
# SANDBOX_FUSION: a Sandbox Fusion server that runs them. Without it, this machine's sandbox runs them.
TASK=ds1000
[ -z "${SANDBOX_FUSION:-}" ] || set -- "$@" "reward.sandbox_fusion.url=$SANDBOX_FUSION"
source "$(dirname "$0")/task.sh"
