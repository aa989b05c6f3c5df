#!/usr/bin/env bash
# Films for users without a history in the prompt.
#   ./run_scripts/run_netflix.sh METHOD [--dry-run] [hydra overrides]
TASK=netflix
source "$(dirname "$0")/task.sh"
