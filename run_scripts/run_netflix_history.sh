#!/usr/bin/env bash
# Films for users with their history in the prompt.
#   ./run_scripts/run_netflix_history.sh METHOD [--dry-run] [hydra overrides]
TASK=netflix_history
source "$(dirname "$0")/task.sh"
