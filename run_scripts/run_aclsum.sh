#!/usr/bin/env bash
# Summaries of papers by aspect, scored by a judge.
#   ./run_scripts/run_aclsum.sh METHOD [--dry-run] [hydra overrides]
TASK=aclsum
source "$(dirname "$0")/task.sh"
